"""Lengths of time as people type them: `90m`, `4h`, `2d`, `1h30m`, `1h30`."""

from __future__ import annotations

import re
from datetime import timedelta

from perfci.errors import UsageError

_UNITS = ("weeks", "days", "hours", "minutes", "seconds")
_FORM = re.compile(
    r"(?:([0-9]{1,4})w)?(?:([0-9]{1,4})d)?(?:([0-9]{1,4})h(?:([0-5]?[0-9])(?![0-9ms]))?)?"
    r"(?:([0-9]{1,4})m)?(?:([0-9]{1,5})s)?"
)


class DurationInvalid(UsageError):
    """A length of time has the wrong form."""

    template = "expected a length of time such as 90m, 4h, 2d or 1h30m, got {text!r}"
    help = "The units are w, d, h, m and s, in this order. Write each number before its unit."


def parse_duration(text: str) -> timedelta:
    """Return the length of time, longer than nothing. Raises DurationInvalid."""
    match = _FORM.fullmatch(text.strip().lower())
    weeks, days, hours, rest, minutes, seconds = (
        (int(part or 0) for part in match.groups()) if match else (0,) * 6
    )
    length = timedelta(**dict(zip(_UNITS, (weeks, days, hours, minutes + rest, seconds), strict=True)))
    if not length:
        raise DurationInvalid(text=text[:60])
    return length


def shown_duration(length: timedelta) -> str:
    """Return a length of time for people, to the minute: `2d 3h`, `1h 30m`, `0m`."""
    minutes = round(length.total_seconds() / 60)
    days, hours, minutes = minutes // 1440, minutes % 1440 // 60, minutes % 60
    parts = [f"{count}{unit}" for count, unit in ((days, "d"), (hours, "h"), (minutes, "m")) if count]
    return " ".join(parts[:2]) or "0m"
