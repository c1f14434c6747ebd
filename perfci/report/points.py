"""One run's series in a few numbers each: what trends are drawn from, without the iterations behind them.

A run in the archive never changes, so its numbers are kept in a file beside the pages' other caches and read
again with the next night. Throw the files away: they are made again, which takes longer once.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from dataclasses import dataclass, replace
from functools import cache
from statistics import median
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from perfci.analysis.level_rule import rule_of
from perfci.analysis.noise_trend import NoiseTrack
from perfci.analysis.pairs import LEAST_PAIRS
from perfci.analysis.robust import run_location
from perfci.analysis.settings import AnalysisSettings
from perfci.files import write_whole
from perfci.parsing import json_value
from perfci.results.model import Metric, SeriesKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from perfci.analysis.types import RunPoint, SeriesHistory
    from perfci.results.model import Measurement

    Array = NDArray[np.float64]

MIDDLE, LOW, HIGH, LOG, ERROR, VALUES, ATTEMPTS, FAILURES = range(8)
"""The columns: median, 10th and 90th percentile (unit of the metric), the location's logarithm and its error
(NaN: nothing usable was measured), the number of values, attempts and failures."""
COLUMNS = 8
FORMAT = 1
"""Of the files; one more where the numbers come to mean something else."""


@dataclass(frozen=True, slots=True)
class TrendRun:
    """A run as the series see it: where it can be compared, its code, whether the lab was fit.

    `reference` is the code that ran beside it; None for one cloud alone. `pairs_only` says that nothing but
    what was paired with it can be used.
    """

    run_id: str
    environment: str
    code: str
    valid: bool
    reference: str | None = None
    pairs_only: bool = False


@dataclass(frozen=True, eq=False)
class SeriesTrend:
    """One series through runs, oldest first: `numbers` of shape (len(places), COLUMNS), places index `runs`.

    `runs` are all runs of the job, the same for all its series, so that their pictures share an axis.
    """

    key: SeriesKey
    runs: tuple[TrendRun, ...]
    places: NDArray[np.intp]
    numbers: Array

    def measured(self) -> SeriesTrend:
        """Return the same without runs that gave no value."""
        kept = self.numbers[:, VALUES] > 0
        return SeriesTrend(self.key, self.runs, self.places[kept], self.numbers[kept])


def numbers_of(metric: Metric, values: Sequence[float], attempts: int, failures: int) -> tuple[float, ...]:
    """Return one series in one run as a row. Values below the unit of a counter count as the unit in LOG."""
    if not values:
        return (math.nan,) * VALUES + (0.0, float(attempts), float(failures))
    ordered = sorted(values)
    log, error = math.nan, math.nan
    if metric is not Metric.FAILURE_RATE:
        unit = _unit(metric)
        location = run_location([max(value, unit) for value in ordered if value >= 0])
        if location is not None:
            log, error = location.log, location.error
    return (
        median(ordered), _percentile(ordered, 0.1), _percentile(ordered, 0.9), log, error,
        float(len(ordered)), float(attempts), float(failures),
    )  # fmt: skip


@cache
def _unit(metric: Metric) -> float:
    """Return what a value counts as at least: the same for all settings."""
    return rule_of(metric, AnalysisSettings()).unit


def _percentile(ordered: Sequence[float], share: float) -> float:
    """Return a percentile with linear interpolation, as numpy's default does, without its overhead."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


@dataclass(frozen=True, eq=False)
class RunNumbers:
    """All series of one run: `numbers` of shape (len(keys), COLUMNS)."""

    keys: tuple[SeriesKey, ...]
    numbers: Array


def run_numbers(measurements: Iterable[Measurement]) -> RunNumbers:
    """Return what one run measured, by series."""
    found = sorted(measurements, key=lambda one: one.key)
    rows = [numbers_of(one.key.metric, one.values, one.attempts, one.failures) for one in found]
    return RunNumbers(tuple(one.key for one in found), np.array(rows).reshape(len(rows), COLUMNS))


def trends(runs: Sequence[TrendRun], numbers: Sequence[RunNumbers]) -> Iterator[SeriesTrend]:
    """Yield the series of some runs of one job (oldest first, with their numbers), sorted by key."""
    # Most runs share one tuple of keys: it is known by its identity, as hashing thousands of keys takes long.
    distinct = {id(one.keys): one.keys for one in numbers}
    rows = {key: n for n, key in enumerate(sorted({key for keys in distinct.values() for key in keys}))}
    at = {number: [rows[key] for key in keys] for number, keys in distinct.items()}
    whole = np.full((len(rows), len(runs), COLUMNS), np.nan)
    there = np.zeros((len(rows), len(runs)), dtype=bool)
    for place, one in enumerate(numbers):
        mine = at[id(one.keys)]
        whole[mine, place], there[mine, place] = one.numbers, True
    shared = tuple(runs)
    for key, row in rows.items():
        places = np.flatnonzero(there[row])
        yield SeriesTrend(key, shared, places, whole[row, places])


def noise_tracks(series: Sequence[SeriesTrend]) -> Iterator[NoiseTrack]:
    """Yield series as the analysis wants them that asks whether noise grows.

    Those are the locations of valid runs in the environment of the last of them. As in a verdict, what has
    pairs in a run is spoken for by their ratios, which are compared with those to the same reference alone.
    """
    paired = {
        replace(one.key, metric=Metric.SECONDS): one.places[one.numbers[:, VALUES] >= LEAST_PAIRS]
        for one in series
        if one.key.metric is Metric.RATIO
    }
    shared: _SharedRuns | None = None
    for one in series:
        if shared is None or one.runs is not shared.runs:  # the series of a job share theirs
            shared = _SharedRuns.of(one.runs)
        valid, environments = shared.places_of(one.key.metric)
        spoken_for = np.isin(one.places, paired.get(one.key, ()))
        good = valid[one.places] & ~spoken_for
        if not good.any():
            yield NoiseTrack(one.key, (), np.empty(0))
            continue
        logs = one.numbers[:, LOG]
        last = one.places[good][-1]
        same = good & (environments[one.places] == environments[last]) & np.isfinite(logs)
        yield NoiseTrack(one.key, shared.ids[one.places[same]].tolist(), logs[same])


@dataclass(frozen=True, eq=False)
class _SharedRuns:
    """The runs of a job, side by side: what can be used and compared, of pairs and of what has none."""

    runs: tuple[TrendRun, ...]
    ids: NDArray[np.str_]
    whole: tuple[NDArray[np.bool_], NDArray[np.intp]]
    paired: tuple[NDArray[np.bool_], NDArray[np.intp]]

    @classmethod
    def of(cls, runs: tuple[TrendRun, ...]) -> _SharedRuns:
        valid = np.array([run.valid for run in runs], dtype=bool)
        pairs_only = np.array([run.pairs_only for run in runs], dtype=bool)
        places: dict[tuple[str, str | None], int] = {}
        alone = [places.setdefault((run.environment, None), len(places)) for run in runs]
        beside = [places.setdefault((run.environment, run.reference), len(places)) for run in runs]
        return cls(
            runs,
            np.array([run.run_id for run in runs]),
            (valid & ~pairs_only, np.array(alone, dtype=np.intp)),
            (valid, np.array(beside, dtype=np.intp)),
        )

    def places_of(self, metric: Metric) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
        """Return which runs count for a metric, and where each can be compared."""
        return self.paired if metric is Metric.RATIO else self.whole


def trend_of(history: SeriesHistory, runs: Sequence[TrendRun] | None = None) -> SeriesTrend:
    """Return a history with its iterations as a trend; `runs` are all runs of its job, else its own."""
    shared = tuple(map(_run_of, history.points) if runs is None else runs)
    place = {run.run_id: n for n, run in enumerate(shared)}
    rows = [numbers_of(history.key.metric, one.values, one.attempts, one.failures) for one in history.points]
    return SeriesTrend(
        history.key,
        shared,
        np.array([place[one.run_id] for one in history.points], dtype=np.intp),
        np.array(rows).reshape(len(rows), COLUMNS),
    )


def _run_of(point: RunPoint) -> TrendRun:
    return TrendRun(point.run_id, point.environment, point.code, point.valid)


class NumbersCache:
    """Keeps the numbers of runs in a folder. Runs with the same series share one list of their names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._keys: dict[str, tuple[SeriesKey, ...]] = {}

    def read(self, run_id: str) -> RunNumbers | None:
        """Return what was kept of a run; None where nothing was, or it can't be read."""
        try:
            with np.load(io.BytesIO(self._file(run_id).read_bytes()), allow_pickle=False) as found:
                names, numbers = str(found["series"]), found["numbers"]
            if names not in self._keys:
                listed = json_value((self._folder / f"{names}.json").read_bytes())
                self._keys[names] = tuple(
                    SeriesKey(lab, job, scenario, arguments, action, Metric(metric))
                    for lab, job, scenario, arguments, action, metric in listed
                )
            keys = self._keys[names]
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile):
            return None
        return RunNumbers(keys, numbers) if numbers.shape == (len(keys), COLUMNS) else None

    def keep(self, run_id: str, found: RunNumbers) -> RunNumbers:
        """Keep the numbers of a run; return them with the list of names that is in use. Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        listed = json.dumps(
            [
                (one.lab, one.job, one.scenario, one.arguments, one.action, str(one.metric))
                for one in found.keys
            ]
        )
        names = hashlib.sha256(listed.encode()).hexdigest()[:16]
        if names not in self._keys:
            write_whole(self._folder / f"{names}.json", listed, durable=False)
            self._keys[names] = found.keys
        content = io.BytesIO()
        np.savez(content, series=np.array(names), numbers=found.numbers)
        write_whole(self._file(run_id), content.getvalue(), durable=False)
        return RunNumbers(self._keys[names], found.numbers)

    def forget_others(self, run_ids: Iterable[str]) -> None:
        """Remove the numbers of all runs but these."""
        kept = {self._file(run_id) for run_id in run_ids}
        for file in self._folder.glob("*.npz"):
            if file not in kept:
                file.unlink(missing_ok=True)

    def _file(self, run_id: str) -> Path:
        return self._folder / f"{run_id}.{FORMAT}.npz"
