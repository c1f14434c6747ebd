"""The A/B of two forms of a job: deployed afresh in turns, judged scenario by scenario.

They differ in their constraints file (`compare`), or in exact code and options (`compare_jobs`).

The runs are archived under the job `<job>-compare`: they are stored, but never judged or told of, and are in
nobody's baseline. Under two constraints files branches are fixed to the commits that the first run deployed.
A run counts only where beside that nothing moved.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from perfci.analysis.ab_test import Finding, Versus, finding, wishes
from perfci.analysis.decision import Decision
from perfci.analysis.run_order import next_deployment
from perfci.analysis.sequential_test import ConfirmSettings, Side
from perfci.results.model import CALIBRATE, COMPARE, TOTAL, Metric, SeriesKey
from perfci.runs.ansible.lab_playbooks import CONSTRAINTS_VARIABLE
from perfci.runs.night.assemble import night
from perfci.runs.night.take_back import kept_machines
from perfci.runs.state.run_folder import utc_now
from perfci.runs.studies.environment_diff import environment_differences
from perfci.runs.studies.job_history import NoPast, as_job, past_of
from perfci.runs.verdicts.rerun_jobs import named, rerun_job
from perfci.runs.verdicts.trials import Spoilt, TrialBudget, Trials, Why, measured, unfinished
from perfci.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from perfci.analysis.ab_test import Runs
    from perfci.analysis.settings import AnalysisSettings
    from perfci.results.model import Measurement
    from perfci.runs.jobs.model import Confirm, Job
    from perfci.runs.state.progress import Progress
    from perfci.runs.verdicts.lab_services import LabServices
    from perfci.runs.verdicts.trials import TrialsEnd

HISTORY_RUNS = 20
PINS, CODE = "pins", "code"
"""What differs between the sides. Code is exact from the beginning; under pins branches are fixed later."""
_PINNED = ".constraints"
"""How the places in an environment end at which the pins show."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What the A/B has shown of each scenario, by (scenario, arguments); `ended` says why it ended early."""

    found: dict[SeriesKey, Finding]
    runs: tuple[str, ...]
    ended: str

    @property
    def undecided(self) -> bool:
        """Whether something could not be decided."""
        return not self.found or any(one.decision is Decision.UNKNOWN for one in self.found.values())

    @property
    def slower(self) -> bool:
        """Whether a scenario is proven to be slower."""
        return any(
            one.decision is Decision.DIFFERENT and one.effect is not None and one.effect.size > 0
            for one in self.found.values()
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return {
            "scenarios": [
                {
                    "scenario": key.scenario,
                    "arguments": key.arguments,
                    "verdict": str(one.decision),
                    "effect": one.effect.size if one.effect else None,
                    "low": one.effect.low if one.effect else None,
                    "high": one.effect.high if one.effect else None,
                    "old_runs": one.old_runs,
                    "new_runs": one.new_runs,
                }
                for key, one in sorted(self.found.items())
            ],
            "runs": list(self.runs),
            "ended": self.ended,
        }


@dataclass(slots=True)
class _Comparison:
    """The rule of the A/B (`trials.Rule`), and what it has seen so far."""

    controller: LabServices
    job: Job
    sides: dict[Side, Job]
    what: str
    holder: str
    progress: Progress
    series: dict[SeriesKey, Versus]
    runs: list[str] = field(default_factory=list)
    first: dict[Side, dict[str, Any]] = field(default_factory=dict)
    """The run.json of each side's first run."""

    @property
    def limits(self) -> Confirm:
        """How many runs and minutes the job allows."""
        return self.job.analysis.confirm

    @property
    def settings(self) -> ConfirmSettings:
        """When a question is answered. The budget of runs is the driver's: only it can say that it ended."""
        return ConfirmSettings(most_runs=self.limits.most_runs + 1)

    @property
    def analysis(self) -> AnalysisSettings:
        """How the job wants to be judged."""
        return self.controller.job_settings(self.job)

    def carry_out(self, since: datetime) -> Compared:
        """Measure until decided; runs of the same two sides that began at `since` or later count already."""
        trials = Trials(self)
        now, minutes = utc_now(), timedelta(minutes=self.limits.most_minutes)
        jobs = [self.sides[side] for side in Side]
        for folder in unfinished(self.controller, jobs, since=max(since, now - minutes)):
            trials.resume(folder)
        if trials.done:
            self.progress.say(f"{counted(len(trials.done), 'run')} of an earlier start already count.")

        def measure(side: Side) -> Path:
            if trials.spoilt:
                self.progress.say(f"It does not count: {trials.spoilt[-1].reason}")
            self.progress.say(
                f"Run {trials.tried + 1} of at most {self.limits.most_runs}: {side} {self.what}."
            )
            one = night(self.sides[side], settings, holder=self.holder, progress=self.progress, kept=kept)
            return one.run().folder

        settings = self.controller.settings
        with kept_machines(settings, holder=self.holder, progress=self.progress) as kept:
            end = trials.run(measure, TrialBudget(self.limits.most_runs, now + minutes))
        if end.error is not None:
            raise end.error
        found = {one.key: finding(one, self.analysis, self.settings) for one in self._measured()}
        return Compared(found, tuple(self.runs), self._why(end))

    def _measured(self) -> list[Versus]:
        return [one for one in self.series.values() if one.old or one.new]

    def next_side(self, done: Sequence[Side], _seconds: Mapping[Side, float]) -> Side | None:
        """See Rule: what most scenarios want, in blocks; the old side first."""
        if not done:
            return Side.OLD
        wanted = [side for one in self._measured() for side in wishes(one, self.analysis, self.settings)]
        return next_deployment(done, wanted)

    def _why(self, end: TrialsEnd) -> str:
        """Say why there are no more runs; empty where nobody wants any."""
        match end.why:
            case Why.SPOILT:
                last = end.spoilt[-1].reason
                return f"{len(end.spoilt)} runs in a row did not count, the last because {last}"
            case Why.RUNS:
                most = self.limits.most_runs
                return f"the {most} runs that analysis.confirm.most_runs allows were not enough"
            case Why.TIME:
                return f"the {self.limits.most_minutes} min of analysis.confirm.most_minutes were not enough"
            case _:
                return ""

    def _side_of(self, folder: Path) -> Side | None:
        """Return the side that an archived run was deployed from."""
        job = self.controller.job(folder.name)
        if job is None:
            return None
        alike = [side for side, one in self.sides.items() if one.cloud.variables == job.cloud.variables]
        if len(alike) > 1:  # what differs is the code
            ran = job.resolved().get("sources")
            alike = [side for side in alike if self.sides[side].resolved().get("sources") == ran]
        return alike[0] if len(alike) == 1 else None

    def observe(self, folder: Path, wanted: Side | None) -> Side | Spoilt:
        """See Rule: one more observation for every scenario."""
        results = measured(folder)
        if isinstance(results, Spoilt):
            return results
        side, record = self._side_of(folder), results.record
        document = self.controller.archived(folder.name).document
        if side is None or wanted not in (None, side):
            return Spoilt(f"{record.run_id} was deployed from other {self.what} than asked for", lab=False)
        if other := self._strange(side, document):
            return Spoilt(f"in {record.run_id} something beside the {self.what} moved: {other}")
        if not self.runs and self.what == PINS:
            self._fix(record.code.services)
        self.first.setdefault(side, document)
        for measurement in results.measurements:
            if _is_asked(measurement):
                key = replace(measurement.key, job=self.job.name)
                known = self.series.get(key, Versus(key))
                self.series[key] = known.observe(side, measurement.values)
        self.runs.append(record.run_id)
        return side

    def _strange(self, side: Side, document: dict[str, Any]) -> str:
        """Say what differs from the first run of this side, and beside the pins from that of the other."""
        for known, first in self.first.items():
            found = [
                one.place
                for one in environment_differences(first, document)
                if known is side or not (one.place.endswith(_PINNED) or one.place == "job")
            ]
            if known is side and first["code"]["digest"] != document["code"]["digest"]:
                found.append("code")
            if found:
                return ", ".join(found)
        return ""

    def _fix(self, services: tuple[Any, ...]) -> None:
        """Take the commits that ran for the branches of the job, from now on."""
        for side, job in self.sides.items():
            again = rerun_job(job, job, services, range(len(job.scenarios)))
            self.sides[side] = job.model_copy(update={"sources": again.sources})


def compare(
    controller: LabServices,
    job: Job,
    *,
    old: Path,
    new: Path,
    since: datetime,
    holder: str,
    progress: Progress,
) -> Compared:
    """Measure a job under two constraints files, until each scenario is decided or the job allows no more.

    `analysis.confirm` of the job says how many runs and minutes it may take. Runs under these files that
    began at `since` or later, and within those minutes, are part of it: a comparison that was killed goes on
    where it was. Raises what a run raises.
    """
    sides = {side: _pinned(job, file) for side, file in ((Side.OLD, old), (Side.NEW, new))}
    series = _series(controller, job)
    return _Comparison(controller, job, sides, PINS, holder, progress, series).carry_out(since)


def compare_jobs(
    controller: LabServices, job: Job, *, old: Job, new: Job, holder: str, progress: Progress
) -> Compared:
    """Measure two forms of a job that differ in exact code, options or pins, as `compare` does.

    Runs of these very two within the job's minutes count already. Raises what a run raises.
    """
    name = {"name": named(job, COMPARE), "reference": None}
    sides = {side: one.model_copy(update=name) for side, one in ((Side.OLD, old), (Side.NEW, new))}
    since = datetime.min.replace(tzinfo=UTC)
    series = _series(controller, job)
    return _Comparison(controller, job, sides, CODE, holder, progress, series).carry_out(since)


def _series(controller: LabServices, job: Job) -> dict[SeriesKey, Versus]:
    return {key: Versus(key, runs) for key, runs in _history(controller, job.name).items()}


def _pinned(job: Job, constraints: Path) -> Job:
    variables = {**job.cloud.variables, CONSTRAINTS_VARIABLE: str(constraints)}
    cloud = job.cloud.model_copy(update={"variables": variables})
    return job.model_copy(update={"name": named(job, COMPARE), "cloud": cloud, "reference": None})


def _is_asked(measurement: Measurement) -> bool:
    key = measurement.key
    return key.action == TOTAL and key.metric is Metric.SECONDS


def _history(controller: LabServices, job: str) -> dict[SeriesKey, Runs]:
    """Return what the latest nights or calibrations of a job measured, in the environment of the last one."""
    found: dict[SeriesKey, Runs] = {}
    for name in (job, f"{job}{CALIBRATE}"):
        try:
            past = past_of(controller, controller.settings.lab, name)
        except NoPast:
            continue
        for history in as_job(past.series, job):
            points = [one for one in history.points if one.valid and one.values]
            same = tuple(tuple(one.values) for one in points if one.environment == points[-1].environment)
            if len(same) > len(found.get(history.key, ())):
                found[history.key] = same[-HISTORY_RUNS:]
    return found
