"""How much runs differ when nothing has changed, and what the other series teach about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

if TYPE_CHECKING:
    from collections.abc import Sequence

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


@dataclass(frozen=True, slots=True)
class VarianceLevels:
    """Variances of logarithms: of a run's location because of its few iterations, from run to run on
    one deployment, and from deployment to deployment.
    """

    within: float
    run: float
    deployment: float

    def of_mean(self, deployments: int, runs: int) -> float:
        """Return the variance of a mean over deployments with so many runs each."""
        return (self.deployment + (self.run + self.within) / runs) / deployments

    def best_runs(self, deployment_cost: float, run_cost: float) -> int:
        """Return how many runs per deployment give the least variance for the cost (Cochran 1977, 10.6).

        sqrt(cost of a deployment / cost of a run * variance of a run / variance of a deployment): one
        where deployments rule the noise, many where they are dear and alike.
        """
        if self.deployment <= 0:
            return MOST_RUNS
        ratio = deployment_cost / run_cost * (self.run + self.within) / self.deployment
        return int(min(max(round(ratio**0.5), 1), MOST_RUNS))


MOST_RUNS = 20


def variance_levels(deployments: Sequence[Sequence[tuple[float, float]]]) -> VarianceLevels:
    """Estimate the three levels from unchanged code that was deployed and run again and again.

    `deployments` holds, per deployment, the (log location, standard error) of its runs. Nested analysis
    of variance by moments (Searle, Casella & McCulloch 1992, section 3.6); what comes out negative is 0.
    At least two deployments, one of them with at least two runs.
    """
    groups = [np.array([log for log, _ in runs]) for runs in deployments]
    sizes = np.array([group.size for group in groups], dtype=np.float64)
    within = float(np.mean([error**2 for runs in deployments for _, error in runs]))
    inside = sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / (sizes.sum() - sizes.size)
    means = np.array([group.mean() for group in groups])
    grand = float((sizes * means).sum() / sizes.sum())
    between = float((sizes * (means - grand) ** 2).sum()) / (sizes.size - 1)
    typical = (sizes.sum() - (sizes**2).sum() / sizes.sum()) / (sizes.size - 1)
    return VarianceLevels(
        within=within,
        run=max(inside - within, 0.0),
        deployment=max((between - inside) / float(typical), 0.0),
    )
