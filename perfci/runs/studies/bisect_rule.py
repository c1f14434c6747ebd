"""A bisect as a rule of `trials`: it follows from the question and the archived runs, and from nothing else.

`replay` begins at the question each time, and gives each measurement that is asked for the oldest archived
run of that code which has not been used. Where there is none, it is measured. So a bisect that was killed
goes on where it was, and a question about revisions that another one has measured begins with those runs. No
run is used twice in one question, and proofs take only runs that are later than all of the search before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from perfci import names
from perfci.analysis.bisect.machine import BisectResult, BisectState, Measure
from perfci.analysis.bisect.machine import next_move as decide
from perfci.analysis.bisect.model import BisectPoint, Kind, Observation
from perfci.analysis.robust import run_location
from perfci.errors import FailureClass
from perfci.results.errors import ResultFileError
from perfci.results.model import FINISHED, Metric
from perfci.results.pairs import OLD, is_paired, read_pairs
from perfci.runs.state.archive import run_folders
from perfci.runs.studies.bisect_course import identity
from perfci.runs.studies.bisect_noise import draw_of
from perfci.runs.studies.bisect_revert import NotRevertedError
from perfci.runs.studies.environment_diff import environment_differences
from perfci.runs.verdicts.trials import Spoilt

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from perfci.results.model import Measurement
    from perfci.runs.state.archived_run import ArchivedRun
    from perfci.runs.studies.bisect_noise import MeasuredSeries
    from perfci.runs.studies.bisect_question import AskedBisect
    from perfci.runs.verdicts.lab_services import LabServices

MOST_FAILURES = 2
"""Code whose deployment or task failed so often, and not by the lab's fault, is not measured."""
_PROOFS = frozenset({Kind.PARENT, Kind.CHANGE, Kind.HEAD, Kind.REVERTED})
_MAY_DIFFER = (".constraints", "job")
"""How the places in an environment end that a bisect itself moves."""
next_move = lru_cache(maxsize=512)(decide)


@dataclass(frozen=True, slots=True, eq=False)
class BisectRun:
    """One archived run: which code it is of, and the logarithm of what it measured (more is worse).

    Of pairs it is log(code / what runs beside it), and `error` its standard error. `log` is None where the
    code could not be deployed or measured; `failure` then says why.
    """

    run_id: str
    identity: str
    log: float | None
    failure: str
    document: Mapping[str, Any]
    error: float = 0.0


@dataclass(frozen=True, slots=True)
class UsedRun:
    """A run in the place of a measurement that was asked for."""

    point: BisectPoint
    run: BisectRun


@dataclass(frozen=True, slots=True)
class Replayed:
    """How far a bisect is: its state, what is next or how it ended, the runs used, and what is left out.

    `reasons` say of points that are out why they are.
    """

    state: BisectState
    move: Measure | BisectResult
    used: tuple[UsedRun, ...]
    reasons: Mapping[BisectPoint, str]


def replay(asked: AskedBisect, runs: Sequence[BisectRun]) -> Replayed:
    """Return how far a bisect is, given all archived runs of its job, oldest first."""
    course = asked.course
    state = BisectState(asked.question, refused=tuple(course.refused))
    left: dict[str, list[BisectRun]] = {}
    for run in alike(runs):
        left.setdefault(run.identity, []).append(run)
    used: list[UsedRun] = []
    reasons: dict[BisectPoint, str] = {}
    searched = ""
    while isinstance(move := next_move(state), Measure):
        point = move.point
        try:
            pool = left.get(course.identity_of(point), [])
        except NotRevertedError as why:
            reasons[point] = str(why)
            state = state.without(point)
            continue
        fit = [one for one in pool if point.kind not in _PROOFS or one.run_id > searched]
        if failed := _failed(fit):
            reasons[point] = failed
            state = state.without(point)
            continue
        at = next((number for number, one in enumerate(fit) if one.log is not None), None)
        if at is None:
            break
        run, spent = fit[at], {one.run_id for one in fit[: at + 1]}
        pool[:] = [one for one in pool if one.run_id not in spent]
        used.append(UsedRun(point, run))
        state = state.observe(Observation(point, run.log or 0.0, run.error))
        if point.kind not in _PROOFS:
            searched = max(searched, run.run_id)
    return Replayed(state, move, tuple(used), reasons)


def _failed(fit: Sequence[BisectRun]) -> str:
    """Say why code can't be measured; empty where it was, or where it failed once only."""
    begin = next((number for number, one in enumerate(fit) if one.log is not None), len(fit))
    return fit[begin - 1].failure if begin >= MOST_FAILURES else ""


def alike(runs: Sequence[BisectRun]) -> list[BisectRun]:
    """Return the runs that were made in the environment of the newest one, but for pins."""
    if not runs:
        return []
    last = runs[-1].document
    return [one for one in runs if not _differs(one.document, last)]


def _differs(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return any(not place.place.endswith(_MAY_DIFFER) for place in environment_differences(one, other))


def read_run(services: LabServices, folder: Path, series: MeasuredSeries) -> BisectRun | Spoilt:
    """Return what an archived run says; or why it says nothing: the lab's fault, a damaged folder."""
    run = services.archived(folder.name)
    job = services.job(folder.name)
    try:
        results, failure = run.results, run.failure or {}
        document = run.document
    except ResultFileError as error:
        return Spoilt(f"of {folder.name}: {error}")
    if job is None:
        return Spoilt(f"the archive lacks the job of {folder.name}", lab=False)
    finished = results.record.status == FINISHED
    if finished and (unfit := _unfit(run, series)):
        return unfit
    seen = _measured(run, series) if finished else None
    if seen is not None:
        return BisectRun(folder.name, identity(job), seen.log, "", document, seen.error)
    why = str(failure.get("message") or f"it measured no {series.action} of the task")
    if failure.get("class") == FailureClass.LAB:
        return Spoilt(f"{folder.name} failed: {why}")
    return BisectRun(folder.name, identity(job), None, why, document)


def _unfit(run: ArchivedRun, series: MeasuredSeries) -> Spoilt | None:
    """Say why a finished run does not count; None where it does."""
    if not run.record.validity.valid:
        return Spoilt(f"the lab was not fit to measure: {'; '.join(run.record.validity.reasons)}")
    if series.metric is Metric.RATIO and is_paired(run.folder):
        beside = read_pairs(run.folder).sides.get(OLD)
        if beside is not None and beside.left:  # no fault of the revision
            return Spoilt(f"the cloud beside {run.record.run_id} stopped: {beside.left}", lab=False)
    return None


@dataclass(frozen=True, slots=True)
class _Seen:
    log: float
    error: float = 0.0


def _measured(run: ArchivedRun, series: MeasuredSeries) -> _Seen | None:
    """Return what a finished run says of a series; None if it says nothing."""
    if series.metric is not Metric.RATIO:
        log = _location(run.results.measurements, series)
        return _Seen(log) if log is not None else None
    draw = draw_of(run.paired, series) if is_paired(run.folder) else None
    return _Seen(draw.log, draw.error) if draw is not None else None


def _location(measurements: Iterable[Measurement], series: MeasuredSeries) -> float | None:
    """Return the logarithm of what a run measured of a series, so that more is worse; None without values."""
    measured = sorted((one for one in measurements if series.matches(one.key)), key=lambda one: one.key)
    where = run_location(measured[0].values) if measured else None
    if where is None or not math.isfinite(where.log):
        return None
    return -where.log if series.metric.higher_is_better else where.log


def archived_runs(services: LabServices, asked: AskedBisect) -> list[BisectRun]:
    """Return all runs of a bisect's job on its lab that say something, oldest first."""
    job, found = asked.course.job.name, []
    for folder in run_folders(services.state.archive):
        parts = names.parts_of(folder.name)
        if parts is None or parts[1] != job:
            continue
        try:
            if services.archived(folder.name).record.lab != asked.label:
                continue
        except ResultFileError:
            continue
        run = read_run(services, folder, asked.series)
        if isinstance(run, BisectRun):
            found.append(run)
    return sorted(found, key=lambda one: one.run_id)


@dataclass(slots=True)
class BisectRule:
    """The rule of a bisect (`trials.Rule`); its sides are the names of points."""

    services: LabServices
    asked: AskedBisect
    runs: list[BisectRun]
    now: Replayed = field(init=False)

    def __post_init__(self) -> None:
        self.now = replay(self.asked, self.runs)

    def next_side(self, _done: Sequence[str], _seconds: Mapping[str, float]) -> str | None:
        """See Rule."""
        move = self.now.move
        return name_of(move.point) if isinstance(move, Measure) else None

    def observe(self, folder: Path, wanted: str | None) -> str | Spoilt:
        """See Rule: a run that failed by its code's fault says something, too."""
        run = read_run(self.services, folder, self.asked.series)
        if isinstance(run, Spoilt):
            return run
        move = self.now.move
        if isinstance(move, Measure) and run.identity != self.asked.course.identity_of(move.point):
            return Spoilt(f"{run.run_id} ran other code than it should have", lab=False)
        self.runs.append(run)
        self.now = replay(self.asked, self.runs)
        return wanted or run.run_id


def name_of(point: BisectPoint) -> str:
    """Return a point as a word."""
    return f"{point.kind} {point.index}"


def levels(used: Iterable[UsedRun]) -> dict[BisectPoint, tuple[float, ...]]:
    """Return what was seen of each point, as logarithms."""
    found: dict[BisectPoint, tuple[float, ...]] = {}
    for one in used:
        if one.run.log is not None:
            found[one.point] = (*found.get(one.point, ()), one.run.log)
    return found
