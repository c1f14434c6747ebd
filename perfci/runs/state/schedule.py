"""When cron starts the next night: the lines of a crontab that run perfci. Pure."""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_RUNS = re.compile(r"\bmake\s+(?:-\S+\s+(?:\S+\s+)?)*nightly\b|\bperfci\s+run\b")
_SHORT = {"@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *", "@weekly": "0 0 * * 0"}
_FIELDS = 5
_DAYS = 366
_SUNDAY = 7


class Planned(NamedTuple):
    """A run that cron starts: when next (None where the line can't be read), and what."""

    at: datetime | None
    command: str


def planned(crontab: str, now: datetime) -> list[Planned]:
    """Return what a crontab runs of perfci, the next first. `now` is in the zone that cron uses."""
    found = []
    for line in crontab.splitlines():
        short, _, command = line.strip().partition(" ")
        fields = _SHORT[short].split() if short in _SHORT else line.split(maxsplit=_FIELDS)[:_FIELDS]
        if short not in _SHORT:
            command = line.split(maxsplit=_FIELDS)[-1] if len(line.split()) > _FIELDS else ""
        if not short.startswith("#") and _RUNS.search(command):
            found.append(Planned(_next(fields, now), command))
    return sorted(found, key=lambda one: (one.at is None, one.at))


def _next(fields: list[str], now: datetime) -> datetime | None:
    try:
        minutes, hours, days, months, weekdays = (
            sorted(_values(field, low, high))
            for field, (low, high) in zip(fields, ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7)), strict=True)
        )
    except ValueError:
        return None
    anyday = fields[2] == "*" or fields[4] == "*"
    for ahead in range(_DAYS):
        day = now.date() + timedelta(days=ahead)
        on_weekday = day.isoweekday() % _SUNDAY in {one % _SUNDAY for one in weekdays}
        # cron: where both are given, one of them is enough.
        fits = (day.day in days and on_weekday) if anyday else (day.day in days or on_weekday)
        for hour in hours if day.month in months and fits else ():
            for minute in minutes:
                at = datetime.combine(day, time(hour, minute), tzinfo=now.tzinfo)
                if at > now:
                    return at
    return None


def _values(field: str, low: int, high: int) -> Iterator[int]:
    """Yield what a field of cron allows: `*`, `5`, `1-5`, `*/15`, `0,30`. Raises ValueError for names."""
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = (f"{low}-{high}" if span == "*" else span).partition("-")
        until = int(last) if last else (high if step else int(first))
        values = range(int(first), until + 1, int(step or 1))
        if not values or values[0] < low or values[-1] > high:
            raise ValueError(field)
        yield from values
