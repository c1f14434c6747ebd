"""What pairs of iterations say: how much slower is one side than the other, and how sure is that? Pure.

A pair is one iteration (or block of iterations) on either side of two clouds that run beside each other,
within the same second; its difference is log(new / old). Whatever both sides feel is in both terms and
cancels. A draw is one deployment of both sides: what it happened to get (memory layout, hash seeds, order of
rows) stays with all of its pairs, so that more pairs in one draw don't average it away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from perfci.analysis.robust import TRIM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LEAST_PAIRS = 8
"""Fewer pairs of a draw say nothing: their scatter can't be told."""
DRAW_DEVIATION = 0.015
"""Standard deviation of log(new / old) from draw to draw, for unchanged code: what a lab has measured of its
own clouds replaces it. It is also the least that is ever assumed: a few draws that happen to agree prove
nothing."""
DRAW_DEVIATION_DF = 8.0
"""How many draws' worth of evidence that figure counts for."""
LONGEST_LAG = 12
MOST_CORRELATION = 0.9


@dataclass(frozen=True, slots=True)
class DrawEffect:
    """One draw's log(new / old): the midmean of its pairs, its standard error, and what that error rests on.

    `error` holds the scatter of the pairs alone; what the draw itself happened to get is not in it. `df` are
    the degrees of freedom of the error, `scale` the standard deviation of single pairs.
    """

    log: float
    error: float
    df: float
    pairs: int
    scale: float


@dataclass(frozen=True, slots=True)
class PairedEffect:
    """What all draws together say: log(new / old), its standard error and degrees of freedom, and the
    variances.

    `within` is the variance that the pairs leave in one draw's effect (mean over the draws), `between` that
    from draw to draw.
    """

    log: float
    error: float
    df: float
    within: float
    between: float
    draws: int
    pairs: int

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the interval of log(new / old), for a look that was planned before (else:
        `pair_decision`).
        """
        reach = float(stats.t.ppf((1 + confidence) / 2, self.df)) * self.error
        return self.log - reach, self.log + reach

    def smallest_visible(self, confidence: float = 0.95, power: float = 0.8) -> float:
        """Return the MDE: the relative change that so many draws and pairs show with this power."""
        quantiles = stats.t.ppf((1 + confidence) / 2, self.df) + stats.t.ppf(power, self.df)
        return math.expm1(float(quantiles) * self.error)


def draw_effect(differences: Sequence[float]) -> DrawEffect | None:
    """Return what the pairs of one draw say, in the order in which they ran; None for fewer than
    `LEAST_PAIRS`.

    The location is the mean of the middle half (as `robust.run_location`), so that a quarter of spikes on one
    side moves it little. Its variance is that of the influence function, (winsorised - mean) / (1 - 2 trim),
    with neighbours' correlation in it (`_long_run`; Newey & West 1987): a second mode that lasts for seconds
    makes fewer pairs out of many. Values that are not finite are left out.
    """
    logs = np.asarray(differences, dtype=np.float64)
    logs = logs[np.isfinite(logs)]
    n = logs.size
    if n < LEAST_PAIRS:
        return None
    ordered = np.sort(logs)
    cut = int(TRIM * n)
    middle = ordered[cut : n - cut]
    winsorised = np.clip(logs, middle[0], middle[-1])
    influence = (winsorised - winsorised.mean()) / (1 - 2 * cut / n)
    white = float(influence @ influence) / (n - 1)
    # Never below what independent pairs would have: a negative correlation is luck, or not worth betting on.
    variance = max(white, _long_run(influence, white))
    used = n - 2 * cut - 1
    # Correlated pairs are worth fewer, for the estimate of their variance, too.
    df = max(2.0, used * white / variance) if variance > 0 else float(used)
    return DrawEffect(float(middle.mean()), math.sqrt(variance / n), df, n, math.sqrt(white))


def _long_run(influence: NDArray[np.float64], white: float) -> float:
    """Return the long-run variance for correlated neighbours: what an AR(1) process has, or Bartlett's sum.

    The larger one counts: the first is right for short memory even with few pairs (its lag-1 correlation is
    freed of the bias that taking the mean out brings, Kendall 1954), the second sees what lasts longer.
    """
    n = influence.size
    total = float(influence @ influence)
    if total == 0:
        return white
    correlations = [float(influence[lag:] @ influence[:-lag]) / total for lag in range(1, _lags(n) + 1)]
    first = min(correlations[0] + (1 + 4 * correlations[0]) / n, MOST_CORRELATION)
    short = white * (1 + first) / (1 - first)
    weights = [1 - lag / (_lags(n) + 1) for lag in range(1, _lags(n) + 1)]
    lasting = white * (1 + 2 * math.fsum(w * r for w, r in zip(weights, correlations, strict=True)))
    return max(short, lasting)


def _lags(n: int) -> int:
    return min(LONGEST_LAG, math.ceil(1.5 * math.cbrt(n)))


def paired_effect(
    draws: Sequence[Sequence[float]],
    *,
    draw_deviation: float = DRAW_DEVIATION,
    draw_df: float = DRAW_DEVIATION_DF,
) -> PairedEffect | None:
    """Return what the pairs of some draws say together; None where no draw has enough of them.

    `draws` holds log(new / old) pair by pair, draw by draw. Each draw counts alike. `draw_deviation` is what
    the lab knows of its draws, worth `draw_df` draws; what these draws show is pooled with it, and never goes
    below it.
    """
    found = [one for pairs in draws if (one := draw_effect(pairs)) is not None]
    return combined(found, draw_deviation=draw_deviation, draw_df=draw_df) if found else None


def combined(found: Sequence[DrawEffect], *, draw_deviation: float, draw_df: float) -> PairedEffect:
    """Return what at least one draw says; see `paired_effect`."""
    logs = np.array([one.log for one in found])
    within = float(np.mean([one.error**2 for one in found]))
    between, df = draw_variance(found, draw_deviation, draw_df)
    variance = between + within
    pairs_df = float(np.mean([one.df for one in found])) * len(found)
    # Satterthwaite 1946: the degrees of freedom of a sum of two estimated variances.
    parts = between**2 / df + within**2 / pairs_df
    both = variance**2 / parts if parts else df
    return PairedEffect(
        log=float(logs.mean()),
        error=math.sqrt(variance / len(found)),
        df=min(both, 200.0),
        within=within,
        between=between,
        draws=len(found),
        pairs=sum(one.pairs for one in found),
    )


def smallest_visible(draw: DrawEffect) -> float:
    """Return the MDE of one draw alone: the relative change that it shows at 95 % in 8 of 10 cases."""
    return combined([draw], draw_deviation=DRAW_DEVIATION, draw_df=DRAW_DEVIATION_DF).smallest_visible()


def draw_variance(found: Sequence[DrawEffect], deviation: float, df: float) -> tuple[float, float]:
    """Return the variance from draw to draw, never below the known one, and its degrees of freedom."""
    known = deviation**2
    if len(found) < 2:  # noqa: PLR2004
        return known, df
    logs = np.array([one.log for one in found])
    within = float(np.mean([one.error**2 for one in found]))
    more = len(found) - 1
    seen = max(0.0, float(logs.var(ddof=1)) - within)
    return max(known, (df * known + more * seen) / (df + more)), df + more
