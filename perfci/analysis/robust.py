"""Robust numbers: location and scale that a few bad runs or iterations can't move far."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfci.analysis.noise import Array

MAD_TO_SD = 1.4826
"""Standard deviation / median absolute deviation of a normal distribution."""
TRIM = 0.25
"""Share of the iterations that is left out at either end."""
ITERATION_CORRELATION = 0.25
"""Lag-1 correlation of Rally's iterations; it widens the standard error by sqrt((1 + r) / (1 - r))."""
CLIP = 2.5
SMALL_SAMPLE = 0.8
"""Clipping at a scale estimated from n values makes the scale too small by about this / n."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where the logarithm of a run's iterations lies, and the standard error of that."""

    log: float
    error: float


def median(values: Sequence[float]) -> float:
    """Return the median of at least one number. For a few dozen numbers this is faster than numpy's."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def mad_scale(values: Sequence[float]) -> float:
    """Return the normal-consistent median absolute deviation of at least one number."""
    centre = median(values)
    return MAD_TO_SD * median([abs(v - centre) for v in values])


def run_location(values: Sequence[float]) -> Location | None:
    """Return where a run's positive, finite iterations lie, or None if there is none.

    The location is the mean of the middle half of the logarithms (the midmean, a 25 % trimmed mean):
    as robust against a bad quarter of the requests as anybody needs, and on Rally's iterations less
    noisy than mean, median and Hodges-Lehmann. Its standard error is Tukey and McLaughlin's (1963),
    s_w / ((1 - 2 g) sqrt(n)) with the winsorised deviation s_w, widened for the correlation of
    neighbouring iterations.
    """
    array = np.asarray(values, dtype=np.float64)
    logs = np.sort(np.log(array[np.isfinite(array) & (array > 0)]))
    n = logs.size
    if n == 0:
        return None
    cut = int(TRIM * n)
    middle = logs[cut : n - cut]
    if n < 2:  # noqa: PLR2004
        return Location(float(middle.mean()), 0.0)
    winsorised = np.clip(logs, middle[0], middle[-1])
    widening = np.sqrt((1 + ITERATION_CORRELATION) / (1 - ITERATION_CORRELATION))
    error = winsorised.std(ddof=1) / ((1 - 2 * cut / n) * np.sqrt(n)) * widening
    return Location(float(middle.mean()), float(error))


def run_locations(logs: Array) -> tuple[list[float], list[float]]:
    """Return location and standard error, as `run_location` does, of each row of sorted logarithms."""
    rows, size = logs.shape
    cut = int(TRIM * size)
    middle = logs[:, cut : size - cut]
    found: list[float] = middle.mean(axis=1).tolist()
    if size < 2:  # noqa: PLR2004
        return found, [0.0] * rows
    winsorised = np.clip(logs, middle[:, :1], middle[:, -1:])
    widening = np.sqrt((1 + ITERATION_CORRELATION) / (1 - ITERATION_CORRELATION))
    errors: list[float] = (
        winsorised.std(axis=1, ddof=1) / ((1 - 2 * cut / size) * np.sqrt(size)) * widening
    ).tolist()
    return found, errors


def level_and_scale(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and standard deviation of at least one number after clipping at 2.5 robust deviations.

    Huber's one-step winsorisation (Huber 1981, section 6.6): near the efficiency of mean and
    standard deviation when nothing is wrong, bounded influence of outliers.
    """
    centre, width, n = median(values), mad_scale(values), len(values)
    if width == 0:
        width = math.fsum(abs(v - centre) for v in values) / n
    low, high = centre - CLIP * width, centre + CLIP * width
    clipped = [min(max(v, low), high) for v in values]
    mean = math.fsum(clipped) / n
    if n < 2:  # noqa: PLR2004
        return centre, 0.0
    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in clipped) / (n - 1))
    return mean, deviation * (1 + SMALL_SAMPLE / n)
