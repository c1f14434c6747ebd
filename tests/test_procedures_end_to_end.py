"""A small database really migrated and a small cloud really upgraded, as a user starts it: `perfci run FILE`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from free_ports import port_base
from shared_cache import share_cache

from perfci.results.archive import read_archive
from perfci.results.model import TOTAL, Metric

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
REPOSITORY = Path(__file__).parents[1]
ROWS = 40
MIGRATE = {
    "name": "small",
    "procedure": "dbmigration",
    "dbmigration": {
        "sizes": [ROWS, 4 * ROWS],
        "databases": {
            "placement": {"tables": {"allocations": 2, "consumers": 1, "resource_providers": 1}},
            "nova_api": {"tables": {"build_requests": 1}},
            "nova_cell1": {"tables": {"instances": 1, "compute_nodes": 0.1, "block_device_mapping": 1}},
        },
    },
}
BROKEN = {
    "name": "broken",
    "procedure": "dbmigration",
    "dbmigration": {
        "sizes": [5],
        "databases": {"glance": {"tables": {"imagse": 1}}},
    },
}
ADDS_COMPUTE_ID = "nova.1acf2c98e646_add_compute_id_to_instance"


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
def run(environ, tmp_path_factory):
    """Run a job; what it left running is looked at after the last one."""
    folder = tmp_path_factory.mktemp("jobs")

    def go(job):
        file = folder / f"{job['name']}.yml"
        file.write_text(yaml.safe_dump(job))
        return perfci(environ, "run", str(file))

    yield go
    _, cleaned = perfci(environ, "clean", "--yes", "--purge")
    assert cleaned["ended"] == [], "a run left something running"


def series(outcome):
    found = read_archive(Path(outcome["folder"])).measurements
    return {(m.key.scenario, m.key.action, m.key.metric): m.values[0] for m in found if m.values}


def test_databases_are_filled_and_migrated_revision_by_revision(run):
    code, outcome = run(MIGRATE)
    assert outcome["failure"] is None
    assert (code, outcome["status"], outcome["later"]) == (0, "finished", [])
    found = series(outcome)
    for size in (ROWS, 4 * ROWS):
        scenario = f"DbMigration.nova_cell1.{size}"
        # Which revisions there are, the release says; this one rewrites no row of `instances`, or all of them.
        assert found[scenario, ADDS_COMPUTE_ID, Metric.SECONDS] > 0
        assert found[scenario, "nova.online_data_migrations", Metric.ROWS_CHANGED] >= size
        assert found[scenario, TOTAL, Metric.SECONDS] > found[scenario, ADDS_COMPUTE_ID, Metric.SECONDS]
    checks = "placement.b5c396305c25_block_on_null_consumer"
    # It joins allocations, of which there are two for each row of the size.
    small, large = (found[f"DbMigration.placement.{n}", checks, Metric.ROWS_READ] for n in (ROWS, 4 * ROWS))
    assert small >= 2 * ROWS
    assert large >= 8 * ROWS
    assert {verdict["outcome"] for verdict in outcome["judgements"]} == {"no baseline"}


def test_a_table_that_the_schema_lacks_is_named_and_fails_the_run(run):
    code, outcome = run(BROKEN)
    assert (code, outcome["status"]) == (1, "failed")
    assert "glance-5: crashed: SchemaUnknown: the schema has no table imagse" in outcome["failure"]["message"]


UPGRADE = {
    "name": "small-upgrade",
    "procedure": "upgrade",
    "cloud": {"computes": 2},
    "base": yaml.safe_load((REPOSITORY / "jobs" / "upgrade.yml").read_text())["base"],
}


def test_a_cloud_is_upgraded_and_what_was_in_it_survives(run):
    code, outcome = run(UPGRADE)
    assert outcome["failure"] is None
    assert (code, outcome["status"], outcome["later"]) == (0, "finished", [])
    folder = Path(outcome["folder"])
    base = {
        one["service"]: one["version"]
        for one in json.loads((folder / "base-code.json").read_text())["services"]
    }
    document = json.loads((folder / "run.json").read_text())
    target = {one["service"]: one["version"] for one in document["code"]["services"]}
    assert base.keys() == target.keys()
    assert base["nova"] == UPGRADE["base"]["nova"]["version"] != target["nova"]
    seconds = {
        name: value for (_, name, metric), value in series(outcome).items() if metric is Metric.SECONDS
    }
    phases = ["stop", "configure", "schema", "start", "online_data_migrations", "verify"]
    assert seconds[TOTAL] == pytest.approx(sum(seconds[name] for name in phases))
    services = ["keystone", "placement", "glance", "nova", "neutron"]
    assert all(seconds[f"{name}.schema"] > 0 for name in services)
    # Nobody answered from the stop to the start; whoever came back last says when all do.
    assert all(seconds[f"{name}.downtime"] >= seconds["schema"] for name in services)
    assert seconds["apis.downtime"] >= max(seconds[f"{name}.downtime"] for name in services) - 0.001
    warnings = {name for _, name, metric in series(outcome) if metric is Metric.WARNINGS}
    assert {"keystone", "nova-api", "nova-compute", "neutron-rpc"} <= warnings
    assert list((folder / "logs" / "base").glob("nova-api.log"))
