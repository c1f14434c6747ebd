"""How nodes are given back, on SQLite and on PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from perfci.lab.errors import (
    NodeNotHeld,
    NoSuchSlot,
    ReservationOver,
)
from perfci.lab.reservations.model import BookingState
from perfci.lab.reservations.node_orders import NodeOrders
from perfci.lab.reservations.work import Work

if TYPE_CHECKING:
    from collections.abc import Callable

    from perfci.lab.reservations.service import Reservations

from calendars import ANN, BOB, MACHINES, Clock, at, wants


def test_one_node_of_several_can_be_given_back(lab: Reservations, clock: Clock) -> None:
    made = lab.reserve(wants(2), ANN)
    clock.now = at(0.5)
    left = lab.release(made.id, ANN, node="a")
    assert (left.nodes, left.state) == (("b",), BookingState.READY)
    assert lab.reserve(wants(names="a"), BOB).nodes == ("a",)
    with pytest.raises(NodeNotHeld):
        lab.release(made.id, ANN, node="a")
    done = lab.release(made.id, ANN, node="b")
    assert (done.state, done.released_at) == (BookingState.OVER, clock.now)
    assert lab.release(made.id, ANN) == done, "giving back what was given back changes nothing"
    with pytest.raises(ReservationOver):
        lab.extend(made.id, 60, ANN)


def test_after_a_person_machines_are_reclaimed(opened: Callable[..., Reservations]) -> None:
    lab = opened(MACHINES)
    assert lab.release(lab.reserve(wants(), ANN).id, ANN).state is BookingState.ENDING
    planned = lab.reserve(wants(starts_at=at(5)), ANN)
    assert lab.release(planned.id, ANN).state is BookingState.OVER, "nothing was touched"


def test_a_machine_that_leaves_early_is_reclaimed_by_itself(
    opened: Callable[..., Reservations], clock: Clock
) -> None:
    lab = opened(MACHINES)
    work = Work(lab, "one")
    made = lab.reserve(wants(2), ANN)
    work.claim(made.id)
    for node, step in ((node, step) for node in "ab" for step in ("power", "provision", "canary")):
        NodeOrders(lab).note(node, step, ok=True, reservation_id=made.id)
    work.ready(made.id)
    clock.now = at(0.5)
    assert lab.release(made.id, ANN, node="a").nodes == ("b",)
    (part,) = work.due()
    claimed = work.claim(part)
    assert claimed is not None
    assert (claimed.state, work.to_reclaim(claimed)) == (BookingState.RECLAIMING, ("a",))
    assert lab.of("ann") == (lab.show(made.id),), "it is no reservation of hers"
    with pytest.raises(NoSuchSlot):
        lab.reserve(wants(names="a"), BOB)
    work.reclaimed(part)
    assert lab.reserve(wants(names="a"), BOB).starts_at == clock.now
    assert lab.swap(made.id, "b", ANN).nodes == ("c",)
    assert [
        lab.show(one).places[0].node for one in work.due() if lab.show(one).state is BookingState.ENDING
    ] == ["b"]
