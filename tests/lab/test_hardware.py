"""What BMCs say is wrong, and what of it is new: readings and events of many kinds, in any order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from perfci.lab.bmc.base import Event, Reading
from perfci.lab.hardware import OLD, news, wrong

NOW = datetime(2026, 11, 21, 6, tzinfo=UTC)
HOT = Reading("CPU1 Temp", "Temperature", 98.0, "°C", ("upper critical",), "critical")
WARM = Reading("CPU1 Temp", "Temperature", 88.0, "°C", (), "warning")
COOL = Reading("CPU1 Temp", "Temperature", 41.0, "°C", (), "ok")
SUPPLY = Reading("PSU2 Status", "Power Supply", None, "", ("Failure detected",), "failed")
UNCORRECTED = Event(NOW - timedelta(hours=1), "Memory", "Uncorrectable ECC (DIMM A2)", "failed")
CORRECTED = Event(NOW - timedelta(hours=2), "DIMM B1", "Correctable ECC", "warning")
FAN = Event(NOW - timedelta(hours=3), "Fan 3", "lower non-critical going low", "warning")
BOOTED = Event(NOW - timedelta(hours=4), "System Boot", "initiated by power up", "ok")


def texts(found):
    return [alarm.text for alarm in found]


def look(readings=(), events=(), known=(), *, first=False):
    return news(readings, events, known, first=first, now=NOW)


def test_what_is_critical_alarms_and_of_memory_warnings_too():
    assert texts(wrong([HOT, COOL, SUPPLY], [BOOTED, FAN, CORRECTED, UNCORRECTED])) == [
        "sensor CPU1 Temp: 98 °C critical (upper critical)",
        "sensor PSU2 Status: failed (Failure detected)",
        "event 2026-11-21T04:00:00+00:00 DIMM B1: Correctable ECC",
        "event 2026-11-21T05:00:00+00:00 Memory: Uncorrectable ECC (DIMM A2)",
    ]
    assert wrong([WARM], [BOOTED, FAN]) == ()


def test_nothing_alarms_twice():
    first = look([HOT], [UNCORRECTED])
    known = {alarm.name for alarm in first.alarms}
    assert len(known) == 2
    assert look([HOT], [UNCORRECTED], known) == look()
    hotter = Reading("CPU1 Temp", "Temperature", 99.0, "°C", (), "failed")
    assert look([hotter], [UNCORRECTED], known) == look(), "it is the same sensor"


def test_a_sensor_that_was_well_alarms_again():
    known = {alarm.name for alarm in look([HOT]).alarms}
    assert look([WARM], known=known).well == tuple(known)
    assert look([], known=known).well == (), "a sensor that says nothing is not well"
    assert texts(look([HOT]).alarms) == ["sensor CPU1 Temp: 98 °C critical (upper critical)"]


def test_entries_that_say_the_same_are_told_apart_by_their_number():
    timeless = Event(None, "Memory", "Uncorrectable ECC", "failed")
    known = {alarm.name for alarm in look((), [timeless]).alarms}
    again = look((), [timeless, timeless], known)
    assert [alarm.name for alarm in again.alarms] == [
        "event at an unknown time Memory: Uncorrectable ECC (2)"
    ]


@pytest.mark.parametrize(("first", "alarms"), [(True, 0), (False, 1)])
def test_only_at_the_first_look_events_of_long_ago_are_noted_alone(first, alarms):
    ancient = Event(NOW - OLD - timedelta(seconds=1), "Memory", "Uncorrectable ECC", "failed")
    found = look((), [ancient], first=first)
    assert (len(found.alarms), len(found.old)) == (alarms, 1 - alarms)
    recent = Event(NOW - OLD, "Memory", "Uncorrectable ECC", "failed")
    assert len(look((), [recent], first=first).alarms) == 1


def test_garbage_of_a_bmc_stays_one_short_line():
    (alarm,) = wrong([Reading("a\nb\x1b[31m" + "x" * 1000, "?", None, "", (), "failed")], [])
    assert alarm.text.isprintable()
    assert len(alarm.text) <= 400
