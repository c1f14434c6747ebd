"""Disks that are wiped before anybody else gets their machines: whoever asked, and whatever died on the way."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from calendars import ANN, BOB, MACHINES, PLAIN, START, Clock, at, wants

from perfci.lab.errors import NoSuchSlot, ReservationInvalid
from perfci.lab.reservations.model import BookingEvent, BookingState, Wipe
from perfci.lab.reservations.node_orders import NodeOrders
from perfci.lab.reservations.wiping import WIPE_ASKED, WIPED, owed
from perfci.lab.reservations.work import RECLAIM, Work

if TYPE_CHECKING:
    from collections.abc import Callable

    from perfci.lab.reservations.model import Booking
    from perfci.lab.reservations.service import Reservations


@pytest.fixture
def lab(opened: Callable[..., Reservations]) -> Reservations:
    return opened(MACHINES)


def prepared(lab: Reservations, made: Booking) -> None:
    work = Work(lab, "one")
    work.claim(made.id)
    for node in made.nodes:
        for step in ("power", "provision", "canary"):
            NodeOrders(lab).note(node, step, ok=True, reservation_id=made.id)
    assert work.ready(made.id) is not None


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ((), {}),
        ((("a", "headers"), ("b", "full")), {"a": Wipe.HEADERS, "b": Wipe.FULL}),
        ((("a", "full"), ("a", "headers")), {"a": Wipe.FULL}),
        ((("a", "full"), ("b", "headers"), ("a", WIPED)), {"b": Wipe.HEADERS}),
        ((("a", "full"), ("a", WIPED), ("a", "headers")), {"a": Wipe.HEADERS}),
    ],
)
def test_what_is_owed(events, expected) -> None:
    told = [
        BookingEvent(START, "x", WIPED if text == WIPED else WIPE_ASKED, "" if text == WIPED else text, node)
        for node, text in events
    ]
    assert owed(told) == expected


def test_it_is_owed_from_ready_on_and_not_before(lab: Reservations) -> None:
    made = lab.reserve(wants(2, wipe=Wipe.HEADERS), ANN)
    assert (made.wipe, lab.show(made.id).wipe) == (Wipe.HEADERS, Wipe.HEADERS)
    work = Work(lab, "one")
    assert work.wipes_owed(("a", "b", "c")) == {}
    prepared(lab, made)
    assert work.wipes_owed(("a", "b", "c")) == {"a": Wipe.HEADERS, "b": Wipe.HEADERS}
    lab.admit(made.id, [], ANN)
    assert lab.show(made.id).wipe is Wipe.HEADERS, "other keys change nothing about it"


def test_who_gives_back_may_ask_for_more(lab: Reservations) -> None:
    made = lab.reserve(wants(2, wipe=Wipe.HEADERS), ANN)
    prepared(lab, made)
    lab.release(made.id, ANN, node="a", wipe=Wipe.FULL)
    lab.release(made.id, ANN)
    assert Work(lab, "one").wipes_owed(("a", "b")) == {"a": Wipe.FULL, "b": Wipe.HEADERS}


def test_nothing_is_wiped_of_what_nobody_had(lab: Reservations) -> None:
    later = lab.reserve(wants(starts_at=at(5), wipe=Wipe.FULL), ANN)
    lab.release(later.id, ANN, wipe=Wipe.FULL)
    assert Work(lab, "one").wipes_owed(("a", "b", "c")) == {}


def test_what_can_not_be_wiped_is_refused(opened: Callable[..., Reservations]) -> None:
    plain = opened(PLAIN)
    with pytest.raises(ReservationInvalid, match="no disk can be wiped without a BMC: a"):
        plain.reserve(wants(wipe=Wipe.HEADERS), ANN)
    made = plain.reserve(wants(), ANN)
    with pytest.raises(ReservationInvalid, match="no disk can be wiped"):
        plain.release(made.id, ANN, wipe=Wipe.FULL)
    assert plain.show(made.id) == made


def test_a_wipe_that_takes_long_keeps_its_machine_from_others(lab: Reservations, clock: Clock) -> None:
    made = lab.reserve(wants(names="a", wipe=Wipe.FULL), ANN)
    prepared(lab, made)
    lab.release(made.id, ANN)
    work = Work(lab, "one")
    claimed = work.claim(made.id)
    assert claimed is not None
    assert work.to_reclaim(claimed) == ("a",)
    for _ in range(10):
        clock.now += RECLAIM / 4
        assert work.keep(made.id)
        with pytest.raises(NoSuchSlot):
            lab.reserve(wants(names="a"), BOB)
    work.reclaimed(made.id)
    assert lab.reserve(wants(names="a"), BOB).starts_at == clock.now


def test_nobody_begins_on_a_machine_that_is_still_being_taken_back(lab: Reservations, clock: Clock) -> None:
    first = lab.reserve(wants(names="a", hours=2), ANN)
    prepared(lab, first)
    second = lab.reserve(wants(names="a", starts_at=at(2.1)), BOB)
    clock.now = at(2)
    lab.sweep()
    work = Work(lab, "one")
    work.claim(first.id)
    clock.now = at(2.1)
    work.keep(first.id)
    assert lab.begin() == ()
    clock.now += timedelta(minutes=5)
    work.keep(first.id)
    assert lab.begin() == ()
    work.reclaimed(first.id)
    assert [(one.id, one.state) for one in lab.begin()] == [(second.id, BookingState.PREPARING)]


def test_a_controller_that_died_while_it_took_machines_back_delays_nobody_for_long(
    lab: Reservations, clock: Clock
) -> None:
    first = lab.reserve(wants(names="a", hours=2), ANN)
    prepared(lab, first)
    second = lab.reserve(wants(names="a", starts_at=at(2.1)), BOB)
    clock.now = at(2)
    lab.sweep()
    Work(lab, "dead").claim(first.id)
    clock.now = at(2.1)
    assert [one.id for one in lab.begin()] == [second.id]
