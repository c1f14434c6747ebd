"""Running an archived run again: the same job, fixed to the revisions that ran, and the comparison."""

from __future__ import annotations

import archives
import pytest

from perfci.cli.tables import reproduced_table
from perfci.config import load
from perfci.results.archive import read_archive
from perfci.results.model import Metric, ServiceRevision
from perfci.runs.jobs.fields import NAME_LENGTH
from perfci.runs.jobs.model import Job
from perfci.runs.state.progress import Silent
from perfci.runs.studies.reproduce import Comparison, pairs, reproduce
from perfci.runs.verdicts.lab_services import ArchivedJobInvalid
from perfci.runs.verdicts.rerun_jobs import rerun_job, same_job

RESOLVED = {
    "name": "nightly",
    "sources": {"neutron": {"git": "https://example.org/neutron", "ref": "master", "patches": ["a.patch"]}},
    "scenarios": [{"task": "ports", "times": 10}],
}
ARCHIVED = Job.model_validate(RESOLVED)
RAN = (
    ServiceRevision("neutron", "29.0.1.dev3", "https://example.org/neutron", "0123456789abcdef"),
    ServiceRevision("nova", "34.0.0", "wheel", "34.0.0"),
)


def test_a_branch_becomes_the_commit_that_ran_and_a_wheel_its_version():
    job = same_job(ARCHIVED, RAN)
    assert job.sources.neutron.ref == "0123456789abcdef"
    assert job.sources.neutron.patches == ("a.patch",)
    assert job.sources.nova.version == "34.0.0"
    assert Job.model_validate(job.resolved()) == job, "what is archived must load again"


def test_it_has_series_of_its_own_also_the_second_time():
    job = same_job(ARCHIVED, RAN)
    assert job.name == "nightly-reproduce"
    assert same_job(job, RAN).name == "nightly-reproduce"


NIGHT = Job.model_validate(
    {
        "name": "n" * NAME_LENGTH,
        "sources": {
            "neutron": {"git": "https://example.org/neutron", "ref": "master"},
            "nova": {"version": "35"},
        },
        "scenarios": [{"task": "ports", "times": 10}, {"task": "networks", "times": 5}],
    }
)


def test_a_re_run_takes_some_scenarios_of_the_night_on_the_code_of_another_run():
    before = Job.model_validate({**RESOLVED, "scenarios": [{"task": "other", "times": 1}]})
    job = rerun_job(NIGHT, before, RAN, [1])
    assert [scenario.task for scenario in job.scenarios] == ["networks"]
    assert job.sources.neutron.ref == "0123456789abcdef"
    assert job.sources.neutron.patches == ("a.patch",)
    assert job.sources.nova is None, "the constraints fix a release: both runs have the same"
    assert job.cloud == NIGHT.cloud
    assert Job.model_validate(job.resolved()) == job, "what is archived must load again"


def test_a_branch_that_only_the_cloud_names_is_fixed_too():
    devstack = Job(name="night", scenarios=NIGHT.scenarios).on("devstack")
    ran = (ServiceRevision("nova", "33.0.3.dev9", "https://example.org/openstack/nova", "fedcba9876543210"),)
    job = rerun_job(devstack, devstack, ran, [0])
    assert (job.sources.nova.git, job.sources.nova.ref) == (ran[0].source, ran[0].revision)
    assert Job.model_validate(job.resolved()) == job


def test_a_suffix_never_makes_a_name_too_long():
    assert rerun_job(NIGHT, NIGHT, (), [0]).name == "n" * (NAME_LENGTH - len("-confirm")) + "-confirm"
    assert Job.model_validate(same_job(NIGHT, ()).resolved()).name.endswith("n-reproduce")
    again = NIGHT.model_copy(update={"name": "short-confirm"})
    assert rerun_job(again, NIGHT, (), [0]).name == "short-confirm"


@pytest.mark.parametrize(
    ("text", "reason"),
    [("[" * 5000, "nested"), ("name: nightly\nscenarios: 5\n", "scenarios"), (None, "none")],
)
def test_a_run_whose_job_can_not_be_read_is_refused_by_name(tmp_path, text, reason):
    folder = archives.night(tmp_path / "archive", 1)
    (folder / "job.yml").unlink(missing_ok=True)
    if text is not None:
        (folder / "job.yml").write_text(text)
    with pytest.raises(ArchivedJobInvalid, match=reason) as refused:
        reproduce(folder, load(environ={"PERFCI_STATE_DIR": str(tmp_path)}), holder="me", progress=Silent())
    assert folder.name in str(refused.value)


def test_the_same_measurements_of_both_runs_are_paired(tmp_path):
    before = read_archive(archives.night(tmp_path, 1))
    after = read_archive(archives.night(tmp_path, 2, factor=1.5, job="nightly-reproduce"))
    found = {(pair.action, pair.metric): pair for pair in pairs(before, after)}
    assert found["total", Metric.SECONDS].change == pytest.approx(0.5, abs=0.05)
    assert found["total", Metric.FAILURE_RATE].change is None
    table = Comparison("a", "b", same_environment=True, pairs=tuple(found.values()), exit_code=0)
    assert len(reproduced_table(table).rows[0]) == len(reproduced_table(table).columns)
    assert table.as_dict()["series"][0]["now"] > table.as_dict()["series"][0]["then"]
