"""The past of one job on one lab: what all looking back starts from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from perfci.errors import UsageError
from perfci.results.model import FINISHED, Purpose
from perfci.results.validity import comparable
from perfci.runs.state.archive import run_folders
from perfci.runs.verdicts.judge import canary_histories, series_histories

if TYPE_CHECKING:
    from perfci.analysis.types import SeriesHistory
    from perfci.results.model import RunRecord
    from perfci.runs.verdicts.lab_services import LabServices


class NoPast(UsageError):
    """There is no finished run of the job to look back at."""

    template = "no finished run of {what} in {archive}"
    help = "`perfci run list` lists the runs. Run the job, or import archived runs: perfci results ingest"


@dataclass(frozen=True, slots=True)
class Past:
    """All runs of a job on a lab, oldest first, with what they measured and the lab's own canaries."""

    records: tuple[RunRecord, ...]
    series: tuple[SeriesHistory, ...]
    canaries: tuple[SeriesHistory, ...]

    @property
    def last(self) -> RunRecord:
        """The latest run."""
        return self.records[-1]


def past(controller: LabServices, job: str | None = None) -> Past:
    """Return the past of a job, or of the job that ran last. Raises NoPast."""
    last = _last_night(controller, job)
    return past_of(controller, last.lab, last.job)


def past_of(controller: LabServices, lab: str, job: str) -> Past:
    """Return the past of a job on a lab. Raises NoPast."""
    records = controller.local.records(lab, job)
    if not records:
        raise NoPast(what=f"{job!r}", archive=controller.state.archive)
    places = comparable(records)
    return Past(
        records,
        tuple(series_histories(controller, records, places)),
        tuple(canary_histories(controller, records, places)),
    )


def as_job(histories: tuple[SeriesHistory, ...], job: str) -> tuple[SeriesHistory, ...]:
    """Return series under the name of another job, which measures the same."""
    return tuple(replace(history, key=replace(history.key, job=job)) for history in histories)


def _last_night(controller: LabServices, job: str | None) -> RunRecord:
    for folder in reversed(run_folders(controller.state.archive)):
        record = controller.archived(folder.name).record
        wanted = record.purpose is Purpose.NIGHT if job is None else record.job == job
        if wanted and record.status == FINISHED:
            return record
    what = "any job" if job is None else repr(job)
    raise NoPast(what=what, archive=controller.state.archive)
