"""The lease is tied to the work: what may take longer than it is refused before anything starts."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from perfci.config import LimitSettings
from perfci.runs.jobs.load import jobs, load_job
from perfci.runs.jobs.model import Job
from perfci.runs.night.lease_time import LimitsBeyondLease, check_fits, needed

JOBS = Path(__file__).parents[3] / "jobs"


def job(**limits: int) -> Job:
    return Job.model_validate(
        {"name": "tiny", "scenarios": [{"task": "ports", "times": 4}], "limits": limits}
    )


def test_a_job_whose_stages_may_outlast_the_lease_is_refused_with_both_lengths() -> None:
    with pytest.raises(LimitsBeyondLease, match=r"job tiny: .* may take 25\.6 h .* 6\.0 h at most"):
        check_fits(job(hammer=86_400), 6)
    check_fits(job(hammer=86_400), 26)


def test_the_whole_run_counts_to_the_last_machine_given_back() -> None:
    assert needed(job(provision=900, deploy=100, hammer=200, collect=30)) == timedelta(
        seconds=900 + 330 + 540 + 300
    )


@pytest.mark.parametrize("name", jobs(JOBS))
def test_every_job_of_the_project_fits_into_the_default_lease(name: str) -> None:
    check_fits(load_job(name, JOBS), LimitSettings().run_hours)
