"""One driver for trials: deploy a side, measure it, ask the rule what next, until it knows enough.

A **side** is anything that can be deployed afresh and measured: the old and the new code of a night, two sets
of pins, the commits of a bisect, or two clouds beside each other that are one side named for both. Sides are
named by strings. A **rule** says what is wanted next and takes what came out; it holds no clock, no nodes and
no budget, so it can be tested with made-up results. `Trials` does the rest: the budget of runs and time,
results that do not count, requests to stop, and going on after a kill.

```python
trials = Trials(rule)
for folder in unfinished(controller, jobs, since=began):  # what a killed start has measured already
    trials.resume(folder)
end = trials.run(deploy_and_measure, TrialBudget(most_runs=24, until=lease_end), stop)
```

`rule.next_side` gets all sides that counted so far, in their order, and how long a run of each took. A rule
for two sides ignores the seconds; one that chooses between many (a bisect) weighs what a side would tell
against what it costs. Nothing is kept but the archive: every measured side is an archived run, and a rule
recognises its own (`observe` with no wanted side). A run that was killed half-way is archived as failed and
does not count.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from perfci.errors import FailureClass, PerfciError
from perfci.results.errors import ResultFileError
from perfci.results.model import FINISHED, RunResults
from perfci.runs.state.archive import run_folders
from perfci.runs.state.archived_run import ArchivedRun
from perfci.runs.state.run_folder import utc_now

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from perfci.results.model import RunRecord
    from perfci.runs.jobs.model import Job
    from perfci.runs.verdicts.lab_services import LabServices

MOST_SPOILT = 3
"""After this many runs in a row that do not count, a trial ends."""

S = TypeVar("S", bound=str)


@dataclass(frozen=True, slots=True)
class Spoilt:
    """Why a run does not count; `lab` says whether another try might, as it was the lab's fault."""

    reason: str
    lab: bool = True


class Rule(Protocol[S]):
    """What a trial is to find out. Holds all that the runs have shown so far."""

    def next_side(self, done: Sequence[S], seconds: Mapping[S, float]) -> S | None:
        """Return the side to deploy next; None when the rule has reached its conclusion.

        `done` are the runs that counted, in their order. `seconds` are the mean seconds that a run of a side
        took, for the sides that this process has run.
        """

    def observe(self, folder: Path, wanted: S | None) -> S | Spoilt:
        """Take an archived run; return the side that it is of, or why it does not count.

        `wanted` is the side that was asked for; None for a run found in the archive.
        """


class Why(StrEnum):
    """Why a trial ended."""

    DECIDED = "decided"
    STOPPED = "told to stop"
    SPOILT = "too many runs in a row did not count"
    RUNS = "no runs left"
    TIME = "no time left"
    ERROR = "a side could not be run"


@dataclass(frozen=True, slots=True)
class TrialBudget:
    """How much a trial may spend. `most_runs` includes those that did not count; None is no limit.

    No run begins that would not end before `until`, as far as earlier runs tell.
    """

    most_runs: int | None = None
    until: datetime | None = None
    most_spoilt: int = MOST_SPOILT


@dataclass(frozen=True, slots=True)
class TrialsEnd:
    """How a trial ended.

    `spoilt` are the latest runs in a row that did not count, `error` is what stopped it.
    """

    why: Why
    tried: int
    spoilt: tuple[Spoilt, ...] = ()
    error: PerfciError | None = None


@dataclass(slots=True)
class Trials(Generic[S]):
    """A trial while it goes on."""

    rule: Rule[S]
    now: Callable[[], datetime] = utc_now
    done: list[S] = field(default_factory=list)
    """Sides of the runs that counted, in their order."""
    spoilt: list[Spoilt] = field(default_factory=list)
    """Why the latest runs did not count; empty after one that did."""
    tried: int = 0
    spent: dict[S, list[timedelta]] = field(default_factory=dict)

    def resume(self, folder: Path) -> None:
        """Take a run that an earlier start of the same trial has measured."""
        self._take(folder, None)

    def run(
        self, measure: Callable[[S], Path], budget: TrialBudget, stop: threading.Event | None = None
    ) -> TrialsEnd:
        """Deploy and measure sides until the rule has its answer or the budget is used up.

        `measure` deploys a side afresh, measures it, archives it, takes it down whatever happens, and returns
        the archive folder. A PerfciError of it ends the trial and is in the answer: what was measured before
        counts. A run that was interrupted by `stop` is not looked at.
        """
        while stop is None or not stop.is_set():
            side = self.rule.next_side(self.done, self.seconds())
            if side is None:
                return self._ended(Why.DECIDED)
            if (why := self._spent(budget, side)) is not None:
                return self._ended(why)
            since = self.now()
            try:
                folder = measure(side)
            except PerfciError as error:
                return self._ended(Why.ERROR, error)
            self.spent.setdefault(side, []).append(self.now() - since)
            if stop is None or not stop.is_set():
                self._take(folder, side)
        return self._ended(Why.STOPPED)

    def seconds(self) -> dict[S, float]:
        """Return the mean seconds of a run of each side that this process has run."""
        return {side: sum(took, timedelta()) / len(took) / _SECOND for side, took in self.spent.items()}

    def _spent(self, budget: TrialBudget, side: S) -> Why | None:
        """Say why a run of a side is too much; None where there may be one."""
        if len(self.spoilt) >= budget.most_spoilt:
            return Why.SPOILT
        if budget.most_runs is not None and self.tried >= budget.most_runs:
            return Why.RUNS
        if budget.until is not None and self.now() + self._longest(side) > budget.until:
            return Why.TIME
        return None

    def _longest(self, side: S) -> timedelta:
        """Return how long a run of a side may take: the longest of its own, else of any."""
        known = self.spent.get(side) or [took for all_of in self.spent.values() for took in all_of]
        return max(known, default=timedelta())

    def _take(self, folder: Path, wanted: S | None) -> None:
        self.tried += 1
        seen = self.rule.observe(folder, wanted)
        if isinstance(seen, Spoilt):
            self.spoilt.append(seen)
        else:
            self.spoilt.clear()
            self.done.append(seen)

    def _ended(self, why: Why, error: PerfciError | None = None) -> TrialsEnd:
        return TrialsEnd(why, self.tried, tuple(self.spoilt), error)


def measured(folder: Path) -> RunResults | Spoilt:
    """Return what an archived run measured; or why it says nothing: damaged, failed, or on an unfit lab."""
    run = ArchivedRun(folder)
    try:
        results = run.results
    except ResultFileError as error:
        return Spoilt(f"of {folder.name}: {error}")
    record = results.record
    if record.status != FINISHED:
        failure = run.failure or {}
        reason = f"{record.run_id} failed: {failure.get('message', 'its run.json does not say why')}"
        return Spoilt(reason, failure.get("class") == FailureClass.LAB)
    if not record.validity.valid:
        return Spoilt(f"the lab was not fit to measure: {'; '.join(record.validity.reasons)}")
    return results


def unfinished(controller: LabServices, jobs: Sequence[Job], *, since: datetime) -> list[Path]:
    """Return the runs of a trial that was cut short, oldest first, to be resumed.

    `jobs` are those of its sides before any branch was fixed to a commit, all of one name. Looked at are runs
    on this lab that finished and began at `since` or later. The first run of a trial is of one of these very
    jobs; the others may differ from them in their sources, which are then fixed to what the first deployed.
    """
    exact = [job.resolved() for job in jobs]
    alike = [_without_sources(job) for job in exact]
    found: list[Path] = []
    for folder in _recent(controller.state.archive, since):
        record = _record(folder)
        if record is None or (record.lab, record.job) != (controller.settings.lab, jobs[0].name):
            continue
        job = controller.job(folder.name)
        if record.status != FINISHED or record.started_at < since or job is None:
            continue
        ran = job.resolved()
        if ran in exact or (found and _without_sources(ran) in alike):
            found.append(folder)
    return found


def _recent(archive: Path, since: datetime) -> list[Path]:
    first = since.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    return [folder for folder in run_folders(archive) if folder.name >= first]


def _record(folder: Path) -> RunRecord | None:
    try:
        return ArchivedRun(folder).record
    except ResultFileError:
        return None  # whose it was can't be said, nor what it measured


def _without_sources(job: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in job.items() if name != "sources"}


_SECOND = timedelta(seconds=1)
