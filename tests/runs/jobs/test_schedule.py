"""When nights begin, also where the clock changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from perfci.runs.jobs.schedule import Schedule

PRAGUE = Schedule(at="02:15", time_zone="Europe/Prague")


def utc(month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=UTC)


def test_a_time_that_the_clock_leaves_out_is_an_hour_later() -> None:
    assert PRAGUE.windows(utc(3, 28), utc(3, 31)) == [utc(3, 28, 1, 15), utc(3, 29, 1, 15), utc(3, 30, 0, 15)]


def test_a_time_that_the_clock_shows_twice_counts_once() -> None:
    assert PRAGUE.windows(utc(10, 24), utc(10, 27)) == [
        utc(10, 24, 0, 15),
        utc(10, 25, 0, 15),
        utc(10, 26, 1, 15),
    ]


def test_days_of_the_week() -> None:
    weekly = Schedule(at="00:30", every=["mon", "fri"], time_zone="Europe/Prague")
    found = weekly.windows(utc(6, 1), utc(6, 14))
    assert [one.astimezone(ZoneInfo("Europe/Prague")).strftime("%a %H:%M") for one in found] == [
        "Fri 00:30",
        "Mon 00:30",
        "Fri 00:30",
    ]


@given(
    minutes=st.integers(0, 24 * 60 - 1),
    zone=st.sampled_from(
        ["UTC", "Europe/Prague", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kolkata"]
    ),
    start=st.integers(0, 87600).map(lambda hours: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(hours=hours)),
    cuts=st.lists(st.integers(0, 72 * 60), max_size=5),
)
def test_however_often_one_looks_each_window_comes_once(minutes, zone, start, cuts) -> None:
    schedule = Schedule(at=f"{minutes // 60:02}:{minutes % 60:02}", time_zone=zone)
    end = start + timedelta(hours=72)
    whole = schedule.windows(start, end)
    edges = [start, *sorted(start + timedelta(minutes=cut) for cut in cuts), end]
    parts = [one for before, after in pairwise(edges) for one in schedule.windows(before, after)]
    assert parts == whole
    assert len(whole) in (2, 3, 4)
    days = [one.astimezone(ZoneInfo(zone)).date() for one in whole]
    assert len(set(days)) == len(days)


@pytest.mark.parametrize(
    "given_",
    [
        {"at": "2:15"},
        {"at": "24:00"},
        {"at": 135},
        {"at": "02:15", "time_zone": "Prague"},
        {"at": "02:15", "every": "week"},
        {"at": "02:15", "every": ["monday"]},
        {"at": "02:15", "zone": "UTC"},
        {},
    ],
)
def test_what_is_no_schedule(given_) -> None:
    with pytest.raises(ValidationError):
        Schedule.model_validate(given_)
