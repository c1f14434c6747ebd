"""Jobs that upgrade or migrate: what Ansible gets, and how they are run again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perfci.results.archive import RunFiles
from perfci.runs.ansible.lab_playbooks import cloud_variables
from perfci.runs.jobs.model import Job
from perfci.runs.verdicts.rerun_jobs import rerun_job
from perfci.runs.verdicts.rerun_round import scenarios_of

ROOT = Path("/srv/perfci")
FILTER = {"name": "slow", "source": "jobs/demo/slow_lists.py", "factory": "slow_lists:factory"}


@pytest.fixture
def upgrade():
    return Job.model_validate(
        {
            "name": "upgrade",
            "procedure": "upgrade",
            "base": {
                "constraints": "jobs/constraints/2026.1.txt",
                "nova": {"version": "33.0.0", "patches": ["old.patch"]},
            },
            "sources": {"neutron": {"filters": [FILTER]}},
        }
    )


@pytest.fixture
def migration():
    databases = {"glance": {"tables": {"images": 1}}, "neutron": {"dump": "dumps/neutron.sql.gz"}}
    return Job.model_validate(
        {"name": "m", "procedure": "dbmigration", "dbmigration": {"databases": databases, "sizes": [10]}}
    )


def test_an_upgrade_deploys_the_base_and_knows_the_target(upgrade):
    variables = cloud_variables(upgrade, ROOT)
    assert variables["openstack_sources"] == {
        "nova": {"version": "33.0.0", "patches": ["/srv/perfci/old.patch"]}
    }
    assert variables["upgrade_sources"] == {"neutron": {"patches": []}}
    assert variables["upgrade_filters"] == [{**FILTER, "source": "/srv/perfci/jobs/demo/slow_lists.py"}]
    assert variables["cloud_constraints"] == "/srv/perfci/jobs/constraints/2026.1.txt"
    assert variables["cloud_code_record"] == "base-code.json"
    # A variable from outside would win over the playbooks', which give the target's.
    assert "neutron_api_filters" not in variables


def test_a_migration_is_told_its_databases(migration):
    variables = cloud_variables(migration, ROOT)
    assert variables["dbmigration_databases"] == {
        "glance": {"start": [], "tables": {"images": 1.0}, "dump": ""},
        "neutron": {"start": [], "tables": {}, "dump": "/srv/perfci/dumps/neutron.sql.gz"},
    }
    assert variables["dbmigration_sizes"] == [10]
    assert "upgrade_sources" not in variables


def test_all_of_a_procedure_is_run_again(tmp_path, upgrade):
    phases = [{"action": "total", "at": 1.0, "values": {"seconds": 1.0}}]
    part = {"slug": "a", "scenario": "Upgrade.cloud", "arguments": {}, "status": "finished", "phases": phases}
    times = {"started_at": 1.0, "finished_at": 2.0}
    (tmp_path / "phases.json").write_text(json.dumps([{**part, **times}]))
    places = scenarios_of(RunFiles(tmp_path))
    assert list(places.values()) == [[0]]
    again = rerun_job(upgrade, upgrade, (), [0])
    assert again.model_copy(update={"name": "upgrade"}) == upgrade
    assert Job.model_validate(again.resolved()) == again
