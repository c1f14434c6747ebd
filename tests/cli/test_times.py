"""Times as people type them, on a machine in Prague: also when its clock changes."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfci.cli.durations import DurationInvalid
from perfci.cli.times import TimeInvalid, parse_moment

NOW = datetime(2026, 3, 25, 11, 30, tzinfo=UTC)
"""A Wednesday, 12:30 in Prague. Its clock goes from 02:00 to 03:00 on the 29th."""


@pytest.fixture(autouse=True)
def _prague(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TZ", "Europe/Prague")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def utc(day: int, hour: int, minute: int = 0, month: int = 3) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", NOW),
        ("+2h", NOW + timedelta(hours=2)),
        ("in 90m", NOW + timedelta(minutes=90)),
        ("tomorrow 09:00", utc(26, 8)),
        ("Tomorrow", utc(25, 23)),
        ("today 14:00", utc(25, 13)),
        ("14:00", utc(25, 13)),
        ("9:00", utc(26, 8)),
        ("12:30", utc(26, 11, 30)),
        ("fri 14:00", utc(27, 13)),
        ("wednesday", datetime(2026, 3, 31, 22, tzinfo=UTC)),
        ("monday 09:00", utc(30, 7)),
        ("2026-04-02 09:00", utc(2, 7, month=4)),
        ("2026-04-02T09:00", utc(2, 7, month=4)),
        ("2026-04-02t09:00:00Z", utc(2, 9, month=4)),
        ("2026-04-02 09:00+02:00", utc(2, 7, month=4)),
        ("2026-04-02", utc(1, 22, month=4)),
        ("2026-03-29 02:30+01:00", utc(29, 1, 30)),
        ("2026-10-25 02:30+02:00", utc(25, 0, 30, month=10)),
        ("2026-10-25 03:00", utc(25, 2, month=10)),
    ],
)
def test_what_is_understood(text: str, moment: datetime) -> None:
    assert parse_moment(text, NOW) == moment
    assert parse_moment(f" {text} ", NOW).tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not a time"),
        ("soon", "is not a time"),
        ("25:00", "is not a time"),
        ("tomorrow 9", "is not a time"),
        ("tomorrow 09:00 10:00", "is not a time"),
        ("tomorrow friday", "is not a time"),
        ("we", "is not a time"),
        ("2026-13-01", "is not a time"),
        ("2026-03-29 02:30", "does not exist on that day; name its zone"),
        ("2026-10-25 02:30", "occurs twice on that day; name its zone"),
        ("sunday 02:30", "does not exist on that day"),
        ("x" * 10_000, "is not a time"),
        ("0001-01-01", "of this calendar"),
        ("9999-12-31 23:59-10:00", "of this calendar"),
    ],
)
def test_what_is_not(text: str, reason: str) -> None:
    with pytest.raises(TimeInvalid, match=reason):
        parse_moment(text, NOW)


def test_a_wrong_length() -> None:
    with pytest.raises(DurationInvalid):
        parse_moment("+soon", NOW)


@given(text=st.text(max_size=30) | st.from_regex(r"[a-z0-9:+ TZ-]{0,20}", fullmatch=True))
def test_any_text_is_a_time_or_a_clear_error(text: str) -> None:
    try:
        assert parse_moment(text, NOW).tzinfo is UTC
    except (TimeInvalid, DurationInvalid):
        return
