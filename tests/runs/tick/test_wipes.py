"""Disks are wiped when their machines are taken back, else before the next one gets them; with recorded playbooks."""

from __future__ import annotations

import pytest

from perfci import config
from perfci.database.engine import Database
from perfci.lab.model import Node
from perfci.lab.reservations.model import Actor, BookingState, NodeState, NodeWish, Request, Wipe
from perfci.lab.reservations.node_orders import NodeOrders
from perfci.lab.reservations.service import Reservations
from perfci.runs.ansible.playbook import PlaybookFailed, Playbooks
from perfci.runs.tick.prepare import work_on

NODES = (Node("node-1", has_bmc=True), Node("node-2", has_bmc=True))
ANN, BOB = Actor("ann"), Actor("bob")


@pytest.fixture
def settings(project):
    environ = {"PERFCI_ROOT_DIR": str(project.root), "PERFCI_STATE_DIR": str(project.state)}
    return config.load(environ=environ)


@pytest.fixture
def lab(settings):
    return Reservations(Database(settings.database_url), "embedded", NODES)


@pytest.fixture
def work(settings, lab, monkeypatch):
    """Do what is due for a reservation; return (playbook, nodes, what it wipes) of each that ran."""
    ran, refused = [], []

    def run(_, name, *, variables, limit_seconds, **__):
        ran.append((name, variables["provision_nodes"], variables.get("reclaim_wipe")))
        assert limit_seconds >= (86400 if variables.get("reclaim_wipe") == "full" else 0)
        if refused and refused[0] == name:
            refused.pop(0)
            raise PlaybookFailed(playbook=name, where="wipe", detail="disk is silent", log="x")

    monkeypatch.setattr(Playbooks, "run", run)

    def worked(one, *fails):
        refused[:] = fails
        ran.clear()
        work_on(settings, lab, NODES, one.id, "one")
        return [entry for entry in ran if entry[0] != "supplies"]

    return worked


def asked(lab, who=ANN, count=1, **fields):
    return lab.reserve(Request(NodeWish(count), 3600, "x", **fields), who)


def test_without_asking_nothing_is_wiped(lab, work):
    made = asked(lab)
    work(made)
    lab.release(made.id, ANN)
    assert work(made) == [("reclaim", "node-1", None)]


def test_at_the_end_each_machine_is_wiped_as_was_asked(lab, work):
    made = asked(lab, count=2, wipe=Wipe.HEADERS)
    assert work(made) == [("provision", "node-1,node-2", None), ("check", "node-1,node-2", None)]
    lab.release(made.id, ANN, node="node-2", wipe=Wipe.FULL)
    lab.release(made.id, ANN)
    assert work(made) == [("reclaim", "node-1", "headers")]
    (part,) = [one for one in lab.of("ann", over=True) if one.id != made.id]
    assert work(part) == [("reclaim", "node-2", "full")]
    again = asked(lab, BOB)
    assert [name for name, *_ in work(again)] == ["provision", "check"], "it is wiped once"
    lab.release(again.id, BOB)
    assert work(again) == [("reclaim", "node-1", None)]


def test_who_gets_a_machine_at_once_gets_it_wiped(lab, work):
    made = asked(lab, count=2, wipe=Wipe.FULL)
    work(made)
    lab.release(made.id, ANN, node="node-1")
    (part,) = [one for one in lab.of("ann", over=True) if one.id != made.id]
    after = asked(lab, BOB)
    assert after.nodes == ("node-1",)
    assert work(part) == [], "it is his already"
    assert work(after) == [
        ("reclaim", "node-1", "full"),
        ("provision", "node-1", None),
        ("check", "node-1", None),
    ]
    assert lab.show(after.id).state is BookingState.READY


def test_a_wipe_that_fails_is_tried_again_and_then_nobody_gets_the_machine(lab, work):
    made = asked(lab, wipe=Wipe.HEADERS)
    work(made)
    lab.release(made.id, ANN)
    assert work(made, "reclaim") == [("reclaim", "node-1", "headers")] * 2
    assert lab.node("node-1").state is NodeState.FREE

    made = asked(lab, wipe=Wipe.HEADERS)
    work(made)
    lab.release(made.id, ANN)
    assert work(made, "reclaim", "reclaim") == [("reclaim", "node-1", "headers")] * 2
    assert "disk is silent" in lab.node("node-1").quarantine.reason
    NodeOrders(lab).restore("node-1", Actor("root", admin=True), force=True)
    after = lab.reserve(Request(NodeWish(1, frozenset({"node-1"})), 3600, "x"), BOB)
    assert work(after)[0] == ("reclaim", "node-1", "headers"), "it is still owed"
