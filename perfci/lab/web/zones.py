"""Time zones: which one is this machine's, and what a clock in it shows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from perfci.lab.errors import ReservationInvalid, local_times

_LOCALTIME = Path("/etc/localtime")
_LONGEST_NAME = 64
MINUTE = "%Y-%m-%dT%H:%M"
"""What browsers send from a field `datetime-local`."""


def zone_called(name: str) -> ZoneInfo | None:
    """Return the time zone with this name of the tz database, None where there is none."""
    if not 0 < len(name) <= _LONGEST_NAME:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def machine_zone(localtime: Path = _LOCALTIME) -> ZoneInfo:
    """Return this machine's time zone: TZ's, else that of /etc/localtime, else UTC."""
    _, _, linked = str(localtime.resolve()).partition("/zoneinfo/")
    for name in (os.environ.get("TZ", "").removeprefix(":"), linked):
        found = zone_called(name)
        if found is not None:
            return found
    return ZoneInfo("UTC")


@dataclass(frozen=True, slots=True)
class Times:
    """Shows times in one zone, always with its name. Takes aware datetimes."""

    zone: ZoneInfo
    now: datetime

    @property
    def name(self) -> str:
        """Return the zone's name, such as Europe/Prague."""
        return self.zone.key

    @property
    def short_name(self) -> str:
        """Return what the zone is called now, such as CET."""
        return self.now.astimezone(self.zone).tzname() or self.zone.key

    def here(self, when: datetime) -> datetime:
        """Return a time as clocks in the zone show it."""
        return when.astimezone(self.zone)

    def full(self, when: datetime) -> str:
        """Return `Mon 30 Nov 2026, 10:00 CET`."""
        return f"{self.here(when):%a} {self.here(when).day} {self.here(when):%b %Y, %H:%M %Z}"

    def brief(self, when: datetime) -> str:
        """Return `10:00 CET` for today, `Mon 30 Nov, 10:00 CET` for this year, else the full time."""
        here, now = self.here(when), self.here(self.now)
        if here.date() == now.date():
            return f"{here:%H:%M %Z}"
        if here.year != now.year:
            return self.full(when)
        return f"{here:%a} {here.day} {here:%b, %H:%M %Z}"

    def words(self, text: str) -> str:
        """Return a detail of the history with its times as `brief` shows them."""
        return local_times(text, self.brief)

    def day(self, when: datetime) -> str:
        """Return `Mon 30 Nov`."""
        return f"{self.here(when):%a} {self.here(when).day} {self.here(when):%b}"

    def field(self, when: datetime) -> str:
        """Return a time for a field `datetime-local`, rounded up to a whole minute."""
        whole = self.here(when)
        if whole.second or whole.microsecond:
            whole = whole.replace(second=0, microsecond=0) + timedelta(minutes=1)
        return whole.strftime(MINUTE)

    def today(self) -> date:
        """Return which day it is in the zone."""
        return self.here(self.now).date()

    def midnight(self, day: date) -> datetime:
        """Return when a day begins in the zone, in UTC."""
        return datetime.combine(day, time(), self.zone).astimezone(UTC)


def typed_time(text: str, zone: ZoneInfo) -> datetime:
    """Return the time of a field `datetime-local`, in UTC.

    Raises ReservationInvalid, also for a time that the zone's clocks leave out or show twice that day.
    """
    try:
        typed = datetime.fromisoformat(text.strip())
        if typed.tzinfo is not None:
            return typed.astimezone(UTC)
        first, second = (typed.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    except (ValueError, OverflowError) as error:
        raise ReservationInvalid(reason=f"{text[:60]!r} is no time") from error
    if first != second:
        twice = first.astimezone(zone).replace(tzinfo=None, fold=0) == typed
        reason = "show it twice" if twice else "leave it out"
        words = f"{text[:60]}: the clocks of {zone.key} {reason} that day; choose another time or zone"
        raise ReservationInvalid(reason=words)
    return first


def length_text(seconds: float) -> str:
    """Return a length of time for people, in its two largest units: `2 d 3 h`, `45 min`."""
    minutes = max(0, round(seconds / 60))
    days, hours, minutes = minutes // 1440, minutes % 1440 // 60, minutes % 60
    parts = [f"{count} {unit}" for count, unit in ((days, "d"), (hours, "h"), (minutes, "min")) if count]
    return " ".join(parts[:2]) or "less than a minute"
