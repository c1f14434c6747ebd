"""How single runs of a series scatter around its level, outliers and modes included."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]

DF = 5.0
"""Degrees of freedom of the Student's t that runs are taken to follow where nothing more is known."""
STUDENT = math.exp(float(special.gammaln((DF + 1) / 2) - special.gammaln(DF / 2))) / math.sqrt(DF * math.pi)
OUTLIERS = 0.05
"""Share of runs that are outliers, at most about this far away (logarithms):"""
OUTLIER_REACH = 0.6
BANDWIDTH = 0.5
"""Width of the smoothing of past runs, in deviations."""
LEAST_RESIDUALS = 15
FARTHEST = 12.0
"""In deviations; the table is fine up to here, and near every past run beyond."""


def student(z: Array) -> Array:
    """Return the density of Student's t with `DF` degrees of freedom."""
    out: Array = STUDENT * (1 + z * z / DF) ** (-(DF + 1) / 2)
    return out


@dataclass(frozen=True, slots=True, eq=False)
class Noise:
    """A tabulated log density of run minus level, both logarithms of the metric.

    Half of it is Student's t with the series' run-to-run deviation `scale`, half the series' own past
    runs, smoothed by the same t at half the width (Rosenblatt 1956; Parzen 1962): a series with two
    modes is known to have them, so that three runs in the upper mode are no proof. 5 % are kept for
    outliers of any size, so that no single run can prove much.
    """

    scale: float
    offsets: Array
    log_density: Array

    @classmethod
    def of(cls, scale: float, residuals: Array) -> Noise:
        """Build the table from the deviation (above 0) and the residuals of past runs."""
        far = np.geomspace(FARTHEST, 400, 80)
        away = residuals[np.abs(residuals) > FARTHEST / 2 * scale]
        beside = np.clip(away, -1, 1)[:, None] + scale * np.arange(-6, 6.01, 0.25)
        central = scale * np.concatenate([np.arange(-FARTHEST, FARTHEST, 0.1), far, -far])
        offsets = np.unique(np.concatenate([central, beside.ravel()]))
        density = student(offsets / scale) / scale
        if residuals.size >= LEAST_RESIDUALS:
            width = scale * BANDWIDTH
            own = student((offsets[:, None] - residuals[None, :]) / width).mean(axis=1) / width
            density = (density + own) / 2
        wide = np.exp(-np.abs(offsets) / OUTLIER_REACH) / (2 * OUTLIER_REACH)
        return cls(scale, offsets, np.log((1 - OUTLIERS) * density + OUTLIERS * wide))

    def __call__(self, away: Array) -> Array:
        """Return the log density of runs this far from their level."""
        return np.interp(away, self.offsets, self.log_density)
