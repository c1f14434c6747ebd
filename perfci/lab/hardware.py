"""What BMCs say is wrong with machines, and what of it is new.

A sensor is wrong from the look that finds it critical until one that finds it well, and is reported once each
time. An entry of the event log is reported once. `runs.publish.hardware_alarms` asks the BMCs, and keeps what
is known.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from perfci.lab.bmc.base import Event, Reading

OLD = timedelta(days=7)
"""What an event log says of the time before that was there when perfci first looked: it alarms nobody."""
_BAD = frozenset({"critical", "failed"})
_MEMORY = re.compile(r"\b(ecc|memory|dimm)\b", re.IGNORECASE)
"""Corrected errors are warnings, and the first that is heard of a module that will fail."""
_NAME_LENGTH = 400


@dataclass(frozen=True, slots=True)
class HardwareAlarm:
    """One thing that is wrong. `name` says which, and stays the same; `text` says it to people."""

    name: str
    text: str
    at: datetime | None = None
    """When an event was, where its BMC knew the time; None of a sensor."""


@dataclass(frozen=True, slots=True)
class HardwareNews:
    """What a look found: `alarms` to report, `old` events to note only, sensors that are `well` again."""

    alarms: tuple[HardwareAlarm, ...] = ()
    old: tuple[HardwareAlarm, ...] = ()
    well: tuple[str, ...] = ()


def wrong(readings: Iterable[Reading], events: Iterable[Event]) -> tuple[HardwareAlarm, ...]:
    """Return what sensors and the event log of one machine say is wrong.

    That is all that is critical or failed, and of memory also warnings. Entries of the event log with
    the same words and the same time get numbers.
    """
    found = [_of_sensor(one) for one in readings if one.health in _BAD]
    seen: Counter[str] = Counter()
    for event in events:
        if event.health in _BAD or (
            event.health == "warning" and _MEMORY.search(f"{event.component} {event.text}")
        ):
            alarm = _of_event(event)
            seen[alarm.name] += 1
            number = seen[alarm.name]
            found.append(
                alarm if number == 1 else HardwareAlarm(f"{alarm.name} ({number})", alarm.text, alarm.at)
            )
    return tuple(found)


def news(
    readings: Collection[Reading],
    events: Iterable[Event],
    known: Collection[str],
    *,
    first: bool,
    now: datetime,
) -> HardwareNews:
    """Return what of a look is new.

    `known` are the names of alarms that were noted and are not well. With `first`, nobody has looked at this
    machine before: events of long ago are noted only.
    """
    fresh = [one for one in wrong(readings, events) if one.name not in known]
    old = [one for one in fresh if first and one.at is not None and one.at < now - OLD]
    fine = {_sensor_name(one) for one in readings if one.health not in _BAD}
    return HardwareNews(
        alarms=tuple(one for one in fresh if one not in old),
        old=tuple(old),
        well=tuple(sorted(fine.intersection(known))),
    )


def _sensor_name(reading: Reading) -> str:
    return _plain(f"sensor {reading.sensor}")


def _of_sensor(reading: Reading) -> HardwareAlarm:
    value = "" if reading.value is None else f" {reading.value:g} {reading.units}".rstrip()
    states = f" ({', '.join(reading.states)})" if reading.states else ""
    name = _sensor_name(reading)
    return HardwareAlarm(name, _plain(f"{name}:{value} {reading.health}{states}"))


def _of_event(event: Event) -> HardwareAlarm:
    time = event.at.isoformat(timespec="seconds") if event.at else "at an unknown time"
    text = _plain(f"event {time} {event.component}: {event.text}")
    return HardwareAlarm(text, text, event.at)


def _plain(text: str) -> str:
    """Return a BMC's words as one line of limited length."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())[:_NAME_LENGTH]
