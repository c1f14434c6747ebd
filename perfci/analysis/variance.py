"""How much runs differ when nothing has changed, and what the other series teach about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_DF = 30.0
"""A prior never counts for more runs than this: series of one night are not that alike."""


@dataclass(frozen=True, slots=True)
class VariancePrior:
    """What the night's other series say about a variance: as if `df` more runs had shown `variance`."""

    variance: float = 0.0
    df: float = 0.0

    def moderate(self, variance: float, df: float) -> tuple[float, float]:
        """Return the posterior variance and its degrees of freedom (Smyth 2004, equation 3)."""
        total = self.df + df
        return (self.df * self.variance + df * variance) / total, total


def _inverse_trigamma(value: float) -> float:
    """Solve trigamma(x) = value by Newton's method (Smyth 2004, appendix)."""
    x = 0.5 + 1 / value
    for _ in range(30):
        trigamma = float(special.polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(special.polygamma(2, x))
        x += step
        if abs(step) < 1e-8 * x:
            break
    return x


def fit_prior(variances: NDArray[np.float64], dfs: NDArray[np.float64]) -> VariancePrior:
    """Fit a scaled F distribution to the variances of many series by moments of their logarithms.

    Smyth 2004 (Statistical Applications in Genetics and Molecular Biology 3, article 3), section 6.2.
    Series that differ wildly give a prior that counts for little; fewer than four give none.
    """
    usable = (variances > 0) & (dfs > 0)
    if usable.sum() < 4:  # noqa: PLR2004
        return VariancePrior()
    order = np.lexsort((dfs[usable], variances[usable]))  # sums must not depend on the order of the series
    half = dfs[usable][order] / 2
    logs = np.log(variances[usable][order]) - special.digamma(half) + np.log(half)
    spread = float(logs.var(ddof=1) - special.polygamma(1, half).mean())
    df = MOST_DF if spread <= 0 else min(MOST_DF, 2 * _inverse_trigamma(spread))
    return VariancePrior(float(np.exp(logs.mean() + special.digamma(df / 2) - np.log(df / 2))), df)
