"""Which run somebody means: by a part of its id, by its day, or the last one. Pure."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

LAST, TODAY, YESTERDAY = "last", "today", "yesterday"
_DAY = re.compile(r"(\d{4})-(\d{2})-(\d{2})")


def named(wanted: str, nights: Sequence[str], reruns: Sequence[str], today: date) -> list[str]:
    """Return the ids that `wanted` can mean; one where it is clear, none where there is no such run.

    `wanted` is an id, a part of one, `last`, `today`, `yesterday` or a day such as 2026-11-30, all in UTC.
    `nights` and `reruns` are the archived ids, oldest first. A whole id counts before the begin of one, that
    before any other part, and nights before re-runs, so that a re-run never makes a night unclear.
    """
    if wanted == LAST:
        return list(nights[-1:])
    if days := {TODAY: today, YESTERDAY: today - timedelta(days=1)}.get(wanted):
        return [one for one in nights if one.startswith(f"{days:%Y%m%d}T")]
    if day := _DAY.fullmatch(wanted):
        return [one for one in nights if one.startswith("".join(day.groups()) + "T")]
    if not wanted:
        return []
    for match in (str.__eq__, str.startswith, str.__contains__):
        for ids in (nights, reruns):
            if found := [one for one in ids if match(one, wanted)]:
                return found
    return []
