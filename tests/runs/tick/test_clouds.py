"""Clouds with a reservation: which can be asked for, when they are ready, and what becomes of one that fails."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from perfci import config
from perfci.database.engine import Database
from perfci.lab.errors import ReservationInvalid
from perfci.lab.model import Node
from perfci.lab.reservations.checks import Policy
from perfci.lab.reservations.model import Actor, BookingState, NodeWish, Request
from perfci.lab.reservations.service import Reservations
from perfci.parsing import NotReadable
from perfci.runs.ansible.playbook import Playbooks
from perfci.runs.jobs.clouds import GitBaseMissing, MachinesNeeded
from perfci.runs.tick.clouds import CloudDoesNotFit, CloudUnknown, cloud_check, cloud_job
from perfci.runs.tick.node_playbooks import cloud_groups, folder_of
from perfci.runs.tick.prepare import work_on

PROJECT = Path(__file__).parents[3]
NODES = tuple(Node(f"node-{number}", has_bmc=True, in_cloud=True) for number in range(1, 5))
ANN = Actor("ann")


@pytest.fixture
def settings(tmp_path):
    return config.load(
        environ={
            "PERFCI_ROOT_DIR": str(PROJECT),
            "PERFCI_STATE_DIR": str(tmp_path),
            "PERFCI_LAB": "example",
        }
    )


@pytest.fixture
def lab(settings):
    policy = Policy(check_cloud=cloud_check(settings))
    return Reservations(Database(settings.database_url), "example", NODES, policy=policy)


def reserved(lab, count=3, cloud="multinode"):
    return lab.reserve(Request(NodeWish(count), 3600, "x", cloud=cloud), ANN)


def test_the_cloud_of_a_job_or_of_a_kind(settings):
    assert cloud_job("libvirt", 3, settings).cloud.virt == "libvirt"
    of_kind = cloud_job("multinode", 4, settings)
    assert (of_kind.cloud.kind, of_kind.nodes.count) == ("multinode", 4)
    assert cloud_job("devstack", 2, settings).cloud.kind == "devstack"


@pytest.mark.parametrize(
    "name", ["nightyl", "../nightly", "jobs/nightly.yml", "/etc/passwd", "a b", "x" * 5000]
)
def test_an_unknown_cloud_and_a_path_are_refused(settings, name):
    with pytest.raises(CloudUnknown) as refused:
        cloud_job(name, 1, settings)
    assert len(str(refused.value)) < 500


def test_the_nearest_name_is_said(settings):
    with pytest.raises(CloudUnknown, match="nightly"):
        cloud_job("nightyl", 1, settings)


def test_a_cloud_on_too_few_or_too_many_nodes_is_refused_before_anything_is_written(lab):
    with pytest.raises(CloudDoesNotFit, match="one node"):
        reserved(lab, 2, "smoke")
    with pytest.raises(CloudDoesNotFit, match="at least as many"):
        lab.policy.check_cloud("multinode", 40)
    assert lab.of("ann") == ()


def test_a_lab_without_machines_has_no_cloud_on_several(settings):
    embedded = settings.model_copy(update={"lab": "embedded"})
    with pytest.raises(MachinesNeeded):
        cloud_check(embedded)("multinode", 3)
    cloud_check(embedded)("smoke", 1)
    with pytest.raises(GitBaseMissing):
        cloud_check(settings)("devstack", 1)


def test_another_system_than_the_labs_is_refused(lab):
    with pytest.raises(ReservationInvalid, match="debian12"):
        lab.reserve(Request(NodeWish(1), 3600, "x", os="windows"), ANN)
    assert lab.reserve(Request(NodeWish(1), 3600, "x", os="debian12"), ANN).os == "debian12"


def test_no_system_is_promised_on_a_machine_that_can_not_be_provisioned(settings):
    lab = Reservations(Database(settings.database_url), "embedded", [Node("node-0")])
    with pytest.raises(ReservationInvalid, match="without a BMC: node-0"):
        lab.reserve(Request(NodeWish(1), 3600, "x", os="debian12"), ANN)


def test_ready_only_when_the_cloud_has_booted_a_server(settings, lab):
    made = reserved(lab)
    played = []

    def play(playbook, names, reason):
        assert lab.show(made.id).state is BookingState.PREPARING
        played.append((playbook, names))
        return {}

    done = work_on(settings, lab, NODES, made.id, "one", play=play)
    three = ("node-1", "node-2", "node-3")
    assert played == [("provision", three), ("check", three), ("cloud", three)]
    assert done.state is BookingState.READY
    assert {one.action for one in lab.node_history("node-3")} == {"power", "provision", "canary", "smoke"}


def test_a_node_that_is_swapped_gets_the_cloud_deployed_again_on_all(settings, lab):
    made = reserved(lab)
    work_on(settings, lab, NODES, made.id, "one", play=lambda *_: {})
    assert lab.swap(made.id, "node-2", ANN).state is BookingState.PREPARING
    played = []
    done = work_on(settings, lab, NODES, made.id, "one", play=lambda *one: played.append(one[:2]) or {})
    assert played == [
        ("provision", ("node-4",)),
        ("check", ("node-4",)),
        ("cloud", ("node-1", "node-3", "node-4")),
    ]
    assert done.state is BookingState.READY


def test_a_cloud_that_fails_twice_ends_the_reservation_and_blames_no_machine(settings, lab):
    made = reserved(lab)
    played = []

    def play(playbook, names, reason):
        played.append(playbook)
        return dict.fromkeys(names, "nova: no valid host") if playbook == "cloud" else {}

    done = work_on(settings, lab, NODES, made.id, "one", play=play)
    assert played == ["provision", "check", "cloud"] * 2, "on fresh machines the second time"
    assert done.state is BookingState.ENDING
    failed = [one for one in lab.history(reservation_id=made.id) if one.action == "cloud failed"]
    assert [one.detail for one in failed] == ["nova: no valid host"]
    assert [one.name for one in lab.nodes() if one.quarantine] == []
    assert lab.health("node-1").failures == 0


def test_on_a_machine_without_a_bmc_the_cloud_is_all_there_is_to_do(settings):
    lab = Reservations(
        Database(settings.database_url),
        "embedded",
        [Node("node-0")],
        policy=Policy(check_cloud=lambda *_: None),
    )
    made = reserved(lab, 1, "smoke")
    assert made.state is BookingState.PREPARING
    played = []
    nodes = (Node("node-0", in_cloud=True),)
    work_on(settings, lab, nodes, made.id, "one", play=lambda *one: played.append(one[:2]) or {})
    assert lab.show(made.id).state is BookingState.READY
    lab.release(made.id, ANN)
    kept = folder_of(settings, made.id)
    kept.mkdir(parents=True)
    (kept / "clouds.yaml").write_text("clouds: {}\n")
    work_on(settings, lab, nodes, made.id, "one", play=lambda *one: played.append(one[:2]) or {})
    assert lab.show(made.id).state is BookingState.OVER
    assert played == [("cloud", ("node-0",)), ("teardown", ("node-0",))]
    assert not kept.exists(), "the access to the cloud is gone"


def test_the_playbooks_of_a_cloud_and_what_they_are_told(settings, lab, monkeypatch):
    made = reserved(lab)
    told = {}

    def run(books, name, *, variables, **_):
        told[name] = SimpleNamespace(books=books, variables=variables)

    monkeypatch.setattr(Playbooks, "run", run)
    assert work_on(settings, lab, NODES, made.id, "one").state is BookingState.READY
    assert list(told) == ["supplies", "provision", "check", "setup", "deploy", "access"]
    assert told["supplies"].variables["supplies_code"] is True
    assert told["deploy"].variables["cloud_kind"] == "multinode"
    parts = yaml.safe_load(told["deploy"].books.parts.read_text())
    assert "cloud_several" in parts["all"]["children"]
    assert "perfci_run_dir" not in told["check"].variables, "check.yml has a folder of its own on the node"
    assert cloud_groups(settings, made.id)["cloud_controller"] == ("node-1",)
    assert folder_of(settings, made.id).stat().st_mode & 0o777 == 0o700
    for damaged in ("all: {children", "all: {children: {}}", "", "[" * 5000):
        told["deploy"].books.parts.write_text(damaged)
        with pytest.raises(NotReadable):
            cloud_groups(settings, made.id)


def test_nodes_without_a_cloud_need_no_environments_of_python(settings, lab, monkeypatch):
    made = lab.reserve(Request(NodeWish(1), 3600, "x"), ANN)
    told = {}
    monkeypatch.setattr(Playbooks, "run", lambda _, name, *, variables, **__: told.update({name: variables}))
    assert work_on(settings, lab, NODES, made.id, "one").state is BookingState.READY
    assert list(told) == ["supplies", "provision", "check"]
    assert told["supplies"]["supplies_code"] is False
    assert cloud_groups(settings, made.id) == {}
