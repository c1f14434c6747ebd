"""Leases whose time is over while their process runs, or may run: on this host, and on another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from calendars import ANN, BOB, START, Clock, at, wants

from perfci.lab import owners
from perfci.lab.errors import NoSuchSlot
from perfci.lab.reservations.model import BookingState

if TYPE_CHECKING:
    from collections.abc import Callable

    from perfci.lab.model import Owner
    from perfci.lab.reservations.service import Reservations

TIME, GONE = "its time is over", "its process is gone"


@pytest.fixture
def lab(opened: Callable[..., Reservations]) -> Reservations:
    return opened()


@pytest.fixture
def far() -> Owner:
    """A process of another controller, of which this one sees nothing."""
    return replace(owners.me(), host="another")


def test_a_run_of_another_host_keeps_its_nodes_for_a_day_and_its_end_stays(
    lab: Reservations, clock: Clock, far: Owner
) -> None:
    lease = lab.reserve(wants(2), ANN, owner=far)
    for hours in (2, 3, 25.9):
        clock.now = at(hours)
        assert lab.sweep() == ()
        assert lab.show(lease.id).ends_at == at(2), "only its own host knows that it runs late"
    clock.now = at(26)
    assert [(one.id, str(reason)) for one, reason in lab.sweep()] == [(lease.id, TIME)]
    assert lab.sweep() == ()


def test_nobody_gets_the_nodes_of_a_late_run_of_another_host(
    lab: Reservations, clock: Clock, far: Owner
) -> None:
    lab.reserve(wants(2), ANN, owner=far)
    after_it = lab.reserve(wants(names="a", starts_at=at(3)), BOB)
    clock.now = at(2.5)
    assert [str(one.state) for one in lab.nodes()] == ["held", "held", "free"], "what nobody gets is not free"
    clock.now = at(3)
    assert lab.begin() == ()
    assert lab.reserve(wants(), BOB).nodes == ("c",)
    with pytest.raises(NoSuchSlot):
        lab.reserve(wants(), BOB)
    clock.now = at(26)
    lab.sweep()
    assert lab.show(after_it.id).state is BookingState.OVER
    assert lab.reserve(wants(2), BOB).nodes == ("a", "b")


@pytest.mark.parametrize("host", ["this", "another"])
def test_no_node_is_swapped_for_one_that_a_late_run_works_on(
    lab: Reservations, clock: Clock, far: Owner, host: str
) -> None:
    lab.reserve(wants(2), ANN, owner=far if host == "another" else owners.me())
    mine = lab.reserve(wants(hours=9), BOB)
    clock.now = at(2.5)
    with pytest.raises(NoSuchSlot):
        lab.swap(mine.id, "c", BOB)
    with pytest.raises(NoSuchSlot):
        lab.swap(mine.id, "c", BOB, to="a")


def test_a_late_run_of_this_host_keeps_its_nodes_until_it_ends(
    lab: Reservations, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = lab.reserve(wants(2), ANN, owner=owners.me())
    clock.now = at(2)
    for hours in (2, 3, 50):
        clock.now = at(hours)
        assert lab.sweep() == ()
        assert lab.show(lease.id).ends_at == at(hours + 1)
    monkeypatch.setattr(owners, "dead", frozenset)
    assert [(one.id, str(reason)) for one, reason in lab.sweep()] == [(lease.id, GONE)]
    assert lab.reserve(wants(2), BOB).starts_at == START + (at(50) - START)
