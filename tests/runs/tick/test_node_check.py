"""An admin's check of a node, with playbooks that only say whether they passed."""

from __future__ import annotations

import pytest
from calendars import ANN, MACHINES, PLAIN, ROOT, Clock, wants

from perfci.database.engine import Database
from perfci.lab.errors import AdminsOnly, NodeNotProvisioned, NodesUnknown
from perfci.lab.reservations.node_orders import NodeOrders
from perfci.lab.reservations.service import Reservations
from perfci.runs.tick.node_check import check_node


@pytest.fixture
def opened(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/lab.db")
    return lambda nodes: Reservations(database, "lab", nodes, clock=Clock())


@pytest.fixture
def lab(opened):
    lab = opened(MACHINES)
    NodeOrders(lab).quarantine("a", "no DHCP", ROOT)
    return lab


class Plays:
    """Playbooks; those in `fails` fail, with these words or by raising this error."""

    def __init__(self, **fails):
        self.fails, self.ran = fails, []

    def __call__(self, playbook, names, reason):
        assert (names, reason) == (("a",), "a check by root")
        self.ran.append(playbook)
        words = self.fails.get(playbook)
        if isinstance(words, BaseException):
            raise words
        return {"a": words} if words else {}


def steps(lab):
    return [(one.action, one.ok) for one in lab.node_history("a") if one.action != "quarantine"]


def test_a_machine_with_a_fresh_system_and_a_canary_can_be_restored(lab):
    play = Plays()
    assert not check_node(lab, "a", ROOT, play, provision=True)
    assert play.ran == ["provision", "check", "reclaim"]
    assert steps(lab) == [("power", True), ("provision", True), ("canary", True), ("reclaim", True)]
    assert NodeOrders(lab).restore("a", ROOT)


def test_canaries_alone_touch_nothing_else(lab):
    play = Plays(check="a: too slow")
    assert check_node(lab, "a", ROOT, play) == "a: too slow"
    assert (play.ran, steps(lab)) == (["check"], [("canary", False)])


@pytest.mark.parametrize(
    ("fails", "ran", "noted"),
    [
        ("provision", ["provision", "reclaim"], [("provision", False), ("reclaim", True)]),
        (
            "check",
            ["provision", "check", "reclaim"],
            [("power", True), ("provision", True), ("canary", False), ("reclaim", True)],
        ),
        (
            "reclaim",
            ["provision", "check", "reclaim"],
            [("power", True), ("provision", True), ("canary", True), ("reclaim", False)],
        ),
    ],
)
def test_a_machine_is_switched_off_whatever_fails(lab, fails, ran, noted):
    play = Plays(**{fails: "a: it is broken"})
    assert check_node(lab, "a", ROOT, play, provision=True) == "a: it is broken"
    assert (play.ran, steps(lab)) == (ran, noted)


def test_a_machine_is_switched_off_after_an_interrupt(lab):
    play = Plays(check=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        check_node(lab, "a", ROOT, play, provision=True)
    assert play.ran == ["provision", "check", "reclaim"]


def test_nobody_loses_a_system(lab, opened):
    play = Plays()
    with pytest.raises(AdminsOnly):
        check_node(lab, "a", ANN, play, provision=True)
    with pytest.raises(NodesUnknown):
        check_node(lab, "z", ROOT, play, provision=True)
    with pytest.raises(NodeNotProvisioned, match="put it into quarantine first"):
        check_node(lab, "b", ROOT, play, provision=True)
    held = lab.reserve(wants(), ANN)
    NodeOrders(lab).quarantine("b", "a fan", ROOT)
    with pytest.raises(NodeNotProvisioned, match=f"ann has it \\(reservation {held.id}"):
        check_node(lab, "b", ROOT, play, provision=True)
    with pytest.raises(NodeNotProvisioned, match="no BMC"):
        check_node(opened(PLAIN), "a", ROOT, play, provision=True)
    assert play.ran == []
