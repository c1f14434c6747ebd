"""Lengths of time as people type them: `90m`, `4h`, `2d`, `1h30m`."""

from __future__ import annotations

import re
from datetime import timedelta

from perfci.errors import UsageError

_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_FORM = re.compile(r"(?:(\d{1,4})d)?(?:(\d{1,4})h)?(?:(\d{1,4})m)?(?:(\d{1,4})s)?")


class DurationInvalid(UsageError):
    """A length of time is not of the form needed."""

    template = "expected a length of time such as 90m, 4h, 2d or 1h30m, got {text!r}"
    help = "Units are d, h, m and s, in this order; the number stands before its unit."


def parse_duration(text: str) -> timedelta:
    """Return the length of time, longer than nothing. Raises DurationInvalid."""
    match = _FORM.fullmatch(text.strip().lower())
    parts = [int(part or 0) for part in match.groups()] if match else []
    length = timedelta(**dict(zip(_UNITS.values(), parts, strict=False)))
    if not length:
        raise DurationInvalid(text=text)
    return length
