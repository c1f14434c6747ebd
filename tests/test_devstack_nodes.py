"""A night on devstack with a sub-node: two fresh nodes of the virtual lab, stack.sh on one after the other, and what came of it.

Needs root, and PERFCI_GIT_BASE with devstack and the services; takes half an hour and more.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
import yaml
from virtual_labs import GIT_BASE, needs_devstack, perfci, project_for_nights

from perfci.results.archive import read_archive
from perfci.results.model import TOTAL, Metric

pytestmark = needs_devstack
JOB = {
    "name": "nodes",
    "cloud": {"kind": "devstack", "computes": 4},
    "nodes": 2,
    "limits": {"deploy": 3600},
    "scenarios": [
        {"task": "keystone-authenticate", "times": 6, "concurrency": 2, "warmup": 2},
        {"task": "nova-boot-and-delete-server", "times": 4, "warmup": 1},
    ],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("s")
    environ = {**project_for_nights(folder, kept=("images", "mirror")), "PERFCI_GIT_BASE": GIT_BASE}
    job = folder / "nodes.yml"
    job.write_text(yaml.safe_dump(JOB))
    code, now = perfci(environ, "virtual", "up", "--nodes", "2", "--kind", "nspawn")
    assert code == 0, now
    yield perfci(environ, "run", str(job), "--lab", "virtual")
    perfci(environ, "virtual", "down")
    perfci(environ, "clean", "--yes", "--purge")


@pytest.fixture
def folder(run):
    return Path(run[1]["folder"])


def logs(folder, node):
    with tarfile.open(folder / "logs" / f"{node}.tar.gz") as archive:
        return {
            Path(member.name).name: archive.extractfile(member).read().decode(errors="replace")
            for member in archive
            if member.isfile()
        }


def test_servers_ran_on_the_computes_of_the_sub_node(run, folder):
    code, outcome = run
    assert outcome["failure"] is None
    assert (code, outcome["status"], outcome["later"]) == (0, "finished", [])
    totals = [
        m
        for m in read_archive(folder).measurements
        if (m.key.action, m.key.metric) == (TOTAL, Metric.SECONDS)
    ]
    assert [(len(one.values), one.failures) for one in totals] == [(6, 0), (4, 0)]


def test_every_node_was_measured(folder):
    counted = {m.key.action for m in read_archive(folder).measurements if m.key.metric is Metric.CPU_SECONDS}
    assert {"n-cpu", "fake-agents", "n-cond-cell1", "q-agt", "mariadb"} <= counted
    for node in ("node-1", "node-2"):
        assert (folder / "counters" / f"{node}.jsonl").exists()
        assert (folder / "canaries" / f"{node}-after.json").exists()


def test_the_record_says_who_played_what(folder):
    cloud = json.loads((folder / "run.json").read_text())["environment"]["facts"]["cloud"]
    assert cloud["parts"] == {"node-1": ["controller", "network", "load"], "node-2": ["compute"]}
    assert (cloud["fake_computes"], cloud["computes"]) == ({"node-2": 4}, 4)


def test_each_node_ran_its_part_and_its_logs_have_no_passwords(folder):
    controller, sub = (logs(folder, node) for node in ("node-1", "node-2"))
    computes = {f"n-cpu-{number}.log" for number in range(1, 5)}
    assert computes <= set(sub)
    assert not computes & set(controller)
    assert {"n-api.log", "q-agt.log"} <= set(controller)
    assert "n-api.log" not in sub
    for found in (controller, sub):
        assert "stack.sh completed" in found["stack.sh.log.summary"]
        assert "rabbit://stackrabbit:********@" in found["stack.sh.log"]
