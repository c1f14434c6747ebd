"""When a job's nights begin: `schedule: {at: "02:15", every: day, time_zone: Europe/Prague}`. Pure."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _zone(name: str) -> str:
    if name not in available_timezones():
        msg = f"expected a time zone such as Europe/Prague or UTC, got {name!r}"
        raise ValueError(msg)
    return name


class Schedule(BaseModel):
    """When the nights of a job begin. Where the clock leaves the time out, an hour later by that clock; where
    it shows it twice, the first time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$", examples=["02:15"])]
    """Time of day, in quotes: "02:15"."""
    every: Literal["day"] | tuple[Day, ...] = "day"
    """`day`, or a list of days: [mon, wed, fri]."""
    time_zone: Annotated[str, AfterValidator(_zone)] = "UTC"
    """The zone of that clock: Europe/Prague."""

    def windows(self, start: datetime, end: datetime) -> list[datetime]:
        """Return when nights begin from `start` on and before `end`, in UTC and in their order.

        Each day has one at most, whatever its clock does.
        """
        zone = ZoneInfo(self.time_zone)
        hours, minutes = self.at.split(":")
        clock = time(int(hours), int(minutes))
        day: date = start.astimezone(zone).date() - timedelta(days=1)
        found = []
        while day <= end.astimezone(zone).date():
            if self.every == "day" or _DAYS[day.weekday()] in self.every:
                # A time that is left out is read with the offset before the change, so as a later one.
                moment = datetime.combine(day, clock, tzinfo=zone).astimezone(UTC)
                if start <= moment < end:
                    found.append(moment)
            day += timedelta(days=1)
        return found
