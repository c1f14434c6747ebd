"""`perfci calibrate`: unchanged code run again and again, to learn what each series can show.

The runs are archived under the job `<job>-calibrate` with the purpose `calibrate`: they are stored, but never
judged or reported, and are in nobody's baseline. What they show is kept in the database
(`publish.calibration_store`), from where trend pages and mails take it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from perfci.analysis.calibration import calibrate
from perfci.analysis.types import SeriesHistory
from perfci.errors import LabError
from perfci.results.model import CALIBRATE
from perfci.runs.night.assemble import night
from perfci.runs.night.take_back import kept_machines
from perfci.runs.publish.calibration_store import Calibration, keep_calibration, read_calibration
from perfci.runs.state.run_folder import utc_now
from perfci.runs.studies.job_history import NoPast, Past, as_job, past_of
from perfci.runs.verdicts.rerun_jobs import named, rerun_job
from perfci.runs.verdicts.trials import Spoilt, TrialBudget, Trials, Why, measured, unfinished
from perfci.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from perfci.analysis.types import RunPoint
    from perfci.config import Settings
    from perfci.results.model import RunRecord, SeriesKey
    from perfci.runs.jobs.model import Job
    from perfci.runs.state.progress import Progress
    from perfci.runs.verdicts.lab_services import LabServices

RESUMED_WITHIN = timedelta(days=1)
"""A calibration that was cut short longer ago begins from the start."""
_CODE = "code"


class CalibrationFailed(LabError):
    """Too many of the calibration's runs failed or were not valid."""

    template = "{bad} runs in a row did not count, the last because {reason}"
    help = (
        "`perfci run list` lists the runs, `perfci run show` says more. The next start continues with "
        "the valid runs so far; `perfci calibrate --from-history` uses them as they are."
    )


@dataclass(slots=True)
class _Repeats:
    """The rule of a calibration (`trials.Rule`): one side, again and again."""

    job: Job
    number: int
    record: RunRecord | None = None
    """The latest run that counted."""

    def next_side(self, done: Sequence[str], _seconds: Mapping[str, float]) -> str | None:
        """See Rule."""
        return _CODE if len(done) < self.number else None

    def observe(self, folder: Path, _wanted: str | None) -> str | Spoilt:
        """See Rule: from the first run that counts on, the code is fixed to what it deployed."""
        results = measured(folder)
        if isinstance(results, Spoilt):
            return results
        self.record = results.record
        again = rerun_job(self.job, self.job, results.record.code.services, range(len(self.job.scenarios)))
        self.job = again.model_copy(update={"name": self.job.name})
        return _CODE


def run(
    settings: Settings, controller: LabServices, job: Job, number: int, *, holder: str, progress: Progress
) -> Calibration:
    """Deploy and measure a job's code `number` times afresh, and write down what its series can show.

    The code is that of the first of these runs: branches are fixed to the commits that ran. A run that fails
    or is not valid is made up for; after three in a row, CalibrationFailed. A calibration that was cut short
    within the last day goes on where it was.
    """
    rule = _Repeats(_renamed(job), number)
    trials = Trials(rule)
    for folder in _unfinished(controller, rule.job, job.name):
        trials.resume(folder)
    if trials.done:
        progress.say(f"{counted(len(trials.done), 'run')} of an earlier start already count.")

    def measure(_side: str) -> Path:
        return night(rule.job, settings, holder=holder, progress=progress, kept=kept).run().folder

    with kept_machines(settings, holder=holder, progress=progress) as kept:
        end = trials.run(measure, TrialBudget())
    if end.error is not None:
        raise end.error
    if end.why is Why.SPOILT or rule.record is None:
        raise CalibrationFailed(bad=len(end.spoilt), reason=end.spoilt[-1].reason)
    ran = past_of(controller, rule.record.lab, rule.job.name)
    code = rule.record.code.digest
    same = {record.run_id for record in ran.records if record.code.digest == code}
    return _publish(controller, rule.record.lab, job.name, ran, same)


def _unfinished(controller: LabServices, renamed: Job, job: str) -> list[Path]:
    """Return the runs of a calibration that was cut short: those that none has published yet."""
    known = read_calibration(controller.database, controller.settings.lab, job)
    published = max(known.runs, default="") if known else ""
    found = unfinished(controller, [renamed], since=utc_now() - RESUMED_WITHIN)
    return [folder for folder in found if folder.name > published]


def from_history(controller: LabServices, lab: str, job: str) -> Calibration:
    """Take a job's nights and calibration runs so far, and write down what its series can show.

    Of each series the stretch since its last change point counts. Raises NoPast.
    """
    found = []
    for name in (job, f"{job}{CALIBRATE}"):
        try:
            found.append(past_of(controller, lab, name))
        except NoPast:
            continue
    if not found:
        raise NoPast(what=f"{job!r} on {lab}", archive=controller.state.archive)
    joined = _joined(found, job)
    return _publish(controller, lab, job, joined, {record.run_id for record in joined.records})


def _renamed(job: Job) -> Job:
    analysis = job.analysis.model_copy(
        update={"confirm": job.analysis.confirm.model_copy(update={"enabled": False})}
    )
    return job.model_copy(update={"name": named(job, CALIBRATE), "analysis": analysis})


def _joined(parts: Sequence[Past], job: str) -> Past:
    """Return several pasts as one, as if all had been runs of one job."""
    points: dict[SeriesKey, list[RunPoint]] = {}
    for part in parts:
        for history in as_job(part.series, job):
            points.setdefault(history.key, []).extend(history.points)
    series = tuple(
        SeriesHistory(key, tuple(sorted(found, key=lambda point: point.run_id)))
        for key, found in sorted(points.items())
    )
    records = sorted((record for part in parts for record in part.records), key=lambda one: one.run_id)
    return Past(tuple(records), series, ())


def _publish(controller: LabServices, lab: str, job: str, ran: Past, runs: Iterable[str]) -> Calibration:
    """Work a calibration out from some runs, and write it down."""
    wanted = set(runs)
    histories = [
        SeriesHistory(history.key, tuple(point for point in history.points if point.run_id in wanted))
        for history in as_job(ran.series, job)
    ]
    settings = controller.analysis_settings(ran.last)
    found = Calibration(
        lab=lab,
        job=job,
        environment=ran.last.environment,
        runs=tuple(sorted(wanted)),
        series=calibrate([history for history in histories if history.points], settings),
    )
    keep_calibration(controller.database, found)
    return found
