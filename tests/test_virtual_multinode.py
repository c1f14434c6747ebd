"""Nights on three machines: the control plane of a cloud with real agents, and its data plane.

The machines are nspawn nodes of the virtual lab, so this needs root; see test_virtual_night.py.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
import yaml
from multinode_cloud import NODES
from virtual_labs import needs_nspawn, perfci, project_for_nights

from perfci.results.archive import read_archive
from perfci.results.leftovers import read_leftovers
from perfci.results.model import TOTAL, Metric

pytestmark = [pytest.mark.virtual, pytest.mark.timeout(3600), *needs_nspawn]


@pytest.fixture(scope="module")
def environ(tmp_path_factory):
    return {**project_for_nights(tmp_path_factory.mktemp("m")), "PERFCI_LAB": "virtual"}


@pytest.fixture(scope="module")
def run(environ):
    code, now = perfci(environ, "virtual", "up", "--nodes", str(len(NODES)), "--kind", "nspawn")
    assert code == 0, now
    yield perfci(environ, "run", "multinode")
    perfci(environ, "virtual", "down")
    perfci(environ, "clean", "--yes", "--purge")


def test_the_night_ends_well(run):
    code, outcome = run
    assert outcome["failure"] is None
    assert (code, outcome["status"], outcome["valid"], outcome["later"]) == (0, "finished", True, [])


def test_every_machine_was_measured(run):
    folder = Path(run[1]["folder"])
    results = read_archive(folder)
    totals = [m for m in results.measurements if (m.key.action, m.key.metric) == (TOTAL, Metric.SECONDS)]
    assert len(totals) == 5
    assert all(one.failures == 0 for one in totals)
    counted = {m.key.action for m in results.measurements if m.key.metric is Metric.CPU_SECONDS}
    assert {"nova-api", "mariadb", "neutron-openvswitch-agent", "ovs-vswitchd", "nova-compute"} <= counted
    assert any(m.key.metric is Metric.SQL_STATEMENTS for m in results.measurements)
    for node in NODES:
        assert (folder / "counters" / f"{node}.jsonl").exists()
        assert (folder / "canaries" / f"{node}-after.json").exists()
        with tarfile.open(folder / "logs" / f"{node}.tar.gz") as logs:
            assert any(name.endswith("neutron-openvswitch-agent.log") for name in logs.getnames())


def test_the_record_says_who_played_what(run):
    folder = Path(run[1]["folder"])
    facts = json.loads((folder / "run.json").read_text())["environment"]["facts"]
    assert facts["cloud"]["parts"] == {
        "node-1": ["controller", "network"],
        "node-2": ["compute"],
        "node-3": ["compute", "load"],
    }
    assert facts["cloud"]["datapath"] == "netdev"
    assert set(facts["nodes"]) == set(NODES)
    several = yaml.safe_load((folder / "parts.yml").read_text())["all"]["children"]["cloud_several"]
    assert "cloud_load" in several["children"]["cloud_multinode"]["children"]


@pytest.fixture(scope="module")
def dataplane(environ, run):  # after that night: the nodes are its
    return perfci(environ, "run", "dataplane")


def test_every_path_of_the_data_plane_carries_packets_and_keeps_out_what_it_must(dataplane):
    code, outcome = dataplane
    assert (code, outcome["failure"], outcome["status"]) == (0, None, "finished")
    results = read_archive(Path(outcome["folder"]))
    totals = [m for m in results.measurements if (m.key.action, m.key.metric) == (TOTAL, Metric.SECONDS)]
    assert [(len(one.values), one.failures) for one in totals if "first_packet" in one.key.scenario] == [
        (10, 0)
    ]
    assert [(len(one.values), one.failures) for one in totals if "first_packet" not in one.key.scenario] == [
        (3, 0)
    ] * 4


def test_first_packet_round_trips_and_throughput_are_series(dataplane):
    found = {(m.key.action, m.key.metric): m for m in read_archive(Path(dataplane[1]["folder"])).measurements}
    assert len(found["dataplane.port_create_to_first_packet", Metric.SECONDS].values) == 10
    assert 0 < found["round trip", Metric.SECONDS].values[0] < 1
    rates = {
        action: m.values for (action, metric), m in found.items() if metric is Metric.MEGABITS_PER_SECOND
    }
    assert set(rates) == {
        f"{path}, {pairs}"
        for path in ("east-west", "east-west routed", "north-south, SNAT", "north-south, floating IP")
        for pairs in ("1 pair", "4 pairs")
    }
    assert all(len(values) == 1 and values[0] > 1 for values in rates.values())


def test_the_data_plane_leaves_nothing_behind(dataplane):
    left = read_leftovers(Path(dataplane[1]["folder"])).values()
    assert [one.found for one in left] == [()] * 5
