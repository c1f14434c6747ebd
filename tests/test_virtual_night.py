"""A night whose node is another machine: provisioned through its BMC, deployed with systemd, taken back.

The machine is an nspawn node of the virtual lab, so this needs root; the image that it gets is built once
and kept in the checkout's state folder.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from free_ports import port_base

from perfci.config import load
from perfci.lab.virtual.lab import PROGRAMS, site_name
from perfci.lab.virtual.plan import Kind
from perfci.results.archive import read_archive
from perfci.results.model import TOTAL, Metric
from perfci.runs.controller import Controller
from perfci.runs.processes import processes_of, run_of

REPOSITORY = Path(__file__).parents[1]
MISSING = [program for program in PROGRAMS[Kind.NSPAWN] if not shutil.which(program)]
pytestmark = [
    pytest.mark.virtual,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(os.geteuid() != 0, reason="the virtual lab needs root"),
    pytest.mark.skipif(bool(MISSING), reason=f"the virtual lab needs {', '.join(MISSING)}"),
]
STAGES = ["reserve", "provision", "deploy", "hammer", "collect", "release", "reclaim"]


@pytest.fixture(scope="module")
def environ(tmp_path_factory):
    """A project of its own, as the inventory of a virtual lab is written into it."""
    root = tmp_path_factory.mktemp("v")
    project, state = root / "project", root / "state"
    project.mkdir()
    for name in ("ansible.cfg", "jobs", "playbooks", "plugins", "roles"):
        (project / name).symlink_to(REPOSITORY / name)
    shutil.copytree(REPOSITORY / "inventory", project / "inventory", symlinks=True)
    (project / "inventory" / "virtual" / "hosts.yml").unlink(missing_ok=True)
    images = REPOSITORY / "state" / "images"
    images.mkdir(parents=True, exist_ok=True)
    state.mkdir()
    (state / "images").symlink_to(images)
    return {
        "PERFCI_ROOT_DIR": str(project),
        "PERFCI_STATE_DIR": str(state),
        "PERFCI_PORT_BASE": str(port_base()),
        # A container sees the whole machine's CPU time, and this is no test of quietness.
        "PERFCI_LIMITS__FOREIGN_CPU_SHARE": "1",
        "PERFCI_LIMITS__STEAL_SHARE": "1",
    }


def perfci(environ, *arguments):
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PERFCI_")}
    done = subprocess.run(
        [sys.executable, "-m", "perfci", *arguments, "--json"],
        env={**inherited, **environ},
        cwd=environ["PERFCI_ROOT_DIR"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def lab(environ):
    code, now = perfci(environ, "virtual", "up", "--nodes", "2", "--kind", "nspawn")
    assert code == 0, now
    yield now
    perfci(environ, "virtual", "down")
    perfci(environ, "clean", "--yes")


@pytest.fixture(scope="module")
def run(environ, lab):
    return perfci(environ, "run", "smoke", "--lab", "virtual")


@pytest.fixture
def controller(environ):
    return Controller(load(environ={**environ, "PERFCI_LAB": "virtual"}))


def test_the_night_ends_well(run):
    code, outcome = run
    assert outcome["failure"] is None
    assert (code, outcome["status"], outcome["valid"], outcome["later"]) == (0, "finished", True, [])


def test_it_was_measured_on_the_node(run):
    folder = Path(run[1]["folder"])
    results = read_archive(folder)
    totals = [m for m in results.measurements if (m.key.action, m.key.metric) == (TOTAL, Metric.SECONDS)]
    assert sorted(len(one.values) for one in totals) == [3, 6, 10]
    assert all(one.failures == 0 for one in totals)
    counted = {m.key.action for m in results.measurements if m.key.metric is Metric.CPU_SECONDS}
    assert {"nova-api", "neutron-api", "mariadb", "rabbitmq"} <= counted
    assert {path.name for path in (folder / "canaries").iterdir()} == {
        "node-1-before.json",
        "node-1-after.json",
    }
    assert (folder / "logs" / "node-1.tar.gz").exists()


def test_the_record_names_the_stages_and_what_the_node_is(run):
    document = json.loads((Path(run[1]["folder"]) / "run.json").read_text())
    assert [one["name"] for one in document["stages"] if one["ok"]] == STAGES
    assert document["cleanup_errors"] == []
    assert document["lab"] == "virtual"
    node = document["environment"]["facts"]["nodes"]["node-1"]
    assert node["machine"]["virtualization"] == "systemd-nspawn"
    assert node["tuning"]["background"] == "in effect: stopped"
    assert node["tuning"]["wake_up"] == "not available"
    assert node["packages"]["mariadb-server"]
    assert document["versions"]["nova"]


def test_the_node_is_off_and_free_again(run, environ, controller):
    _, status = perfci(environ, "virtual", "status")
    assert {node["name"]: node["power"] for node in status["nodes"]} == {"node-1": "off", "node-2": "off"}
    _, book = perfci({**environ, "PERFCI_LAB": "virtual"}, "status")
    assert (book["runs"], book["reservations"]) == ([], [])
    assert [process for process in processes_of(controller.state.root) if run_of(process)] == []


def test_two_environments_can_be_compared(run, environ):
    _, shown = perfci(environ, "run", "show", "last", "--against", "last")
    assert shown["differences"] == []


def test_no_secret_stands_in_the_archive(run, controller):
    secrets = [path.read_bytes().strip() for path in (controller.state.root / "virtual").glob("*password*")]
    assert secrets
    for file in Path(run[1]["folder"]).rglob("*"):
        text = file.read_bytes() if file.is_file() else b""
        assert not [one for one in secrets if one in text], file


def test_nothing_of_the_lab_is_left(environ, lab, run):
    _, removed = perfci(environ, "virtual", "down")
    assert removed
    state = Path(environ["PERFCI_STATE_DIR"])
    assert processes_of(state) == []
    assert not list(Path("/run/netns").glob(f"{site_name(state)}*"))
