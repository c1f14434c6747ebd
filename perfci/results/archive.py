"""An archive folder as results: the record of the run, and everything that was measured in it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from perfci.names import is_run_id
from perfci.results.canaries import read_canaries
from perfci.results.counters import measurements as counter_measurements
from perfci.results.counters import read_counters, usage
from perfci.results.dataplane import SCENARIOS as DATA_PLANE
from perfci.results.dataplane import measurements as dataplane_measurements
from perfci.results.dataplane import rates_of
from perfci.results.density import FILL, TARGET, curves_of
from perfci.results.density import measurements as density_measurements
from perfci.results.errors import ArchiveError, ResultFileError
from perfci.results.leftovers import read_leftovers
from perfci.results.model import FINISHED, TOTAL, Measurement, Metric, RunResults
from perfci.results.phases import has_phases, read_parts
from perfci.results.rally import read_report
from perfci.results.record import read_record
from perfci.results.tasks import read_tasks
from perfci.results.validity import EarlierRun, only_canaries

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

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


def run_folders(archive: Path) -> list[Path]:
    """Return the folders of all archived runs, oldest first; empty where there is no archive yet.

    What is being copied or removed has a name that no run has.
    """
    return sorted(path.parent for path in archive.glob(f"*/{RUN}") if is_run_id(path.parent.name))


def read_archive(path: Path) -> RunResults:
    """Read one archive folder. Only a run that finished has measurements, and only from tasks that did.

    Raises ArchiveError (run.json, tasks.json), PhasesError, ReportError or CountersError.
    """
    record = read_record(path / RUN)
    if record.run_id != path.name:
        raise ArchiveError(
            path=path / RUN,
            place="run_id",
            found=f"got {record.run_id!r}",
            expected=f"{path.name!r}, its folder",
        )
    if record.status != FINISHED:
        return RunResults(record)
    dropped: Counter[str] = Counter()
    measurements = read_measurements(path, record, dropped)
    return RunResults(record, measurements, tuple(sorted(dropped.items())))


def read_measurements(
    path: Path, record: RunRecord, dropped: Counter[str] | None = None
) -> tuple[Measurement, ...]:
    """Read what was measured in a run's folder, archived or not.

    Adds to `dropped`, by scenario, the iterations that were left out (`Load.dropped`). Raises ArchiveError or
    PhasesError, ReportError and CountersError.
    """
    nodes = read_counters(path / COUNTERS)
    if has_phases(path):
        found = [one for part in read_parts(path) for one in _part(part, record, nodes)]
    else:
        left = read_leftovers(path)
        found = [
            measurement
            for task in read_tasks(path / TASKS)
            for measurement in _task(path, task, record, nodes, left.get(task.slug), dropped=dropped)
        ]
    found.sort(key=lambda measurement: measurement.key)
    return tuple(_joined(list(same)) for _, same in groupby(found, key=lambda measurement: measurement.key))


def load_shares(path: Path) -> tuple[NodeShares, ...]:
    """Return each node's foreign and stolen CPU time over the load, from the first task or part to the last.

    A node whose counters do not cover the load is not in it.
    """
    tasks: Sequence[Task | ProcedurePart] = read_parts(path) if has_phases(path) else read_tasks(path / TASKS)
    if not tasks:
        return ()
    nodes = read_counters(path / COUNTERS)
    return usage(nodes, min(t.started_at for t in tasks), max(t.finished_at for t in tasks)).shares


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
            record.validity.valid,
            read_canaries(path / CANARIES),
            run_id=record.run_id,
            level_since=record.validity.level_since,
            only_canaries=only_canaries(record.validity),
        )
    except ResultFileError:
        return None


def density_curves(path: Path) -> tuple[Curve, ...]:
    """Return the curves of the tasks in a run's folder that filled the cloud; raises as `read_archive`."""
    record, tasks = _tasks(path, FILL)
    nodes = read_counters(path / COUNTERS) if tasks else {}
    return tuple(
        curve for task in tasks for load in _loads(path, task, record) for curve in curves_of(load, nodes)
    )


def dataplane_rates(path: Path) -> tuple[Rate, ...]:
    """Return how fast each path of the data plane was in a run's folder; raises as `read_archive`."""
    record, tasks = _tasks(path, DATA_PLANE)
    return tuple(rate for task in tasks for load in _loads(path, task, record) for rate in rates_of(load))


def _tasks(path: Path, scenario: str) -> tuple[RunRecord, list[Task]]:
    """Return the tasks of a run whose scenario's name begins so; reading the report of each takes a while."""
    record = read_record(path / RUN)
    tasks = read_tasks(path / TASKS) if record.status == FINISHED else ()
    return record, [task for task in tasks if task.scenario.startswith(scenario)]


def _loads(path: Path, task: Task, record: RunRecord) -> tuple[Load, ...]:
    return read_report(
        path / "rally" / f"{task.slug}.json",
        lab=record.lab,
        job=record.job,
        run_id=record.run_id,
        warmup=task.warmup,
    )


def _task(
    path: Path,
    task: Task,
    record: RunRecord,
    nodes: Mapping[str, Sequence[Sample]],
    left: Swept | None,
    *,
    dropped: Counter[str] | None,
) -> Iterator[Measurement]:
    loads = _loads(path, task, record)
    for load in loads:
        if dropped is not None and load.dropped:
            dropped[load.scenario] += load.dropped
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
