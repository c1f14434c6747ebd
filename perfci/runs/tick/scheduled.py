"""Which jobs start by themselves, and when. It imports little: `perfci status` asks it, too."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from perfci.errors import PerfciError
from perfci.runs.jobs.job_files import job_files, may_have_schedule

if TYPE_CHECKING:
    from datetime import datetime

    from perfci.config import Settings
    from perfci.runs.jobs.model import Job

AHEAD = timedelta(days=14)
"""How far ahead nights stand in the calendar."""


def scheduled(settings: Settings, problems: list[str] | None = None) -> list[Job]:
    """Return the jobs with a schedule; one that can't be read is a problem and keeps no other out.

    Without `problems`, files of jobs that have no schedule for sure are not read.
    """
    files = job_files(settings.jobs_dir)
    if problems is None:
        files = tuple(filter(may_have_schedule, files))
    if not files:
        return []
    from perfci.runs.jobs.load import load_job

    found = []
    for file in files:
        try:
            job = load_job(file.stem, settings.jobs_dir)
        except PerfciError as error:
            if problems is not None:
                problems.append(str(error))
            continue
        if job.schedule is not None:
            found.append(job)
    return found


def windows(job: Job, last: datetime | None, now: datetime) -> tuple[datetime, ...]:
    """Return the windows of a job from the last one that is known on, to AHEAD."""
    if job.schedule is None:
        return ()
    return tuple(job.schedule.windows(min(last or now, now), now + AHEAD))
