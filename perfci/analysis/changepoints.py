"""The change points of a whole history, looked back at: for trend pages and imports.

The history is cut into levels by the L1-Potts functional,

    minimise  sum_i |x_i - level_i| + g * (number of changes)

solved exactly by dynamic programming (Friedrich, Kempe, Liebscher & Winkler 2008; the method of asv's
step_detect). Absolute deviations let a single outlier night cost more than it gains. Every change is
then tested between its neighbouring levels as the nightly verdict does, and the weakest is taken out
until all that are left are significant, which keeps the number of false ones at the set level.
"""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from perfci.analysis.evidence import RunValue, contrast, relative
from perfci.analysis.failures import exact_p_value
from perfci.analysis.robust import MAD_TO_SD, median
from perfci.analysis.variance import VariancePrior

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from perfci.analysis.noise import Array

PENALTY = 1.2
"""g in units of the scale times log n: low, as the test decides."""
SHORTEST = 2
"""Fewer runs are an outlier, not a level."""
ZERO_PENALTY = 2.0
"""g where values are only zero or not."""
SCALE_FLOOR = 1e-3
DATE_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """A change in a history.

    `index` is the first value of the new level; with 95 % certainty it lies in `earliest`..`latest`.
    `before` and `after` are the levels in the unit of the values, `effect` their relative difference
    with its interval `low`..`high`, `p_value` that of "no change here", corrected for the search.
    """

    index: int
    earliest: int
    latest: int
    before: float
    after: float
    effect: float
    low: float
    high: float
    p_value: float


def change_points(
    values: Sequence[float],
    errors: Sequence[float] | None = None,
    *,
    largest_p: float = 0.01,
    floor: float = 0.0,
    wander: float = 0.2,
    confidence: float = 0.95,
) -> tuple[ChangePoint, ...]:
    """Return the changes of a history in order of time; values that are not positive are left out.

    `values` are one location per run, oldest first, `errors` their relative standard errors if known.
    Changes smaller than `floor` (relative) are not reported; `wander` as in `AnalysisSettings`.
    `index` counts in `values` as given. O(n^2 log n) for n values.
    """
    given = np.asarray(values, dtype=np.float64)
    kept = np.flatnonzero(np.isfinite(given) & (given > 0))
    known = np.zeros(given.size) if errors is None else np.asarray(errors, dtype=np.float64)
    runs = [RunValue(str(i), float(math.log(given[i])), float(np.nan_to_num(known[i]))) for i in kept]
    if len(runs) < 2 * SHORTEST + 1:
        return ()
    logs = [run.log for run in runs]
    scale = noise_scale(logs)
    cuts = potts(logs, PENALTY * scale * math.log(len(logs)))
    while cuts:
        found = [_change(runs, bounds, scale, wander, confidence) for bounds in _neighbours(cuts, len(runs))]
        weakest = max(range(len(cuts)), key=lambda i: (abs(found[i].effect) < floor, found[i].p_value))
        if found[weakest].p_value <= largest_p and abs(found[weakest].effect) >= floor:
            return tuple(_in_given(change, kept) for change in found)
        cuts = [cut for i, cut in enumerate(cuts) if i != weakest]
    return ()


def zero_changes(values: Sequence[float], *, largest_p: float = 0.01) -> tuple[ChangePoint, ...]:
    """Return where a history of counts, such as errors, leaves zero or comes to it, in order of time.

    Levels are logarithms, in which there is no zero: `change_points` sees only the other values. Here a cut
    is where most values on one side are zero and most on the other are not, by Fisher's exact test, corrected
    for the search. A change from zero has the `effect` infinity, one to zero -1, and neither has an interval.
    """
    given = np.asarray(values, dtype=np.float64)
    kept = np.flatnonzero(np.isfinite(given) & (given >= 0))
    counts = given[kept]
    zero = counts == 0
    cuts = potts(zero.astype(float).tolist(), ZERO_PENALTY) if zero.any() and not zero.all() else []
    while cuts:
        bounds = _neighbours(cuts, len(counts))
        p_values = [_zero_p(zero, one) * len(counts) for one in bounds]
        weakest = max(range(len(cuts)), key=lambda i: p_values[i])
        if p_values[weakest] <= largest_p:
            found = (
                _zero_change(counts, one, int(kept[one[1]]), p_value)
                for one, p_value in zip(bounds, p_values, strict=True)
            )
            return tuple(change for change in found if (change.before == 0) != (change.after == 0))
        cuts = [cut for i, cut in enumerate(cuts) if i != weakest]
    return ()


def _zero_change(
    counts: NDArray[np.float64], bounds: tuple[int, int, int], index: int, p_value: float
) -> ChangePoint:
    left, cut, right = bounds
    before, after = float(np.median(counts[left:cut])), float(np.median(counts[cut:right]))
    effect = math.inf if before == 0 else -1.0
    return ChangePoint(index, index, index, before, after, effect, effect, effect, min(1.0, p_value))


def _zero_p(zero: NDArray[np.bool_], bounds: tuple[int, int, int]) -> float:
    """Return Fisher's exact p-value for as many zeros on either side of a cut."""
    left, cut, right = bounds
    return exact_p_value(int(zero[left:cut].sum()), cut - left, int(zero[cut:right].sum()), right - cut)


def noise_scale(logs: Sequence[float]) -> float:
    """Return the run-to-run deviation of a history that may contain steps, from its differences."""
    differences = [abs(b - a) for a, b in itertools.pairwise(logs)]
    return max(MAD_TO_SD * median(differences) / math.sqrt(2), SCALE_FLOOR)


def deviations(logs: Sequence[float]) -> list[float]:
    """Return, for each prefix length 1..n, the sum of absolute deviations from its median.

    Two heaps hold the halves below and above the median; O(n log n).
    """
    low: list[float] = []
    high: list[float] = []
    sum_low = sum_high = 0.0
    out = []
    for x in logs:
        if low and x < -low[0]:
            heapq.heappush(low, -x)
            sum_low += x
        else:
            heapq.heappush(high, x)
            sum_high += x
        if len(low) > len(high):
            moved = -heapq.heappop(low)
            sum_low -= moved
            heapq.heappush(high, moved)
            sum_high += moved
        elif len(high) > len(low) + 1:
            moved = heapq.heappop(high)
            sum_high -= moved
            heapq.heappush(low, -moved)
            sum_low += moved
        middle = high[0]
        out.append(max((sum_high - middle * len(high)) + (middle * len(low) - sum_low), 0.0))
    return out


def potts(logs: Sequence[float], penalty: float) -> list[int]:
    """Return the first indices of the levels, the first level's apart, that minimise the functional."""
    n = len(logs)
    best: list[float] = [-penalty] + [math.inf] * n
    start = [0] * (n + 1)
    for right in range(1, n + 1):
        costs = deviations(logs[right - 1 :: -1])
        for length in range(SHORTEST, right + 1):
            left = right - length
            cost = best[left] + penalty + costs[length - 1]
            if cost < best[right]:
                best[right], start[right] = cost, left
    cuts = []
    right = n
    while start[right] > 0:
        right = start[right]
        cuts.append(right)
    return cuts[::-1]


def _neighbours(cuts: Sequence[int], n: int) -> list[tuple[int, int, int]]:
    edges = [0, *cuts, n]
    return [(edges[i], edges[i + 1], edges[i + 2]) for i in range(len(cuts))]


def _change(
    runs: Sequence[RunValue], bounds: tuple[int, int, int], scale: float, wander: float, confidence: float
) -> ChangePoint:
    """Test a change between its neighbouring levels. The scale of the whole history counts as 10 runs."""
    left, cut, right = bounds
    before, after = runs[left:cut], runs[cut:right]
    prior = VariancePrior(scale**2, 10.0)
    large, small = (before, after) if len(before) >= len(after) else (after, before)
    found = contrast(large, small, scale_floor=SCALE_FLOOR, wander=wander, prior=prior)
    sign = 1.0 if large is before else -1.0
    difference, half = sign * found.difference, found.half_width(confidence)
    earliest, latest = _when([run.log for run in runs[left:right]], cut - left, scale)
    level = found.level
    first, second = (level, level + difference) if large is before else (level - difference, level)
    return ChangePoint(
        index=cut,
        earliest=left + earliest,
        latest=left + latest,
        before=math.exp(first),
        after=math.exp(second),
        effect=relative(difference),
        low=relative(difference - half),
        high=relative(difference + half),
        p_value=min(1.0, found.p_value * len(runs)),
    )


def _when(logs: Sequence[float], cut: int, scale: float) -> tuple[int, int]:
    """Return the earliest and latest index that the change may have, by its posterior.

    Laplace noise around the two levels and a flat prior of the date: the likelihood that belongs to
    absolute deviations.
    """
    first, second = median(logs[:cut]), median(logs[cut:])
    x = np.asarray(logs)
    gain = (np.abs(x - first) - np.abs(x - second)) * math.sqrt(2) / scale
    later = np.concatenate([np.cumsum(gain[::-1])[::-1], [0.0]])[1:-1]
    weight: Array = np.exp(later - later.max())
    share = weight / weight.sum()
    order = np.argsort(-share, kind="stable")
    needed = int(np.searchsorted(np.cumsum(share[order]), DATE_LEVEL)) + 1
    chosen = [*(order[:needed] + 1).tolist(), cut]
    return min(chosen), max(chosen)


def _in_given(change: ChangePoint, kept: NDArray[np.int64]) -> ChangePoint:
    """Return the change with indices of the values as given, those left out included."""
    return replace(
        change,
        index=int(kept[change.index]),
        earliest=int(kept[change.earliest]),
        latest=int(kept[change.latest]),
    )
