"""What a change looks like: all requests, only the tail, or a second mode.

A run's iterations are kept as five quantiles. A change moves them together (all requests are slower),
or only the upper ones: then either the slowest tenth alone got worse, or a larger share of the requests
takes another, slower path while the rest stayed as they were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from perfci.analysis.types import ChangeKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
LEAST_ITERATIONS = 20
"""A run with fewer iterations says nothing about its tail."""
TOGETHER = 0.5
"""Quantiles have moved together if they show at least this share of the largest movement."""
TAIL_FROM, TAIL_TO = 0.8, 0.95
"""The tail of a run is what lies between these quantiles: the slowest requests, but not the slowest few."""


def log_values(values: Sequence[float]) -> NDArray[np.float64]:
    """Return the sorted logarithms of the positive, finite values."""
    array = np.asarray(values, dtype=np.float64)
    return np.sort(np.log(array[np.isfinite(array) & (array > 0)]))


def shape_of(values: Sequence[float]) -> tuple[float, ...]:
    """Return the logs of five quantiles of a run's iterations; empty if it has too few."""
    logs = log_values(values)
    if logs.size < LEAST_ITERATIONS:
        return ()
    return tuple(float(logs[round(q * (logs.size - 1))]) for q in QUANTILES)


def tail_location(values: Sequence[float]) -> float | None:
    """Return the mean log of the iterations in the tail; None for a run with too few iterations."""
    logs = log_values(values)
    if logs.size < LEAST_ITERATIONS:
        return None
    return float(logs[int(TAIL_FROM * logs.size) : int(np.ceil(TAIL_TO * logs.size))].mean())


def shapes_of(logs: NDArray[np.float64]) -> list[tuple[float, ...]]:
    """Return `shape_of` each row of sorted logarithms."""
    rows, size = logs.shape
    if size < LEAST_ITERATIONS:
        return [()] * rows
    chosen = logs[:, [round(q * (size - 1)) for q in QUANTILES]]
    return [tuple(row) for row in chosen.tolist()]


def tail_locations(logs: NDArray[np.float64]) -> list[float] | None:
    """Return the `tail_location` of each row of sorted logarithms; None where the rows are too short."""
    size = logs.shape[1]
    if size < LEAST_ITERATIONS:
        return None
    found: list[float] = logs[:, int(TAIL_FROM * size) : int(np.ceil(TAIL_TO * size))].mean(axis=1).tolist()
    return found


def kind_of(before: Sequence[tuple[float, ...]], after: Sequence[tuple[float, ...]]) -> ChangeKind:
    """Tell the kind of a change from the shapes of runs before and after it.

    Without shapes on both sides it counts as a shift of all requests.
    """
    known_before, known_after = [s for s in before if s], [s for s in after if s]
    if not known_before or not known_after:
        return ChangeKind.SHIFT
    moved = np.median(known_after, axis=0) - np.median(known_before, axis=0)
    largest = moved[np.argmax(np.abs(moved))]
    if largest == 0:
        return ChangeKind.SHIFT
    share = moved / largest
    if share[1] >= TOGETHER:
        return ChangeKind.SHIFT
    return ChangeKind.MODE if share[3] >= TOGETHER else ChangeKind.TAIL
