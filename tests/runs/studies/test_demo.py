"""What the demo checks: each expectation, met and not met, on nights that were analysed for real."""

from __future__ import annotations

from dataclasses import replace

import pytest
import reruns
from paired_runs import paired_night

from perfci import config
from perfci.analysis.sequential_test import Side
from perfci.results.model import Validity
from perfci.runs.ansible.lab_playbooks import cloud_variables
from perfci.runs.jobs.load import load_job
from perfci.runs.publish.after_run import Aftermath
from perfci.runs.state.archived_run import ArchivedRun
from perfci.runs.state.progress import Silent
from perfci.runs.state.stages import Stages
from perfci.runs.studies.demo import (
    BASELINE,
    ENDS,
    RUNS,
    SLOW,
    SLOW_DOWN,
    DemoResult,
    checks,
    noise,
    with_filters,
)
from perfci.runs.verdicts.lab_services import LabServices

SLOWED = {"factor": 1.08, "code": "bbbbbbbbbbbb", "changes": ("slow-lists@1f2e3d4c",)}


@pytest.fixture
def play(tmp_path):
    """Analyse the nights of each phase; `slowed` is what is different in the second."""
    controller = LabServices(
        config.load(environ={"PERFCI_STATE_DIR": str(tmp_path), "PERFCI_INFLUX__URL": "http://127.0.0.1:9"})
    )

    def go(slowed, baseline=None, again=None):
        outcomes, number = {}, 0
        for phase, runs in RUNS.items():
            outcomes[phase] = []
            for _ in range(runs):
                number += 1
                how = dict(slowed if phase == SLOW else (baseline or {}) if phase == BASELINE else {})
                factor = how.pop("factor", 1.0)
                folder = paired_night(controller.state.archive, number, factor=factor, **how)
                factors = {Side.OLD: 1.0, Side.NEW: again or slowed["factor"]}
                nodes = reruns.FakePairLab(controller.state.archive, folder, factors).nodes()
                done = Aftermath(controller).of(ArchivedRun(folder), Stages(Silent()), nodes)
                outcomes[phase].append(done)
                if any(one.kind is ENDS.get(phase) for one in done.told):
                    break
        return outcomes

    return go


def found(outcomes):
    return {check.expected: check.ok for check in checks(outcomes)}


def test_all_is_as_expected(play):
    outcomes = play(SLOWED)
    results = found(outcomes)
    assert len(results) == 8
    assert all(results.values()), [one for one in checks(outcomes) if not one.ok]
    shown = DemoResult(outcomes, checks(outcomes))
    assert shown.exit_code == 0
    assert any("NeutronNetworks.create_and_list_ports" in line for line in noise(outcomes))


def test_a_slow_down_that_was_not_found_is_a_failure(play):
    outcomes = play({**SLOWED, "factor": 1.0})
    results = found(outcomes)
    assert not results["one alert for the slow-down"]
    assert not results["one closing mail after the fix"]
    assert DemoResult(outcomes, checks(outcomes)).exit_code == 1


def test_a_slow_down_that_re_runs_do_not_confirm_is_a_failure(play):
    outcomes = play(SLOWED, again=1.0)
    assert not found(outcomes)["one alert for the slow-down"]
    assert DemoResult(outcomes, checks(outcomes)).exit_code == 1


def test_an_alert_without_re_runs_is_a_failure(play):
    outcomes = play(SLOWED)
    alert = next(one.alert for one in outcomes[SLOW][0].told if one.alert)
    bare = replace(alert, series=tuple(replace(one, confirmation=None) for one in alert.series))
    told = tuple(replace(one, alert=bare) for one in outcomes[SLOW][0].told)
    outcomes[SLOW][0] = replace(outcomes[SLOW][0], told=told)
    results = found(outcomes)
    assert not results["re-runs of both revisions confirm it"]


def test_an_alert_that_does_not_name_the_revision_is_a_failure(play):
    results = found(play({**SLOWED, "changes": ("other@00000000",)}))
    assert results["one alert for the slow-down"]
    assert not results["it names the revision that changed"]


def test_an_unfit_lab_is_too_noisy_to_tell(play):
    unfit = {"validity": Validity(valid=False, reasons=("the disk is slow",))}
    (only,) = checks(play(SLOWED, baseline=unfit))
    assert not only.ok
    assert only.found.startswith("too noisy to tell: ")
    assert "the disk is slow" in only.found


def test_a_run_that_failed_ends_the_demo(play):
    (only,) = checks(play(SLOWED, baseline={"status": "failed"}))
    assert not only.ok
    assert "nova-api did not answer" in only.found


def test_the_filter_is_code_under_test_and_no_environment():
    settings = config.load()
    job = load_job("demo", settings.jobs_dir)
    slow = with_filters(job, [SLOW_DOWN])
    assert slow.job_digest == job.job_digest
    (given,) = cloud_variables(slow, settings.root_dir)["neutron_api_filters"]
    assert given == {
        "name": "slow-lists",
        "source": str(settings.root_dir / "jobs/demo/slow_lists.py"),
        "factory": "slow_lists:factory",
    }
    assert cloud_variables(job, settings.root_dir)["neutron_api_filters"] == []
