"""A night on devstack: a fresh node of the virtual lab, stack.sh, the storm of jobs/largeops.yml, and the node taken back.

Needs root, and PERFCI_GIT_BASE with devstack and the services; takes half an hour.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from virtual_labs import GIT_BASE, needs_devstack, perfci, project_for_nights

from perfci.results.archive import read_archive
from perfci.results.model import TOTAL, Metric

pytestmark = needs_devstack
STAGES = ["reserve", "provision", "deploy", "hammer", "collect", "release", "reclaim"]


@pytest.fixture(scope="module")
def environ(tmp_path_factory):
    return {
        **project_for_nights(tmp_path_factory.mktemp("d"), kept=("images", "mirror")),
        "PERFCI_GIT_BASE": GIT_BASE,
    }


@pytest.fixture(scope="module")
def run(environ):
    code, now = perfci(environ, "virtual", "up", "--nodes", "1", "--kind", "nspawn")
    assert code == 0, now
    yield perfci(environ, "run", "largeops", "--cloud", "devstack", "--lab", "virtual")
    perfci(environ, "virtual", "down")
    perfci(environ, "clean", "--yes")


def test_the_storm_was_measured(run):
    code, outcome = run
    assert outcome["failure"] is None
    assert (code, outcome["status"]) == (0, "finished")
    results = read_archive(Path(outcome["folder"]))
    totals = [m for m in results.measurements if (m.key.action, m.key.metric) == (TOTAL, Metric.SECONDS)]
    assert [(len(one.values), one.failures) for one in totals] == [(3, 0)]
    counted = {m.key.action for m in results.measurements if m.key.metric is Metric.CPU_SECONDS}
    assert {"n-api", "neutron-api", "keystone", "n-cpu", "mariadb", "rabbitmq"} <= counted


def test_the_record_says_exactly_what_ran(run):
    folder = Path(run[1]["folder"])
    document = json.loads((folder / "run.json").read_text())
    assert [one["name"] for one in document["stages"] if one["ok"]] == STAGES
    assert (document["cloud"], document["job"], document["cleanup_errors"]) == (
        "devstack",
        "largeops-devstack",
        [],
    )
    assert all(len(one["revision"]) == 40 for one in document["code"]["services"])
    assert document["versions"]["oslo-messaging"]
    assert document["environment"]["facts"]["cloud"]["kind"] == "devstack"


def test_the_logs_are_there_without_the_passwords(run, environ):
    folder = Path(run[1]["folder"])
    logs = subprocess.run(
        ["tar", "--to-stdout", "-xzf", str(folder / "logs" / "node-1.tar.gz")],
        capture_output=True,
        check=True,
    ).stdout
    assert b"stack.sh completed" in logs
    assert b"export DATABASE_PASSWORD=********" in logs or b"DATABASE_PASSWORD=********" in logs
