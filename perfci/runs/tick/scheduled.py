"""Which jobs start by themselves, and when. It imports little: `perfci status` asks it, too."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from perfci.errors import PerfciError
from perfci.runs.jobs.load import jobs, load_job

if TYPE_CHECKING:
    from datetime import datetime

    from perfci.config import Settings
    from perfci.runs.jobs.model import Job

AHEAD = timedelta(days=14)
"""How far ahead nights stand in the calendar."""


def scheduled(settings: Settings, problems: list[str]) -> list[Job]:
    """Return the jobs with a schedule; one that can't be read is a problem and keeps no other out."""
    found = []
    for name in jobs(settings.jobs_dir):
        try:
            job = load_job(name, settings.jobs_dir)
        except PerfciError as error:
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
