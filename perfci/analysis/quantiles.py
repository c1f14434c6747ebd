"""Quantiles of one run's iterations, each with the standard error that lets two runs be compared.

The estimate is Harrell and Davis' (1982): a mean of all order statistics, weighted by the beta distribution
of the one that is asked for, steadier than one or two of them. Its error is Maritz and Jarrett's (1978), the
same weights on the squares. Both are sums over the sorted values, so that many runs of one length are one
product of matrices. The error is widened for the correlation of neighbouring iterations, as in `robust`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from perfci.analysis.robust import ITERATION_CORRELATION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from perfci.analysis.noise import Array

LEAST = 10
"""With fewer values, quantiles have no error that could be believed."""
_WIDENING = ((1 + ITERATION_CORRELATION) / (1 - ITERATION_CORRELATION)) ** 0.5


def quantiles(values: ArrayLike, levels: Sequence[float]) -> tuple[Array, Array]:
    """Return estimates and standard errors of quantiles, both of shape (..., len(levels)).

    `values` are of shape (..., n), in any order; `levels` lie in 0..1, where 0 and 1 are the extremes. The
    errors are NaN for extremes, and for fewer than `LEAST` values.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=-1)
    weights = _weights(ordered.shape[-1], tuple(levels))
    estimates = ordered @ weights.T
    # Around the middle of the values, so that little is lost to rounding.
    centred = ordered - ordered.mean(axis=-1, keepdims=True)
    variances = (centred**2) @ weights.T - (centred @ weights.T) ** 2
    errors = _WIDENING * np.sqrt(np.maximum(variances, 0.0))
    inside = np.array([0.0 < level < 1.0 for level in levels]) & (ordered.shape[-1] >= LEAST)
    return estimates, np.where(inside, errors, np.nan)


@lru_cache(maxsize=64)
def _weights(n: int, levels: tuple[float, ...]) -> Array:
    """Return the weight of each order statistic, a row for each level."""
    edges = np.arange(n + 1) / n
    rows = []
    for level in levels:
        if 0.0 < level < 1.0:
            rows.append(np.diff(special.betainc((n + 1) * level, (n + 1) * (1 - level), edges)))
        else:
            rows.append(np.eye(n)[0 if level <= 0 else n - 1])
    return np.array(rows)
