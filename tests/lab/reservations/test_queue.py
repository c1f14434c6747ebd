"""Who waits, who moves up, and who makes room, on SQLite and on PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from perfci.lab.errors import (
    NoSuchSlot,
)
from perfci.lab.reservations.checks import Policy
from perfci.lab.reservations.model import BookingState, NodeWish, Priority
from perfci.lab.reservations.nights import Nights, Plan
from perfci.lab.reservations.service import Reservations

if TYPE_CHECKING:
    from collections.abc import Callable

from calendars import ANN, BOB, HOUR, PLAIN, Clock, at, wants


def test_the_queue_moves_up_when_nodes_come_back(lab: Reservations, clock: Clock) -> None:
    first = lab.reserve(wants(3, 8), ANN)
    second = lab.reserve(wants(2, 2, wait_seconds=None), BOB)
    third = lab.reserve(wants(1, 2, wait_seconds=None), ANN)
    assert [(one.starts_at, one.nodes) for one in (second, third)] == [(at(8), ("a", "b")), (at(8), ("c",))]
    clock.now = at(1)
    lab.release(first.id, ANN, node="c")
    assert lab.show(third.id).starts_at == at(1)
    assert lab.show(second.id) == second
    lab.release(first.id, ANN)
    moved = lab.show(second.id)
    assert (moved.starts_at, moved.ends_at, moved.state) == (at(1), at(3), BookingState.WAITING)
    assert "moved" in [one.action for one in lab.history(reservation_id=second.id)]


def test_people_come_before_nights_and_nights_before_bisects(lab: Reservations, clock: Clock) -> None:
    lab.reserve(wants(3, 4), ANN)
    bisect = lab.reserve(wants(3, 2, wait_seconds=None, priority=Priority.BISECT), BOB)
    night = lab.reserve(wants(3, 2, wait_seconds=None, priority=Priority.NIGHT), BOB)
    person = lab.reserve(wants(3, 2, wait_seconds=None), BOB)
    second = lab.reserve(wants(3, 2, wait_seconds=None), ANN)
    starts = [lab.show(one.id).starts_at for one in (person, second, night, bisect)]
    assert starts == [at(4), at(6), at(8), at(10)]
    # Who has waited for two days is put behind nobody any more.
    clock.now = at(3.9)
    patient = Reservations(lab._database, lab.lab, PLAIN, policy=Policy(patience_hours=3), clock=clock)
    late = patient.reserve(wants(3, 2, wait_seconds=None), ANN)
    assert [lab.show(one.id).starts_at for one in (bisect, late)] == [at(10), at(12)]


def test_a_firm_time_moves_those_that_rank_after_it_and_nobody_else(lab: Reservations) -> None:
    lab.reserve(wants(3, 4), ANN)
    bisect = lab.reserve(wants(3, 2, wait_seconds=None, priority=Priority.BISECT), BOB)
    with pytest.raises(NoSuchSlot):
        lab.reserve(wants(starts_at=at(3)), BOB)
    made = lab.reserve(wants(3, 1, starts_at=at(4.5)), ANN)
    assert made.starts_at == at(4.5)
    assert lab.show(bisect.id).starts_at == at(5.5)


def test_the_queue_gives_nobody_more_than_one_person_may_have(opened: Callable[..., Reservations]) -> None:
    lab = opened(nodes_per_person=2)
    mine = lab.reserve(wants(names="ab"), ANN)
    other = lab.reserve(wants(names="c"), BOB)
    waiting = lab.reserve(wants(1, wait_seconds=None), ANN)
    assert waiting.starts_at == at(2)
    lab.release(other.id, BOB)
    assert lab.show(waiting.id).starts_at == at(2), "c is free, but she has two"
    lab.release(mine.id, ANN, node="a")
    assert lab.show(waiting.id).starts_at == at(0)


def test_people_book_over_planned_nights_only_where_the_lab_allows_it(
    opened: Callable[..., Reservations],
) -> None:
    lab = opened()
    plan = Plan("nightly", "perfci", NodeWish(3), 2 * HOUR, HOUR, (at(4),))
    (night,) = Nights(lab, "one").plan(plan)
    assert (night.state, night.starts_at) == (BookingState.WAITING, at(4))
    with pytest.raises(NoSuchSlot):
        lab.reserve(wants(1, 2, starts_at=at(3)), ANN)
    opened(book_over_nights=True).reserve(wants(1, 2, starts_at=at(3)), ANN)
    assert lab.show(night.id).starts_at == at(5)
