"""`perfci side-by-side`: two clouds on the same node, hammered in lock-step, draw after draw, until it is
decided.

A draw is one run: both clouds are deployed afresh and measured in pairs. The runs are archived under the job
`<job>-compare`: they are stored, but never judged or told of, and are in nobody's baseline. In every other
draw the two codes change places (ports, folders), so that neither has the better one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from perfci.analysis.decision import Decision
from perfci.analysis.pair_decision import PairSettings, decide_draws, smallest_proven
from perfci.analysis.pairs import draw_effect
from perfci.analysis.robust import run_location
from perfci.errors import LabError, UsageError
from perfci.lab.sql import open_ledger
from perfci.parsing import json_value
from perfci.results.model import COMPARE, FINISHED, TOTAL
from perfci.results.pairs import NEW, OLD, REFERENCE, PairedCounter, PairedRun, exchanged, is_paired
from perfci.runs.night.assemble import night
from perfci.runs.night.reference import check_room
from perfci.runs.night.take_back import kept_machines
from perfci.runs.state.archived_run import ArchivedRun
from perfci.runs.state.digests import code_under_test
from perfci.runs.state.run_folder import utc_now
from perfci.runs.verdicts.rerun_jobs import exact, side_by_side_job
from perfci.runs.verdicts.rerun_pairs import DEPLOYMENTS
from perfci.runs.verdicts.trials import unfinished
from perfci.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from pydantic import JsonValue

    from perfci.analysis.pair_decision import PairReading
    from perfci.analysis.pairs import DrawEffect
    from perfci.results.model import CodeUnderTest, SeriesKey
    from perfci.results.pairs import PairedSeries
    from perfci.runs.jobs.model import Job
    from perfci.runs.jobs.sources import Source, Sources
    from perfci.runs.night.systems import KeptMachines
    from perfci.runs.state.progress import Progress
    from perfci.runs.verdicts.lab_services import LabServices

CODE = "code.json"
MOST_BAD = 2
"""After so many draws in a row that measured nothing there is no further one."""


class NothingPaired(LabError):
    """No draw measured any pairs."""

    template = "{bad} draws measured no pairs; the last one, {run}, because {reason}"
    help = (
        "`perfci run show {run}` says more; logs/ and reference/logs/ in its archive have the logs of "
        "both sides."
    )


class NotThesePairs(UsageError):
    """An archived run can't be judged together with the first one, or has no pairs."""

    template = "{run}: {reason}"
    help = (
        "Name finished runs of `perfci side-by-side`, or of a job with a `reference`, that measured the same "
        "two codes in the same environment."
    )


@dataclass(frozen=True, slots=True)
class Budget:
    """How far a comparison may go: draws, and minutes in which the last one may begin."""

    most_draws: int = 6
    most_minutes: int = 60


def budget_of(job: Job) -> Budget:
    """Return how far a job lets its comparisons go."""
    limits = job.analysis.confirm
    return Budget(max(1, limits.most_runs // DEPLOYMENTS), limits.most_minutes)


def pair_settings_of(job: Job) -> PairSettings:
    """Return when a scenario of a job is decided in pairs: the same within its `minimum_effect`."""
    return PairSettings(within=job.analysis.minimum_effect or PairSettings().within)


@dataclass(frozen=True, slots=True)
class SideFinding:
    """What all draws say about one timing. `mde` is the relative change that they would prove in 8 of 10
    cases.

    `failures` are (failed, attempted) iterations of the old and of the new side.
    """

    key: SeriesKey
    reading: PairReading | None
    mde: float | None
    pairs: int
    dropped: int
    old_seconds: float
    new_seconds: float
    old_failures: tuple[int, int]
    new_failures: tuple[int, int]
    draws: tuple[DrawEffect, ...]

    @property
    def word(self) -> str:
        """`slower`, `faster`, `same` or `unknown`."""
        if self.reading is None or self.reading.decision is Decision.UNKNOWN:
            return "unknown"
        if self.reading.decision is Decision.SAME:
            return "same"
        return "slower" if self.reading.log > 0 else "faster"

    def as_dict(self) -> dict[str, Any]:
        """Return it for `--json`."""
        found = self.reading
        return {
            "scenario": self.key.scenario,
            "arguments": self.key.arguments,
            "action": self.key.action,
            "verdict": self.word,
            "effect": math.expm1(found.log) if found else None,
            "low": math.expm1(found.low) if found else None,
            "high": math.expm1(found.high) if found else None,
            "mde": self.mde,
            "pairs": self.pairs,
            "dropped": self.dropped,
            "old_seconds": _number(self.old_seconds),
            "new_seconds": _number(self.new_seconds),
            "old_failures": list(self.old_failures),
            "new_failures": list(self.new_failures),
            "draws": [{"effect": math.expm1(one.log), "error": one.error} for one in self.draws],
        }


@dataclass(frozen=True, slots=True)
class SideBySide:
    """What a comparison of two sides has shown; `ended` says why it ended before all was decided."""

    settings: PairSettings
    findings: tuple[SideFinding, ...]
    counters: tuple[PairedCounter, ...]
    runs: tuple[str, ...]
    notes: tuple[str, ...]
    ended: str

    @property
    def slower(self) -> bool:
        """Whether a timing is proven to be slower."""
        return any(one.word == "slower" for one in self.findings)

    @property
    def undecided(self) -> bool:
        """Whether a scenario could not be decided."""
        whole = [one for one in self.findings if _is_whole(one.key)]
        return not whole or any(one.word == "unknown" for one in whole)

    def as_dict(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return {
            "within": self.settings.within,
            "error": self.settings.error,
            "same_error": self.settings.same_error,
            "draw_deviation": self.settings.draw_deviation,
            "timings": [one.as_dict() for one in self.findings],
            "counters": [
                {
                    "scenario": one.key.scenario,
                    "arguments": one.key.arguments,
                    "of": one.key.action,
                    "counter": str(one.key.metric),
                    "old": one.old,
                    "new": one.new,
                }
                for one in self.counters
            ],
            "runs": list(self.runs),
            "notes": list(self.notes),
            "ended": self.ended,
        }


@dataclass(slots=True)
class _Comparison:
    """A comparison while it goes on."""

    controller: LabServices
    job: Job
    sides: dict[str, Sources]
    settings: PairSettings
    budget: Budget
    holder: str
    progress: Progress
    apart: Mapping[str, JsonValue]
    """Variables of the old side's cloud. They belong to a place, so that the sides do not change places."""
    runs: list[PairedRun] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    tried: int = 0
    bad: int = 0

    def carry_out(self) -> SideBySide:
        settings = self.controller.settings
        with kept_machines(settings, holder=self.holder, progress=self.progress) as kept:
            return self._carry_out(kept)

    def _carry_out(self, kept: KeptMachines) -> SideBySide:
        until = utc_now() + timedelta(minutes=self.budget.most_minutes)
        longest = timedelta()
        while True:
            found = summary(self.runs, self.settings, tuple(self.ids))
            if found.findings and all(one.word != "unknown" for one in found.findings if _is_whole(one.key)):
                return found
            if ended := self._end(late=utc_now() + longest > until):
                return replace(found, ended=ended)
            since = utc_now()
            self._draw(kept)
            longest = max(longest, utc_now() - since)

    def _end(self, *, late: bool) -> str:
        """Say why there is no further draw; empty where there may be one."""
        if self.tried >= self.budget.most_draws:
            return f"{self.budget.most_draws} draws were not enough"
        return f"{self.budget.most_minutes} min were not enough" if late and self.tried else ""

    def _draw(self, kept: KeptMachines) -> None:
        swapped = self.tried % 2 == 1 and not self.apart
        self.tried += 1
        self.progress.say(f"Draw {self.tried} of at most {self.budget.most_draws}.")
        settings, job = self.controller.settings, self._job(swapped=swapped)
        outcome = night(job, settings, holder=self.holder, progress=self.progress, kept=kept).run()
        self.ids.append(outcome.record.run_id)
        if problem := self._take(outcome.folder, swapped=swapped):
            self.bad += 1
            self.progress.say(f"It does not count: {problem}")
            if self.bad >= MOST_BAD:
                raise NothingPaired(bad=self.bad, run=outcome.record.run_id, reason=problem)
        else:
            self.bad = 0

    def _job(self, *, swapped: bool) -> Job:
        old, new = (self.sides[side] for side in ((NEW, OLD) if swapped else (OLD, NEW)))
        return side_by_side_job(self.job, COMPARE, old=old, new=new, variables=self.apart)

    def resume(self, since: datetime) -> None:
        """Take the draws of an earlier start that was cut short, if they began at `since` or later."""
        both = [self._job(swapped=False).resolved(), self._job(swapped=True).resolved()]
        jobs = [self._job(swapped=swapped) for swapped in (False, True)]
        allowed = utc_now() - timedelta(minutes=self.budget.most_minutes)
        for folder in unfinished(self.controller, jobs, since=max(since, allowed)):
            job = self.controller.job(folder.name)
            if job is not None and (ran := job.resolved()) in both:
                self.tried += 1
                if not self._take(folder, swapped=both.index(ran) == 1):
                    self.ids.append(folder.name)
        if self.runs:
            self.progress.say(f"{counted(len(self.runs), 'draw')} of an earlier start already count.")

    def _take(self, folder: Path, *, swapped: bool) -> str:
        """Take in an archived run; where it does not count, return why."""
        run = ArchivedRun(folder)
        if run.record.status != FINISHED:
            return str((run.failure or {}).get("message", "it failed"))
        if not is_paired(folder):
            return "it has no record of pairs"
        found = run.paired
        if not any(one.differences for one in found.series):
            return "; ".join(found.notes) or "no pair was measured on both sides"
        self._fix(folder, swapped=swapped)
        self.runs.append(exchanged(found) if swapped else found)
        return ""

    def _fix(self, folder: Path, *, swapped: bool) -> None:
        """Take the commits that ran for the branches of both sides, from now on."""
        ran = {NEW: folder, OLD: folder / REFERENCE}
        for side, other in ((NEW, OLD), (OLD, NEW)):
            deployed = _code(ran[other if swapped else side])
            self.sides[side] = exact(self.sides[side], deployed.services)


def summary(runs: list[PairedRun], settings: PairSettings, ids: tuple[str, ...]) -> SideBySide:
    """Say what some draws, in order, have shown.

    The error rates hold for all scenarios together: each one's whole iterations get an equal share. Single
    actions have the same share; they say where a scenario's change is.
    """
    series: dict[SeriesKey, list[PairedSeries]] = {}
    counters: dict[SeriesKey, list[PairedCounter]] = {}
    for run in runs:
        for one in run.series:
            series.setdefault(one.key, []).append(one)
        for counter in run.counters:
            counters.setdefault(counter.key, []).append(counter)
    whole = max(1, sum(map(_is_whole, series)))
    shared = replace(settings, error=settings.error / whole, same_error=settings.same_error / whole)
    return SideBySide(
        settings=settings,
        findings=tuple(_finding(key, found, shared) for key, found in sorted(series.items())),
        counters=tuple(_mean(key, found) for key, found in sorted(counters.items())),
        runs=ids,
        notes=tuple(f"{run.run_id}: {note}" for run in runs for note in run.notes),
        ended="",
    )


def _finding(key: SeriesKey, found: list[PairedSeries], settings: PairSettings) -> SideFinding:
    draws = [one for series in found if (one := draw_effect(series.differences)) is not None]
    return SideFinding(
        key=key,
        reading=decide_draws(draws, settings),
        mde=smallest_proven(draws, settings) if draws else None,
        pairs=sum(len(one.differences) for one in found),
        dropped=sum(one.dropped for one in found),
        old_seconds=_level([one.old_logs for one in found]),
        new_seconds=_level([one.new_logs for one in found]),
        old_failures=(sum(one.old_failures for one in found), sum(one.old_attempts for one in found)),
        new_failures=(sum(one.new_failures for one in found), sum(one.new_attempts for one in found)),
        draws=tuple(draws),
    )


def _mean(key: SeriesKey, found: list[PairedCounter]) -> PairedCounter:
    old, new = (sum(getattr(one, side) for one in found) / len(found) for side in (OLD, NEW))
    return PairedCounter(key, old, new)


def _level(draws: Iterable[Sequence[float]]) -> float:
    """Return the seconds of a side from logarithms draw by draw: the mean of the draws' midmeans."""
    logs = [one.log for pairs in draws if (one := run_location(np.exp(pairs).tolist())) is not None]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def _is_whole(key: SeriesKey) -> bool:
    return key.action == TOTAL


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def from_archive(folders: Sequence[Path], settings: PairSettings) -> SideBySide:
    """Judge the pairs of archived runs, in the order of time; runs nothing.

    Which code is old and which is new is that of the first run; one in which both have changed places is
    turned round. Raises NotThesePairs, and what `RunFiles.paired` raises.
    """
    ordered = sorted(folders, key=lambda folder: folder.name)
    first, runs = None, []
    for folder in ordered:
        run = ArchivedRun(folder)
        record = run.record
        if record.status != FINISHED or not is_paired(folder):
            raise NotThesePairs(run=folder.name, reason="it did not finish, or has no pairs")
        codes = {NEW: _code(folder), OLD: _code(folder / REFERENCE)}
        environment = record.environment
        if first is None:
            first = (codes, environment)
        known = first[0]
        swapped = codes != known and (codes[OLD], codes[NEW]) == (known[NEW], known[OLD])
        if environment != first[1] or not (swapped or codes == known):
            other = ordered[0].name
            raise NotThesePairs(run=folder.name, reason=f"its codes or environment are not those of {other}")
        found = run.paired
        runs.append(exchanged(found) if swapped else found)
    return summary(runs, settings, tuple(folder.name for folder in ordered))


def _code(folder: Path) -> CodeUnderTest:
    found = json_value((folder / CODE).read_bytes())
    return code_under_test(found["services"])


def side_by_side(
    controller: LabServices,
    job: Job,
    *,
    old: Mapping[str, Source],
    new: Mapping[str, Source],
    settings: PairSettings,
    budget: Budget,
    holder: str,
    progress: Progress,
    apart: Mapping[str, JsonValue] | None = None,
    resume: datetime | None = None,
) -> SideBySide:
    """Measure a job on two codes side by side, until each scenario is decided or the budget is spent.

    `old` and `new` name the services whose code is not the job's, `apart` the variables in which the old
    side's cloud is another one (None takes one away). Draws that began at `resume` or later, and within the
    allowed minutes, count already.
    Raises ReferenceElsewhere, TooLittleMemory, NothingPaired, and what a run raises.
    """
    plain = job.model_copy(update={"reference": None})
    sides: dict[str, Sources] = {
        side: plain.sources.model_copy(update=dict(code)) for side, code in ((OLD, old), (NEW, new))
    }
    both = side_by_side_job(plain, COMPARE, old=sides[OLD], new=sides[NEW])
    check_room(both, open_ledger(controller.settings).nodes)
    found = _Comparison(controller, plain, sides, settings, budget, holder, progress, apart or {})
    if resume is not None:
        found.resume(resume)
    return found.carry_out()
