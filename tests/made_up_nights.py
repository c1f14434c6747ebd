"""Nights that take no time: what `runs.night` would archive, made up from a recorded Rally report."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import archives
import yaml

from perfci.runs.publish.after_run import Aftermath
from perfci.runs.state.archived_run import ArchivedRun
from perfci.runs.state.progress import Silent
from perfci.runs.state.run_folder import new_run_id, utc_now
from perfci.runs.state.stages import Stages
from perfci.runs.verdicts.lab_services import LabServices

if TYPE_CHECKING:
    from pathlib import Path

    from perfci.config import Settings
    from perfci.runs.jobs.model import Job
    from perfci.runs.publish.after_run import NightOutcome


class Killed(BaseException):
    """As if the process were gone."""


@dataclass
class MadeUpNights:
    """Stands where `assemble.night` does; `kill_at` is the number of the run (from 1) that ends the process."""

    archive: Path
    kill_at: int = 0
    jobs: list[Job] = field(default_factory=list)
    """Of the runs that were archived."""

    def __call__(self, job: Job, settings: Settings, **_: object) -> _Night:
        return _Night(self, job, Aftermath(LabServices(settings)))


@dataclass
class _Night:
    nights: MadeUpNights
    job: Job
    aftermath: Aftermath

    def run(self) -> NightOutcome:
        number = len(self.nights.jobs) + 1
        if number == self.nights.kill_at:
            self.nights.kill_at = 0
            raise Killed
        self.nights.jobs.append(self.job)
        # A while ago, and a second apart, as ids tell seconds.
        now = utc_now() - timedelta(minutes=10) + timedelta(seconds=number)
        folder = archives.night(
            self.nights.archive,
            number,
            run_id=new_run_id(self.job.name, now),
            job=self.job.name,
            started_at=now,
            finished_at=now + timedelta(seconds=1),
        )
        (folder / "job.yml").write_text(yaml.safe_dump(self.job.resolved()))
        return self.aftermath.of(ArchivedRun(folder), Stages(Silent()))
