"""What people see of the calendar, on SQLite and on PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calendars import ANN, BOB, START, at, wants

if TYPE_CHECKING:
    from perfci.lab.reservations.service import Reservations


def test_why_one_waits_and_what_would_make_it_sooner(lab: Reservations) -> None:
    first = lab.reserve(wants(2, 4), ANN)
    waiting = lab.reserve(wants(2, 2, wait_seconds=None), BOB)
    why = lab.why(waiting.id)
    assert [one.id for one in why.before] == [first.id]
    assert why.booking.starts_at == at(4)
    assert [(words, slot.starts_at) for words, slot in why.sooner] == [("1 node instead of 2", START)]


def test_the_calendar_of_a_stretch(lab: Reservations) -> None:
    made = [lab.reserve(wants(1, 1, starts_at=at(hour)), ANN) for hour in (1, 2, 30)]
    shown = lab.calendar(at(1.5), at(24))
    assert shown.nodes == ("a", "b", "c")
    assert shown.bookings == tuple(made[:2])
