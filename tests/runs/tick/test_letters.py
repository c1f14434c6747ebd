"""Which mails are due, and that a late or repeated look sends none twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from perfci.lab.reservations.model import Booking, BookingEvent, BookingState, NodeWish, Place, Priority
from perfci.runs.tick.letters import letters_due

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
BOOKING = Booking(
    "r1", "lab", "ann", "tuning", BookingState.WAITING, Priority.PEOPLE, firm=True, asked_at=START - 9 * HOUR,
    earliest_at=START, starts_at=START, ends_at=START + 48 * HOUR, wish=NodeWish(1),
    places=(Place("a", START, START + 48 * HOUR),), contact="ann@example.org",
)  # fmt: skip
READY = replace(BOOKING, state=BookingState.READY, ready_at=START)


def kinds(booking: Booking, hours: float, *events: BookingEvent) -> list[str]:
    return [one.kind for one in letters_due(booking, events, START + hours * HOUR)]


@pytest.mark.parametrize(
    ("booking", "hours", "expected"),
    [
        (BOOKING, -8, ["granted"]),
        (BOOKING, -1, ["granted", "starts soon"]),
        (replace(BOOKING, asked_at=START - 1.5 * HOUR), -1, ["granted"]),
        (READY, 1, ["ready"]),
        (READY, 47, ["ready", "ends soon"]),
        (READY, 49, ["ready"]),
        (replace(READY, state=BookingState.PREPARING, ready_at=None), 1, []),
        (replace(READY, state=BookingState.OVER, released_at=START + HOUR), 2, ["ended"]),
        (replace(READY, state=BookingState.OVER, released_at=START + HOUR), 24 * 7, []),
        (replace(BOOKING, state=BookingState.OVER, released_at=START), 1, []),
    ],
)
def test_what_is_due(booking: Booking, hours: float, expected: list[str]) -> None:
    assert kinds(booking, hours) == expected


def test_ready_is_told_of_no_state_before_it() -> None:
    for state in BookingState:
        due = kinds(replace(READY, state=state), 1)
        assert ("ready" in due) == (state is BookingState.READY)


def test_the_warning_has_the_command_that_helps_and_comes_once_for_each_bound() -> None:
    seen = {}
    for minutes in range(0, 48 * 60, 5):
        for one in letters_due(READY, (), START + timedelta(minutes=minutes)):
            if one.kind == "ends soon":
                assert "perfci lab extend r1 --for" in one.body
                seen.setdefault(one.about, minutes)
    assert list(seen.values()) == [47 * 60, 48 * 60 - 15]
    short = replace(READY, ends_at=START + HOUR)
    assert [one.about for one in letters_due(short, (), START + 0.9 * HOUR) if one.kind == "ends soon"] == [
        f"{short.ends_at.isoformat()} 0:15:00"
    ]


def test_what_happened_is_told_while_it_is_news() -> None:
    event = BookingEvent(START - 5 * HOUR, "perfci", "swapped", "b for a", "r1")
    assert kinds(BOOKING, -4, event) == ["granted", "swapped"]
    assert kinds(READY, 47.9, event) == ["ready", "ends soon"]
    (letter,) = [one for one in letters_due(BOOKING, [event], START - 4 * HOUR) if one.kind == "swapped"]
    assert "b for a" in letter.body
