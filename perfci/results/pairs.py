"""What was measured in pairs: one iteration on either side of two clouds, within the same second.

A paired run's folder holds the code under test, as that of any run, in `reference/` what was measured on the
cloud beside it, and `pairs.json`: which iterations were paired, in which order
(roles/rally/files/lockstep.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from perfci.results.errors import ArchiveError
from perfci.results.files import FromFile, parse, read_bytes
from perfci.results.model import Measurement, Metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from perfci.results.model import SeriesKey

PAIRS = "pairs.json"
REFERENCE = "reference"
NEW: Literal["new"] = "new"
OLD: Literal["old"] = "old"
SIDES = (OLD, NEW)

_Iteration = tuple[int, float | None, bool]
"""Its number, its time stamp in Rally's report, whether it failed."""


class _Pair(FromFile):
    order: Annotated[list[str], Field(min_length=2, max_length=2)]
    old: list[_Iteration]
    new: list[_Iteration]


class _Task(FromFile):
    pairs: list[_Pair]
    alone: dict[str, list[_Iteration]] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)


class _Side(FromFile):
    left: str | None = None


class Pairs(FromFile):
    """`pairs.json`."""

    version: Literal[1]
    seed: int
    sides: dict[str, _Side]
    tasks: dict[str, _Task]


@dataclass(frozen=True, slots=True)
class PairedSeries:
    """One timing on both sides of one run, pair by pair in the order in which they ran.

    `old_logs` and `new_logs` are the logarithms of the seconds on either side; of a block of iterations
    their mean. `old_first` says which side was first, `times` when each pair began (seconds since the epoch).
    `dropped` are the pairs in which either side has no timing; `old_failures` and `new_failures` how many
    measured iterations failed on each side, of `old_attempts` and `new_attempts`.
    """

    key: SeriesKey
    old_logs: tuple[float, ...]
    new_logs: tuple[float, ...]
    old_first: tuple[bool, ...]
    times: tuple[float, ...]
    dropped: int
    old_attempts: int
    new_attempts: int
    old_failures: int
    new_failures: int

    @property
    def differences(self) -> tuple[float, ...]:
        """log(new / old) of each pair."""
        return tuple(new - old for old, new in zip(self.old_logs, self.new_logs, strict=True))


@dataclass(frozen=True, slots=True)
class PairedCounter:
    """One counter on both sides of one run, in the unit of its metric."""

    key: SeriesKey
    old: float
    new: float


@dataclass(frozen=True, slots=True)
class PairedRun:
    """What one paired run measured; `notes` say what went wrong in the lock-step."""

    run_id: str
    series: tuple[PairedSeries, ...]
    counters: tuple[PairedCounter, ...]
    notes: tuple[str, ...]


def is_paired(folder: Path) -> bool:
    """Say whether a run's folder is that of two sides."""
    return (folder / PAIRS).exists()


def read_pairs(folder: Path) -> Pairs:
    """Return which iterations were paired. Raises ArchiveError."""
    return parse(read_bytes(folder / PAIRS, ArchiveError), Pairs, path=folder / PAIRS, error=ArchiveError)


def paired_run(
    run_id: str, pairs: Pairs, new: Iterable[Measurement], old: Iterable[Measurement]
) -> PairedRun:
    """Return what the measurements of both sides of a run say pair by pair."""
    news, olds = ({one.key: one for one in side} for side in (new, old))
    blocks = [pair for task in pairs.tasks.values() for pair in task.pairs]
    notes = [
        *(f"{name}: {side.left}" for name, side in pairs.sides.items() if side.left),
        *(f"{slug}: {note}" for slug, task in pairs.tasks.items() for note in task.notes),
    ]
    both = sorted(olds.keys() & news.keys())
    return PairedRun(
        run_id,
        series=tuple(
            _series(key, olds[key], news[key], blocks) for key in both if key.metric is Metric.SECONDS
        ),
        counters=tuple(
            PairedCounter(key, olds[key].values[0], news[key].values[0])
            for key in both
            if key.metric is not Metric.SECONDS and olds[key].values and news[key].values
        ),
        notes=tuple(notes),
    )


def ratios(run: PairedRun) -> tuple[Measurement, ...]:
    """Return the ratio of each timing that has pairs: a value a pair, at the time of its first iteration."""
    return tuple(
        Measurement(
            key=replace(one.key, metric=Metric.RATIO),
            run_id=run.run_id,
            values=tuple(math.exp(difference) for difference in one.differences),
            timestamps=one.times,
            attempts=len(one.differences) + one.dropped,
            failures=one.dropped,
        )
        for one in run.series
        if one.differences
    )


def exchanged(run: PairedRun) -> PairedRun:
    """Return a paired run with the sides exchanged."""
    return replace(
        run,
        series=tuple(
            replace(
                one,
                old_logs=one.new_logs,
                new_logs=one.old_logs,
                old_first=tuple(not first for first in one.old_first),
                old_attempts=one.new_attempts,
                new_attempts=one.old_attempts,
                old_failures=one.new_failures,
                new_failures=one.old_failures,
            )
            for one in run.series
        ),
        counters=tuple(PairedCounter(one.key, one.new, one.old) for one in run.counters),
    )


def _series(key: SeriesKey, old: Measurement, new: Measurement, blocks: Iterable[_Pair]) -> PairedSeries:
    olds, news = _logs(old), _logs(new)
    # Warm-up and what belongs to other tasks is in no measurement of this series.
    first = {OLD: min(old.timestamps, default=math.inf), NEW: min(new.timestamps, default=math.inf)}
    last = {OLD: max(old.timestamps, default=0.0), NEW: max(new.timestamps, default=0.0)}
    levels, order, times, dropped = [], [], [], 0
    for pair in blocks:
        if not (_within(pair.old, first[OLD], last[OLD]) or _within(pair.new, first[NEW], last[NEW])):
            continue
        one, other = _mean(pair.old, olds), _mean(pair.new, news)
        if one is None or other is None:
            dropped += 1
            continue
        levels.append((one, other))
        order.append(pair.order[0] == OLD)
        times.append(min(time for _, time, _ in (*pair.old, *pair.new) if time is not None))
    return PairedSeries(
        key=key,
        old_logs=tuple(one for one, _ in levels),
        new_logs=tuple(other for _, other in levels),
        old_first=tuple(order),
        times=tuple(times),
        dropped=dropped,
        old_attempts=old.attempts,
        new_attempts=new.attempts,
        old_failures=old.failures,
        new_failures=new.failures,
    )


def _logs(measurement: Measurement) -> dict[float, float]:
    """Return the logarithm of each timing by its time stamp; what took no time at all can't be a ratio."""
    points = zip(measurement.timestamps, measurement.values, strict=True)
    return {time: math.log(value) for time, value in points if value > 0}


def _within(block: Iterable[_Iteration], first: float, last: float) -> bool:
    return any(time is not None and first <= time <= last for _, time, _ in block)


def _mean(block: list[_Iteration], logs: Mapping[float, float]) -> float | None:
    """Return the mean logarithm of a block; None where an iteration of it failed or was for warm-up."""
    found = [logs[time] for _, time, failed in block if time is not None and not failed and time in logs]
    return sum(found) / len(found) if found and len(found) == len(block) else None
