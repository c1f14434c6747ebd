"""Robust numbers: location and scale that a few bad runs or iterations can't move far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MAD_TO_SD = 1.4826
"""Standard deviation / median absolute deviation of a normal distribution."""
MEDIAN_TO_MEAN = 1.2533
"""Standard error of the median / of the mean, normal distribution: sqrt(pi / 2)."""
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


def mad_scale(values: NDArray[np.float64]) -> float:
    """Return the normal-consistent median absolute deviation of a 1-d array; 0 for fewer than 2 values."""
    if values.size < 2:  # noqa: PLR2004
        return 0.0
    return float(MAD_TO_SD * np.median(np.abs(values - np.median(values))))


def run_location(values: Sequence[float]) -> Location | None:
    """Return the log of the median of a run's positive, finite iterations, or None if there is none.

    The median is Rally's usual summary, ignores up to half of the iterations, and commutes with the
    logarithm. Its standard error is sqrt(pi/2) * sd / sqrt(n) with sd from the median absolute
    deviation of the logarithms, widened for the correlation of neighbouring iterations.
    """
    array = np.asarray(values, dtype=np.float64)
    logs = np.log(array[np.isfinite(array) & (array > 0)])
    if logs.size == 0:
        return None
    widening = np.sqrt((1 + ITERATION_CORRELATION) / (1 - ITERATION_CORRELATION))
    error = MEDIAN_TO_MEAN * mad_scale(logs) * widening / np.sqrt(logs.size)
    return Location(float(np.median(logs)), float(error))


def level_and_scale(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return mean and standard deviation of a 1-d array after clipping at 2.5 robust deviations.

    Huber's one-step winsorisation (Huber 1981, section 6.6): near the efficiency of mean and
    standard deviation when nothing is wrong, bounded influence of outliers. At least one value.
    """
    centre, width = float(np.median(values)), mad_scale(values)
    if width == 0:
        width = float(np.mean(np.abs(values - centre)))
    clipped = np.clip(values, centre - CLIP * width, centre + CLIP * width)
    if values.size < 2:  # noqa: PLR2004
        return centre, 0.0
    return float(clipped.mean()), float(clipped.std(ddof=1)) * (1 + SMALL_SAMPLE / values.size)
