"""A whole virtual lab without machines: made, used over the network, killed, removed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml
from programs import needs, needs_root
from virtual_labs import NO_TRACES, Inside, plan, project_in, traces, until

from perfci.lab.virtual import inventory, lab
from perfci.lab.virtual.control import RequestRefused
from perfci.lab.virtual.errors import (
    FaultInvalid,
    ProgramsMissing,
    RootNeeded,
    VirtualInventoryTaken,
    VirtualLabBroken,
    VirtualLabDiffers,
    VirtualLabDown,
    VirtualPathTooLong,
)
from perfci.lab.virtual.plan import MachineKind

pytestmark = [pytest.mark.slow, needs_root, needs(*lab.PROGRAMS[MachineKind.NULL])]


@pytest.fixture
def wanted(tmp_path):
    """A plan of 200 nodes; nothing of it is left after the test."""
    one = plan(200, kind=MachineKind.NULL, state=tmp_path / "state", project=project_in(tmp_path))
    one.state_dir.mkdir()
    yield one
    lab.down(one.state_dir, one.project)
    assert traces(one.site) == NO_TRACES
    assert list(one.state_dir.iterdir()) == []
    assert not inventory.file_of(one.project).exists()


def daemon(one):
    """The process of a lab."""
    (found,) = (pid for pid in traces(one.site)["processes"])
    return psutil.Process(int(found))


def test_from_nothing_to_a_lab_and_back(wanted):
    status = lab.up(wanted)
    assert [node["name"] for node in status["nodes"]] == [f"node-{number}" for number in range(1, 201)]
    assert {node["power"] for node in status["nodes"]} == {"off"}
    hosts = yaml.safe_load(inventory.file_of(wanted.project).read_text())["all"]["children"]["nodes"]["hosts"]
    assert len(hosts) == 200
    first = daemon(wanted)
    assert lab.up(wanted) == status
    assert daemon(wanted) == first  # the same lab
    assert first.environ()["PERFCI_SERVICE"] == "virtual-lab"
    assert first.environ()["PERFCI_STATE_DIR"] == str(wanted.state_dir)
    assert lab.down(wanted.state_dir, wanted.project).namespaces == (wanted.site,)
    assert traces(wanted.site) == NO_TRACES
    assert not lab.down(wanted.state_dir, wanted.project)
    with pytest.raises(VirtualLabDown):
        lab.status(wanted.state_dir)
    with pytest.raises(VirtualLabDown):
        lab.entering(wanted.state_dir)


@needs("ipmitool")
def test_its_bmcs_are_reached_from_inside(wanted):
    lab.up(wanted)
    inside, last = Inside(wanted), wanted.nodes[-1]
    assert inside.bmc(last, "chassis", "power", "status") == "Chassis Power is off"
    inside.bmc(last, "chassis", "bootdev", "pxe")
    assert lab.status(wanted.state_dir)["nodes"][-1]["next_boot"] == "network"
    inside.bmc(last, "chassis", "power", "on")
    found = lab.status(wanted.state_dir)["nodes"][-1]
    assert (found["power"], found["stage"], found["next_boot"]) == ("on", "boots from network", "default")
    assert found["sessions"] == 0


def test_people_reach_its_bmcs_from_where_they_are(wanted):
    lab.up(wanted)
    of_the_lab = set(wanted.state_dir.iterdir())
    environ = {
        **{name: text for name, text in os.environ.items() if not name.startswith("PERFCI_")},
        "PERFCI_ROOT_DIR": str(wanted.project),
        "PERFCI_STATE_DIR": str(wanted.state_dir),
        "PERFCI_LAB": "virtual",
    }

    def perfci(*words):
        command = [sys.executable, "-m", "perfci", *words, "--json"]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)["nodes"]

    on = perfci("lab", "power", "on", "node-2", "node-200")
    assert {name: one["power"] for name, one in on.items()} == {"node-2": "on", "node-200": "on"}
    found = [node["name"] for node in lab.status(wanted.state_dir)["nodes"] if node["power"] == "on"]
    assert found == ["node-2", "node-200"]
    assert list(perfci("lab", "sensors", "node-2")) == ["node-2"]

    network = Path("/proc/thread-self/ns/net")
    before = network.stat().st_ino
    with lab.inside(wanted.state_dir):
        assert network.stat().st_ino != before
    assert network.stat().st_ino == before
    for kept in set(wanted.state_dir.iterdir()) - of_the_lab:  # what commands keep, such as the database
        shutil.rmtree(kept) if kept.is_dir() else kept.unlink()


def test_faults_are_set_shown_and_ended(wanted):
    lab.up(wanted)
    state = wanted.state_dir
    assert lab.set_faults(state, "node-7", ["drop=0.02", "hang"])["faults"] == {"hang": True, "drop": 0.02}
    assert lab.cycle_outlet(state, "node-7")["faults"] == {"drop": 0.02}
    with pytest.raises(RequestRefused, match="no node 'node-201'; there are: node-1 to node-200"):
        lab.set_faults(state, "node-201", ["hang"])
    with pytest.raises(RequestRefused, match="drop"):
        lab.set_faults(state, "node-7", ["drop=7", "hang"])
    with pytest.raises(FaultInvalid, match="did you mean"):
        lab.set_faults(state, "node-7", ["hangs"])
    faults = {node["name"]: node["faults"] for node in lab.status(state)["nodes"]}
    assert {name for name, found in faults.items() if found} == {"node-7"}
    assert lab.clear_faults(state, "node-7")["faults"] == {}


def test_another_lab_than_the_one_that_is_up(wanted):
    lab.up(wanted)
    other = plan(3, kind=MachineKind.NULL, state=wanted.state_dir, project=wanted.project)
    with pytest.raises(VirtualLabDiffers, match=r"200 null nodes .*; wanted: 3 null nodes"):
        lab.up(other)
    assert len(lab.status(wanted.state_dir)["nodes"]) == 200


def test_two_labs_at_once(wanted, tmp_path):
    other = plan(2, kind=MachineKind.NULL, state=tmp_path / "other", project=project_in(tmp_path / "b"))
    lab.up(wanted)
    try:
        lab.up(other)
        third = plan(2, kind=MachineKind.NULL, state=tmp_path / "third", project=other.project)
        with pytest.raises(VirtualInventoryTaken, match=r"the virtual lab in .*/other/virtual"):
            lab.up(third)
        lab.down(wanted.state_dir, wanted.project)
        assert len(lab.status(other.state_dir)["nodes"]) == 2
    finally:
        lab.down(other.state_dir, other.project)
    assert traces(other.site) == NO_TRACES


def test_a_killed_lab_is_told_and_made_anew(wanted):
    lab.up(wanted)
    daemon(wanted).kill()
    until(lambda: not traces(wanted.site)["processes"])
    with pytest.raises(VirtualLabBroken, match="it was killed"):
        lab.status(wanted.state_dir)
    assert len(lab.up(wanted)["nodes"]) == 200


def test_a_sweep_removes_a_killed_lab_and_no_other(wanted):
    lab.up(wanted)
    assert lab.sweep(wanted.state_dir, wanted.project) is None
    assert lab.status(wanted.state_dir)["namespace"] == wanted.site
    daemon(wanted).kill()
    assert lab.sweep(wanted.state_dir, wanted.project)
    assert traces(wanted.site) == NO_TRACES
    assert lab.sweep(wanted.state_dir, wanted.project) is None


def test_term_ends_it_in_good_order(wanted):
    lab.up(wanted)
    process = daemon(wanted)
    process.terminate()
    until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
    assert "going down" in (wanted.state_dir / "virtual" / "daemon.log").read_text()


def test_a_lab_that_stands_still_is_made_anew(wanted, monkeypatch):
    lab.up(wanted)
    daemon(wanted).suspend()
    monkeypatch.setattr("perfci.lab.virtual.control.TIMEOUT_SECONDS", 2)
    with pytest.raises(VirtualLabBroken, match="does not answer"):
        lab.status(wanted.state_dir)
    assert len(lab.up(wanted)["nodes"]) == 200


def test_of_a_lab_that_does_not_start_nothing_stays(wanted):
    (wanted.state_dir / "virtual" / "control.sock").mkdir(parents=True)
    broken = plan(2, kind=MachineKind.NULL, state=wanted.state_dir, project=wanted.project)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab, "_write_secret", lambda *_: None)  # so it has no password to read
        with pytest.raises(VirtualLabBroken, match="bmc-password"):
            lab.up(broken)
    assert traces(wanted.site) == NO_TRACES
    assert list(wanted.state_dir.iterdir()) == []


UP = """
import json, sys
from perfci.lab.virtual import lab
from perfci.lab.virtual.plan import Plan
lab.up(Plan.from_dict(json.loads(sys.argv[1])))
"""


@pytest.mark.parametrize("seed", range(8))
def test_killed_while_it_comes_up(wanted, seed):
    """The kill comes at any moment from the first instruction to after the end, often enough to hit all parts."""
    chance = random.Random(seed)  # noqa: S311 - the same moments each time
    with subprocess.Popen([sys.executable, "-c", UP, json.dumps(wanted.as_dict())]) as command:
        wait = chance.uniform(0.1, 0.9)
        try:
            command.wait(wait)
        except subprocess.TimeoutExpired:
            command.send_signal(signal.SIGKILL)
    if seed % 2:
        lab.down(wanted.state_dir, wanted.project)
        assert traces(wanted.site) == NO_TRACES
    else:
        assert len(lab.up(wanted)["nodes"]) == 200


def test_who_is_not_root_is_told(wanted, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(RootNeeded, match="`perfci virtual up` needs root"):
        lab.up(wanted)
    with pytest.raises(RootNeeded, match="`perfci virtual down` needs root"):
        lab.down(wanted.state_dir, wanted.project)
    assert lab.sweep(wanted.state_dir, wanted.project) is None
    monkeypatch.undo()


def test_a_machine_without_the_programs_is_told(wanted, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProgramsMissing, match="ip, nsenter, setsid"):
        lab.up(wanted)
    monkeypatch.undo()


def test_a_path_too_long_for_a_socket(wanted):
    deep = plan(1, kind=MachineKind.NULL, state=wanted.state_dir / ("x" * 90), project=wanted.project)
    with pytest.raises(VirtualPathTooLong, match="107 bytes"):
        lab.up(deep)
    assert not deep.state_dir.exists()


def test_two_commands_at_once(wanted):
    commands = [subprocess.Popen([sys.executable, "-c", UP, json.dumps(wanted.as_dict())]) for _ in range(3)]
    assert [command.wait(60) for command in commands] == [0, 0, 0]
    assert len(traces(wanted.site)["processes"]) == 1
