"""A night whose node is another machine: provisioned through its BMC, deployed with systemd, taken back.

The machine is an nspawn node of the virtual lab, so this needs root; the image that it gets is built once
and kept in the checkout's state folder.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from virtual_labs import needs_nspawn, perfci, project_for_nights

from perfci.config import load
from perfci.lab.virtual.lab import site_name
from perfci.results.archive import read_archive
from perfci.results.model import TOTAL, Metric
from perfci.runs.state.processes import processes_of, run_of
from perfci.runs.verdicts.lab_services import LabServices

pytestmark = [pytest.mark.virtual, pytest.mark.timeout(3600), *needs_nspawn]
STAGES = ["reserve", "provision", "deploy", "hammer", "collect", "release"]


@pytest.fixture(scope="module")
def environ(tmp_path_factory):
    return project_for_nights(tmp_path_factory.mktemp("v"))


@pytest.fixture(scope="module")
def lab(environ):
    code, now = perfci(environ, "virtual", "up", "--nodes", "2", "--kind", "nspawn")
    assert code == 0, now
    yield now
    perfci(environ, "virtual", "down")
    perfci(environ, "clean", "--yes", "--purge")


@pytest.fixture(scope="module")
def run(environ, lab):
    return perfci(environ, "run", "smoke", "--lab", "virtual")


@pytest.fixture
def controller(environ):
    return LabServices(load(environ={**environ, "PERFCI_LAB": "virtual"}))


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
