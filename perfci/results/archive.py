"""A run's folder as results: the record of the run, and everything that was measured in it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any

from pydantic import RootModel

from perfci.names import is_run_id
from perfci.results.canaries import read_canaries
from perfci.results.counters import measurements as counter_measurements
from perfci.results.counters import read_counters, restarts, usage
from perfci.results.dataplane import SCENARIOS as DATA_PLANE
from perfci.results.dataplane import measurements as dataplane_measurements
from perfci.results.dataplane import rates_of
from perfci.results.density import FILL, TARGET, curves_of
from perfci.results.density import measurements as density_measurements
from perfci.results.errors import ArchiveError, ResultFileError
from perfci.results.files import parse, read_bytes
from perfci.results.leftovers import read_leftovers
from perfci.results.model import FINISHED, TOTAL, Measurement, Metric, RunResults
from perfci.results.pairs import REFERENCE, PairedRun, is_paired, paired_run, ratios, read_pairs
from perfci.results.phases import has_phases, read_parts
from perfci.results.record import read_record, record_from_bytes
from perfci.results.tasks import read_tasks
from perfci.results.validity import EarlierRun, only_canaries

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from perfci.results.canaries import NodeCanaries
    from perfci.results.counters import NodeShares, Sample
    from perfci.results.dataplane import Rate
    from perfci.results.density import Curve
    from perfci.results.leftovers import Swept
    from perfci.results.model import RunRecord
    from perfci.results.phases import ProcedurePart
    from perfci.results.rally import Load
    from perfci.results.tasks import Task

RUN = "run.json"
TASKS = "tasks.json"
COUNTERS = "counters"
CANARIES = "canaries"


class _Object(RootModel[dict[str, Any]]):
    pass


def run_folders(archive: Path) -> list[Path]:
    """Return the folders of all archived runs, oldest first; empty where there is no archive yet.

    What is being copied or removed has a name that no run has.
    """
    return sorted(path.parent for path in archive.glob(f"*/{RUN}") if is_run_id(path.parent.name))


class RunFiles:
    """What a run's folder holds, archived or not. Each file is read once, when it is first asked for.

    A file that is damaged raises its ResultFileError each time; the others can still be read. `record` is
    given where the folder has no run.json of its own.
    """

    def __init__(self, folder: Path, record: RunRecord | None = None) -> None:
        self.folder = folder
        self._given = record
        self._loads: dict[str, tuple[Load, ...]] = {}

    @cached_property
    def _run_json(self) -> bytes:
        return read_bytes(self.folder / RUN, ArchiveError)

    @cached_property
    def document(self) -> dict[str, Any]:
        """All of run.json. Raises ArchiveError."""
        return parse(self._run_json, _Object, path=self.folder / RUN, error=ArchiveError).root

    @cached_property
    def record(self) -> RunRecord:
        """What run.json says of the run. Raises ArchiveError."""
        return self._given or record_from_bytes(self._run_json, self.folder / RUN)

    @cached_property
    def results(self) -> RunResults:
        """The record and what was measured. Only a run that finished has measurements.

        Raises ArchiveError (run.json, tasks.json, leftovers.json), PhasesError, ReportError or CountersError.
        """
        record = self.record
        if record.run_id != self.folder.name:
            raise ArchiveError(
                path=self.folder / RUN,
                place="run_id",
                found=f"got {record.run_id!r}",
                expected=f"{self.folder.name!r}, its folder",
            )
        if record.status != FINISHED:
            return RunResults(record)
        return RunResults(record, self.measurements, self.dropped)

    @cached_property
    def measurements(self) -> tuple[Measurement, ...]:
        """What was measured, in the order of the series. Raises as `results`."""
        if not is_paired(self.folder):
            return self._own_measurements
        return tuple(sorted((*self._own_measurements, *ratios(self.paired)), key=lambda one: one.key))

    @cached_property
    def paired(self) -> PairedRun:
        """What a run of two sides measured in pairs; a run that failed has no series. Raises as `results`."""
        pairs = read_pairs(self.folder)
        if self.record.status != FINISHED:
            return PairedRun(self.record.run_id, (), (), ())
        old = RunFiles(self.folder / REFERENCE, self.record)
        return paired_run(self.record.run_id, pairs, self._own_measurements, old.measurements)

    @cached_property
    def _own_measurements(self) -> tuple[Measurement, ...]:
        """What was measured on the code under test."""
        if self.has_phases:
            found = [one for part in self.parts for one in _part(part, self.record, self.counters)]
        else:
            found = [
                one
                for task in self.tasks
                for one in _task(task, self.loads(task), self.counters, self.leftovers.get(task.slug))
            ]
        found.sort(key=lambda measurement: measurement.key)
        groups = groupby(found, key=lambda measurement: measurement.key)
        return tuple(_joined(list(same)) for _, same in groups)

    @cached_property
    def dropped(self) -> tuple[tuple[str, int], ...]:
        """The iterations that were left out (`Load.dropped`), by scenario. Raises as `results`."""
        count: Counter[str] = Counter()
        for task in () if self.has_phases else self.tasks:
            for load in self.loads(task):
                count[load.scenario] += load.dropped
        return tuple((scenario, number) for scenario, number in sorted(count.items()) if number)

    @property
    def has_phases(self) -> bool:
        """Whether the run measured phases in place of Rally tasks."""
        return has_phases(self.folder)

    @cached_property
    def parts(self) -> tuple[ProcedurePart, ...]:
        """The parts that finished, of a run with phases. Raises PhasesError."""
        return read_parts(self.folder)

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """The Rally tasks that finished. Raises ArchiveError."""
        return read_tasks(self.folder / TASKS)

    def loads(self, task: Task) -> tuple[Load, ...]:
        """Return what Rally's report of a task holds. Raises ReportError."""
        if task.slug not in self._loads:
            # It brings numpy, which takes a quarter of a second: most commands read no report.
            from perfci.results.rally import read_report

            self._loads[task.slug] = read_report(
                self.folder / "rally" / f"{task.slug}.json",
                lab=self.record.lab,
                job=self.record.job,
                run_id=self.record.run_id,
                warmup=task.warmup,
            )
        return self._loads[task.slug]

    @cached_property
    def counters(self) -> Mapping[str, Sequence[Sample]]:
        """The counters by node. Raises CountersError."""
        return read_counters(self.folder / COUNTERS)

    @cached_property
    def canaries(self) -> tuple[NodeCanaries, ...]:
        """The canaries of all nodes. Raises CanariesError."""
        return read_canaries(self.folder / CANARIES)

    @cached_property
    def leftovers(self) -> Mapping[str, Swept]:
        """What the tasks left in the cloud, by slug. Raises ArchiveError."""
        return read_leftovers(self.folder)

    @cached_property
    def shares(self) -> tuple[NodeShares, ...]:
        """Each node's foreign and stolen CPU time over the load, from the first task or part to the last.

        A node whose counters do not cover the load is not in it. Raises ArchiveError, PhasesError or
        CountersError.
        """
        done: Sequence[Task | ProcedurePart] = self.parts if self.has_phases else self.tasks
        if not done:
            return ()
        first, last = min(one.started_at for one in done), max(one.finished_at for one in done)
        return usage(self.counters, first, last).shares

    @cached_property
    def restarts(self) -> tuple[str, ...]:
        """The services that were restarted during the load. Raises as `shares`.

        A run that is measured part by part, such as an upgrade, restarts services on purpose.
        """
        if self.has_phases or not self.tasks:
            return ()
        first = min(task.started_at for task in self.tasks)
        return restarts(self.counters, first, max(task.finished_at for task in self.tasks))

    @cached_property
    def curves(self) -> tuple[Curve, ...]:
        """The curves of the tasks that filled the cloud. Raises as `results`."""
        return tuple(
            curve
            for task in self._tasks_of(FILL)
            for load in self.loads(task)
            for curve in curves_of(load, self.counters)
        )

    @cached_property
    def rates(self) -> tuple[Rate, ...]:
        """How fast each path of the data plane was. Raises as `results`."""
        return tuple(
            rate
            for task in self._tasks_of(DATA_PLANE)
            for load in self.loads(task)
            for rate in rates_of(load)
        )

    def _tasks_of(self, scenario: str) -> list[Task]:
        """Return the tasks of a finished run whose scenario's name begins so."""
        tasks = self.tasks if self.record.status == FINISHED else ()
        return [task for task in tasks if task.scenario.startswith(scenario)]


def read_archive(path: Path) -> RunResults:
    """Read one archive folder; see `RunFiles.results`."""
    return RunFiles(path).results


def earlier_runs(archive: Path, record: RunRecord, limit: int = 100) -> tuple[EarlierRun, ...]:
    """Return what `validity` compares a run with: the last `limit` finished runs of this lab before it.

    Runs of all jobs count: canaries do not depend on the job. A run that can't be read is passed over.
    """
    found: list[EarlierRun] = []
    for path in reversed(run_folders(archive)):
        if len(found) == limit:
            break
        if path.name < record.run_id and (run := _earlier(path, record.lab)):
            found.append(run)
    return tuple(reversed(found))


def _earlier(path: Path, lab: str) -> EarlierRun | None:
    try:
        record = read_record(path / RUN)
        if record.lab != lab or record.status != FINISHED:
            return None
        return EarlierRun(
            record.environment,
            record.validity.valid and not record.validity.pairs_only,
            read_canaries(path / CANARIES),
            run_id=record.run_id,
            level_since=record.validity.level_since,
            only_canaries=only_canaries(record.validity),
        )
    except ResultFileError:
        return None


def _task(
    task: Task, loads: tuple[Load, ...], nodes: Mapping[str, Sequence[Sample]], left: Swept | None
) -> Iterator[Measurement]:
    for load in loads:
        yield from _load(load)
    if len(loads) == 1 and _whole(loads[0]):  # what several loads used together can't be told apart
        used = usage(nodes, task.started_at, task.finished_at)
        yield from counter_measurements(
            used, like=loads[0].total, iterations=loads[0].iterations, at=task.started_at
        )
    if len(loads) == 1 and left is not None and left.found is not None:
        like = loads[0].total
        yield replace(
            like,
            key=replace(like.key, metric=Metric.LEFTOVERS),
            values=(float(len(left.found)),),
            timestamps=(task.started_at,),
        )


def _load(load: Load) -> Iterator[Measurement]:
    for curve in curves_of(load, {}):
        yield from density_measurements(curve, like=load.total)
    yield from dataplane_measurements(load)
    for measurement in load.measurements:
        if _whole(load) or measurement.key.metric is Metric.FAILURE_RATE:
            yield measurement


def _whole(load: Load) -> bool:
    """Say whether a load did all that it was to do: a fill that was ended early took less time for less."""
    return all(curve.reason == TARGET for curve in curves_of(load, {}))


def _part(
    part: ProcedurePart, record: RunRecord, nodes: Mapping[str, Sequence[Sample]]
) -> Iterator[Measurement]:
    found = list(part.measurements(lab=record.lab, job=record.job, run_id=record.run_id))
    yield from found
    used = usage(nodes, part.started_at, part.finished_at)
    total = next(one for one in found if one.key.action == TOTAL)
    yield from counter_measurements(used, like=total, iterations=1, at=part.started_at)


def _joined(same: Sequence[Measurement]) -> Measurement:
    """Make one measurement of several tasks with the same scenario and arguments, in the order of time."""
    if len(same) == 1:
        return same[0]
    attempts = sum(m.attempts for m in same)
    failures = sum(m.failures for m in same)
    points = sorted((time, value) for m in same for time, value in zip(m.timestamps, m.values, strict=True))
    key = same[0].key
    if key.metric is not Metric.SECONDS and points:
        # One value a run: the rate over all attempts, the largest peak or heap, the mean use of an iteration.
        rate = failures / attempts if attempts else 0.0
        points = [(points[0][0], _one_value(key.metric, [value for _, value in points], rate))]
    return Measurement(
        key=key,
        run_id=same[0].run_id,
        values=tuple(value for _, value in points),
        timestamps=tuple(time for time, _ in points),
        attempts=attempts,
        failures=failures,
    )


def _one_value(metric: Metric, values: Sequence[float], failure_rate: float) -> float:
    if metric is Metric.FAILURE_RATE:
        return failure_rate
    largest = metric in (Metric.PEAK_RSS_BYTES, Metric.LEFTOVERS)
    return max(values) if largest else sum(values) / len(values)
