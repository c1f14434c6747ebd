"""One night on the really deployed cloud, as a user starts it: `perfci run smoke`, on ports of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from free_ports import port_base
from shared_cache import share_cache

from perfci.config import load
from perfci.results.archive import read_archive
from perfci.results.model import TOTAL, Metric
from perfci.runs.ansible.embedded_influx import start_controller, stop_controller
from perfci.runs.ansible.lab_playbooks import playbooks
from perfci.runs.state.processes import processes_of
from perfci.runs.verdicts.lab_services import LabServices

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def environ(tmp_path_factory):
    state = tmp_path_factory.mktemp("lab")
    share_cache(state)
    # A machine that runs other tests is not quiet, and this is no test of quietness.
    return {
        "PERFCI_STATE_DIR": str(state),
        "PERFCI_PORT_BASE": str(port_base()),
        "PERFCI_LIMITS__FOREIGN_CPU_SHARE": "1",
        "PERFCI_LIMITS__STEAL_SHARE": "1",
    }


def perfci(environ, *arguments):
    command = [sys.executable, "-m", "perfci", *arguments, "--json"]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PERFCI_")}
    done = subprocess.run(
        command, env={**inherited, **environ}, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def run(environ):
    code, outcome = perfci(environ, "run", "smoke")
    yield code, outcome
    _, cleaned = perfci(environ, "clean", "--yes", "--purge")
    assert not Path(environ["PERFCI_STATE_DIR"]).exists()
    assert cleaned["ended"] == [], "the night left something running"


@pytest.fixture
def controller(environ):
    return LabServices(load(environ=environ))


def test_the_night_ends_well(run):
    code, outcome = run
    assert outcome["failure"] is None
    assert (code, outcome["status"], outcome["valid"], outcome["later"]) == (0, "finished", True, [])


def test_every_scenario_was_measured_with_its_actions_and_counters(run):
    results = read_archive(Path(run[1]["folder"]))
    totals = {
        m.key.scenario: m
        for m in results.measurements
        if (m.key.action, m.key.metric) == (TOTAL, Metric.SECONDS)
    }
    assert sorted(totals) == [
        "Authenticate.keystone",
        "NeutronNetworks.create_and_list_networks",
        "NovaServers.boot_and_delete_server",
    ]
    assert all(m.failures == 0 for m in totals.values())
    # Warm-up iterations are left out: the job asks for 10, 6 and 3 measured ones.
    assert [len(totals[name].values) for name in sorted(totals)] == [10, 6, 3]
    by_name = {(m.key.scenario, m.key.action, m.key.metric): m for m in results.measurements}
    boot = "NovaServers.boot_and_delete_server"
    assert by_name[boot, "nova.boot_server", Metric.SECONDS].values
    assert by_name[boot, "nova-compute", Metric.CPU_SECONDS].values[0] > 0
    assert by_name[boot, "neutron", Metric.SQL_STATEMENTS].values[0] > 0


def test_no_task_left_anything_in_the_cloud(run):
    swept = json.loads((Path(run[1]["folder"]) / "leftovers.json").read_text())
    assert [(one["found"], one["error"]) for one in swept] == [([], None)] * 3


def test_the_record_names_exact_versions_and_the_stages(run):
    document = json.loads((Path(run[1]["folder"]) / "run.json").read_text())
    versions = {one["service"]: one["version"] for one in document["code"]["services"]}
    assert sorted(versions) == ["glance", "keystone", "neutron", "nova", "placement"]
    assert document["versions"]["nova"] == versions["nova"]
    assert document["environment"]["facts"]["nodes"]["node-0"]["packages"]["mariadb-server"]
    assert [one["name"] for one in document["stages"] if one["ok"]] == [
        "reserve", "provision", "deploy", "hammer", "collect", "release",
    ]  # fmt: skip


def test_influxdb_has_what_the_archive_has(run, controller):
    start_controller(playbooks(controller.settings), controller.state)
    try:
        stored = controller.influx.results(run[1]["run"])
    finally:
        stop_controller(controller.state)
    assert stored == controller.local.results(run[1]["run"])
    assert len(stored.measurements) == len(run[1]["judgements"])


def test_nothing_runs_and_nothing_is_held_afterwards(run, environ, controller):
    assert processes_of(controller.state.root) == []
    _, status = perfci(environ, "status")
    assert (status["runs"], status["services"], status["reservations"]) == ([], [], [])
    assert status["archived"] == 1
    assert status["not_in_influxdb"] == []


def test_no_secret_stands_in_the_archive_or_in_the_logs(run, controller):
    secrets = [file.read_text().strip() for file in (controller.state.root / "secrets").iterdir()]
    assert len(secrets) > 10
    places = [Path(run[1]["folder"]), controller.state.site, controller.state.mail, controller.state.logs]
    for place in places:
        for file in place.rglob("*"):
            text = file.read_bytes() if file.is_file() else b""
            assert not [one for one in secrets if one.encode() in text], file
