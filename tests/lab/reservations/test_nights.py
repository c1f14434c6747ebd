"""Planned nights: each window once in the calendar, each night started once."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from calendars import ANN, HOUR, MACHINES, PLAIN, START, Clock, at, wants

from perfci.lab import owners
from perfci.lab.errors import ReservationOver
from perfci.lab.reservations.model import BookingState, NodeWish
from perfci.lab.reservations.nights import START_SECONDS, Nights, Plan
from perfci.lab.reservations.node_orders import NodeOrders
from perfci.lab.reservations.work import Work
from perfci.lab.sql import SqlLedger

if TYPE_CHECKING:
    from collections.abc import Callable

    from perfci.lab.reservations.service import Reservations


@pytest.fixture
def lab(opened: Callable[..., Reservations]) -> Reservations:
    return opened()


def plan(*hours: float, length: float = 6, needed: float = 2) -> Plan:
    return Plan(
        "nightly", "perfci", NodeWish(2), length * HOUR, needed * HOUR, tuple(at(hour) for hour in hours)
    )


def test_windows_are_in_the_calendar_once(lab: Reservations) -> None:
    nights = Nights(lab, "one")
    made = nights.plan(plan(4, 28))
    assert [(one.starts_at, one.state, one.nodes) for one in made] == [
        (at(4), BookingState.WAITING, ("a", "b")),
        (at(28), BookingState.WAITING, ("a", "b")),
    ]
    assert nights.plan(plan(4, 28)) == ()
    assert nights.coming("nightly") == made
    assert nights.last_window("nightly") == at(28)


def test_a_window_that_somebody_has_moves_behind_them(lab: Reservations) -> None:
    lab.reserve(wants(2, 2, starts_at=at(3)), ANN)
    (moved,) = Nights(lab, "one").plan(plan(4))
    assert moved.starts_at == at(5)
    assert moved.window_at == at(4)


def test_what_is_no_longer_scheduled_is_given_back(lab: Reservations) -> None:
    nights = Nights(lab, "one")
    (old,) = nights.plan(plan(4))
    (new,) = nights.plan(plan(5))
    assert lab.show(old.id).state is BookingState.OVER
    assert new.starts_at == at(5)


def test_one_of_several_controllers_starts_a_night(lab: Reservations, clock: Clock) -> None:
    first, second = Nights(lab, "one"), Nights(lab, "two")
    (night,) = first.plan(plan(4))
    assert first.due("nightly", 2 * HOUR) == ()
    clock.now = at(4)
    assert first.due("nightly", 2 * HOUR) == second.due("nightly", 2 * HOUR) == (night.id,)
    assert first.start(night.id)
    assert not second.start(night.id)
    assert second.due("nightly", 2 * HOUR) == ()
    ledger = SqlLedger(lab._database, lab.lab, PLAIN, clock=clock)
    with ledger.lease(nodes=2, holder="x", purpose="run 1", until=at(9), planned=night.id) as lease:
        assert (lease.nodes, lease.ends_at, lease.owner) == (("a", "b"), at(10), owners.me())
        with (
            pytest.raises(ReservationOver),
            ledger.lease(nodes=2, holder="x", purpose="run 2", until=at(9), planned=night.id),
        ):
            pass
        assert lab.show(night.id).state is BookingState.READY
        clock.now += timedelta(seconds=START_SECONDS)
        assert second.due("nightly", 2 * HOUR) == ()
    assert lab.show(night.id).state is BookingState.OVER


def test_a_night_waits_while_its_machines_are_taken_back(
    opened: Callable[..., Reservations], clock: Clock
) -> None:
    lab = opened(MACHINES)
    made, nights, work = lab.reserve(wants(3, 4), ANN), Nights(lab, "one"), Work(lab, "two")
    work.claim(made.id)
    NodeOrders(lab).passed(made.nodes, ["power", "provision", "canary"], reservation_id=made.id)
    assert work.ready(made.id)
    (night,) = nights.plan(plan(4))
    clock.now = at(4) - timedelta(minutes=1)
    lab.release(made.id, ANN)
    assert work.claim(made.id)
    clock.now = at(4)
    assert nights.due("nightly", 2 * HOUR) == (night.id,)
    assert not nights.start(night.id), "another controller switches them off at this moment"
    work.reclaimed(made.id)
    assert nights.start(night.id)


def test_a_night_whose_starter_died_is_started_again(lab: Reservations, clock: Clock) -> None:
    first, second = Nights(lab, "one"), Nights(lab, "two")
    (night,) = first.plan(plan(4))
    clock.now = at(4)
    assert first.start(night.id)
    clock.now += timedelta(seconds=START_SECONDS)
    assert second.due("nightly", 2 * HOUR) == (night.id,)
    assert second.start(night.id)
    assert not first.start(night.id)


def test_a_late_night_starts_while_enough_is_left_and_is_missed_then(lab: Reservations, clock: Clock) -> None:
    nights = Nights(lab, "one")
    late, missed = nights.plan(plan(4, 28))
    clock.now = at(8)
    assert nights.due("nightly", 2 * HOUR) == (late.id,)
    clock.now = at(28 + 4.1)
    assert nights.due("nightly", 2 * HOUR) == ()
    for one in (late, missed):
        assert lab.show(one.id).state is BookingState.OVER
        assert lab.history(reservation_id=one.id)[-1].action == "missed"


def test_after_a_week_without_a_controller_the_missed_nights_are_written_down(
    lab: Reservations, clock: Clock
) -> None:
    nights = Nights(lab, "one")
    nights.plan(plan(4))
    clock.now = at(24 * 7)
    lab.sweep()
    every_night = [4 + 24 * day for day in range(9)]
    made = nights.plan(plan(*every_night))
    states = [one.state for one in made]
    assert states == [BookingState.OVER] * 6 + [BookingState.WAITING] * 2
    assert nights.plan(plan(*every_night)) == ()
    told = [one for one in lab.history(limit=1000) if one.action == "missed"]
    assert len(told) == 7


def test_the_clock_goes_back_after_a_night_was_started(lab: Reservations, clock: Clock) -> None:
    nights = Nights(lab, "one")
    (night,) = nights.plan(plan(4))
    clock.now = at(4)
    assert nights.start(night.id)
    clock.now = START
    assert nights.plan(plan(4)) == ()
    assert nights.due("nightly", 2 * HOUR) == ()
    clock.now = at(4)
    assert nights.due("nightly", 2 * HOUR) == ()
