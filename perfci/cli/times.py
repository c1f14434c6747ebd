"""Times as people type them: `tomorrow 09:00`, `mon 14:00`, `+2h`, ISO 8601; in this machine's zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta

from perfci.cli.durations import parse_duration
from perfci.errors import UsageError

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})")
_LEAST_LETTERS = 3


class TimeInvalid(UsageError):
    """A time has the wrong form, does not exist in this time zone, or occurs twice."""

    template = "{text!r} is not a time{reason}"
    help = "Type `tomorrow 09:00`, `fri 14:00`, `14:00`, `+2h`, `now`, or ISO 8601: 2026-03-01T09:00+01:00."


def parse_moment(text: str, now: datetime) -> datetime:
    """Return the time in UTC. `now` is aware; a day without a time means its beginning.

    A time of day alone is the next one to come. Raises TimeInvalid: also for a time that a change to
    daylight saving leaves out or has twice, where only a zone (`+01:00`) says which is meant.
    """
    words = text.strip().lower().split()
    here = now.astimezone()
    if words == ["now"]:
        return now.astimezone(UTC)
    if words and (words[0] == "in" or words[0].startswith("+")):
        length = "".join(words[1:]) if words[0] == "in" else "".join(words)[1:]
        return (now + parse_duration(length)).astimezone(UTC)
    try:
        found = datetime.fromisoformat(text.strip().upper().replace(" ", "T", 1))
    except ValueError:
        found = _spoken(text, words, here)
    try:
        return _placed(text, found) if found.tzinfo is None else found.astimezone(UTC)
    except (OverflowError, ValueError) as error:
        raise TimeInvalid(text=text[:60], reason=" of this calendar") from error


def _spoken(text: str, words: list[str], here: datetime) -> datetime:
    """Return a time without a zone from a day, a time of day, or both."""
    clock = next((_CLOCK.fullmatch(word) for word in words if ":" in word), None)
    rest = [word for word in words if ":" not in word]
    try:
        at = time(int(clock[1]), int(clock[2])) if clock else time()
    except ValueError:
        clock, rest = None, ["?"]
    if len(rest) > 1 or len(words) > len(rest) + 1 or not words or (not rest and not clock):
        raise TimeInvalid(text=text[:60], reason="")
    if not rest:
        day = here.date() if at > here.time() else here.date() + timedelta(days=1)
    elif rest[0] in {"today", "tomorrow"}:
        day = here.date() + timedelta(days=rest[0] == "tomorrow")
    else:
        matching = [
            number
            for number, name in enumerate(_DAYS)
            if len(rest[0]) >= _LEAST_LETTERS and name.startswith(rest[0])
        ]
        if not matching:
            raise TimeInvalid(text=text[:60], reason="")
        day = here.date() + timedelta(days=(matching[0] - here.weekday() - 1) % 7 + 1)
    return datetime.combine(day, at)


def _placed(text: str, found: datetime) -> datetime:
    """Return the one moment at which this machine's clock shows that time."""
    first, second = (found.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    shown = [one.astimezone().replace(tzinfo=None) for one in (first, second)]
    if first != second:
        twice = shown[0] == found and shown[1] == found
        reason = ": it occurs twice on that day" if twice else ": it does not exist on that day"
        raise TimeInvalid(text=text[:60], reason=f"{reason}; name its zone")
    return first
