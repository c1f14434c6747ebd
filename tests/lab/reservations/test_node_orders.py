"""What admins do with nodes, on SQLite and on PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from perfci.lab.errors import (
    AdminsOnly,
    NoCanary,
    NodesUnhealthy,
    NodesUnknown,
)
from perfci.lab.reservations.model import BookingState, NodeState
from perfci.lab.reservations.node_orders import NodeOrders

if TYPE_CHECKING:
    from collections.abc import Callable

    from perfci.lab.reservations.service import Reservations

from calendars import ANN, BOB, MACHINES, ROOT, at, wants


def test_a_node_in_quarantine_is_handed_to_nobody_and_what_was_planned_moves(
    opened: Callable[..., Reservations],
) -> None:
    lab = opened()
    orders = NodeOrders(lab)
    firm = lab.reserve(wants(2, starts_at=at(1)), ANN)
    named = lab.reserve(wants(names="a", starts_at=at(5)), BOB)
    queued = lab.reserve(wants(3, wait_seconds=None, starts_at=None), BOB)
    assert queued.starts_at == at(7) or queued.starts_at == at(3)
    with pytest.raises(AdminsOnly):
        orders.quarantine("a", "its BMC hangs", ANN)
    entry = orders.quarantine("a", "its BMC hangs", ROOT)
    assert lab.show(firm.id).nodes == ("b", "c"), "another that fits, at the same time"
    assert lab.show(named.id).nodes == ("a",), "never other hardware than was asked for"
    assert "stranded" in [one.action for one in lab.history(reservation_id=named.id)]
    assert lab.show(queued.id).state is BookingState.ASKED
    before = lab.history()
    orders.mend()
    assert lab.history() == before, "mending again changes nothing"
    assert lab.node("a").state is NodeState.QUARANTINED
    assert lab.node("a").quarantine == entry
    with pytest.raises(NodesUnhealthy) as caught:
        lab.reserve(wants(names="a"), ANN)
    assert caught.value.exit_code == 5
    assert orders.restore("a", ROOT)
    assert not orders.restore("a", ROOT)
    assert lab.show(queued.id).state is BookingState.WAITING


def test_two_failures_in_a_row_put_a_node_into_quarantine(opened: Callable[..., Reservations]) -> None:
    lab = opened(MACHINES)
    orders = NodeOrders(lab)
    assert orders.note("a", "power", ok=False, detail="no answer") is None
    assert orders.note("a", "power", ok=True) is None
    assert orders.note("a", "power", ok=False, detail="no answer") is None
    assert orders.note("a", "canary", ok=False, detail="slow") is None
    entry = orders.note("a", "power", ok=False, detail="BMC\nsilent")
    assert entry is not None
    assert "power failed 2 times in a row: no answer; BMC silent" in entry.reason
    assert lab.node("a").state is NodeState.QUARANTINED
    with pytest.raises(NoCanary):
        orders.restore("a", ROOT)
    orders.note("a", "canary", ok=True)
    assert orders.restore("a", ROOT)
    assert orders.note("a", "power", ok=False) is None, "it begins at nothing again"
    assert lab.health("a").failures_per_100 == pytest.approx(100 * 5 / 7)
    assert [one.action for one in lab.node_history("a")][-3:] == ["canary", "restore", "power"]


def test_a_retired_node_is_gone_until_it_is_added(opened: Callable[..., Reservations]) -> None:
    lab = opened()
    orders = NodeOrders(lab)
    orders.retire("c", "sold", ROOT)
    assert lab.node("c").state is NodeState.RETIRED
    with pytest.raises(NodesUnknown):
        lab.reserve(wants(3), ANN)
    orders.add("c", "back again", ROOT, facts={"nic_speed": "100"})
    assert lab.node("c").facts == {"cores": "32", "nic_speed": "100"}
    assert lab.reserve(wants(where="nic_speed >= 100"), ANN).nodes == ("c",)


def test_what_many_nodes_have_passed_is_written_down_at_once(opened: Callable[..., Reservations]) -> None:
    lab = opened(MACHINES)
    NodeOrders(lab).passed(["b", "a"], ["power", "provision"], reservation_id="r1")
    for node in "ab":
        history = [(one.action, one.ok, one.actor) for one in lab.node_history(node)]
        assert history == [("power", True, "perfci"), ("provision", True, "perfci")]
    assert lab.node_history("c") == ()
