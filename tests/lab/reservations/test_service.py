"""What nights and people do with one calendar, on SQLite and on PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from perfci.lab.errors import (
    NoSuchSlot,
)
from perfci.lab.reservations.model import BookingState
from perfci.lab.sql import SqlLedger

if TYPE_CHECKING:
    from collections.abc import Callable

    from perfci.lab.reservations.service import Reservations

from calendars import ANN, BOB, PLAIN, Clock, at, wants


def test_a_night_and_people_share_one_book(opened: Callable[..., Reservations], clock: Clock) -> None:
    """What the nights lease is in the calendar, and what people booked is in the way of nights."""
    lab = opened()
    ledger = SqlLedger(lab._database, lab.lab, PLAIN, clock=clock)
    planned = lab.reserve(wants(3, starts_at=at(3)), ANN)
    with ledger.lease(nodes=2, holder="controller", purpose="run x", until=at(3)) as lease:
        assert lab.show(lease.id).state is BookingState.READY
        with pytest.raises(NoSuchSlot):
            lab.reserve(wants(2, 1), BOB)
    assert lab.show(lease.id).state is BookingState.OVER
    from perfci.lab.errors import NodesBusy

    with pytest.raises(NodesBusy), ledger.lease(nodes=1, holder="x", purpose="x", until=at(4)):
        pass
    assert lab.show(planned.id) == planned


def test_the_clock_goes_back(lab: Reservations, clock: Clock) -> None:
    made = lab.reserve(wants(2), ANN)
    clock.now = at(-1)
    done = lab.release(made.id, ANN)
    assert done.state is BookingState.OVER
    assert lab.reserve(wants(3, 5), BOB).nodes == ("a", "b", "c")
