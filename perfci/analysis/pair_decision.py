"""Different, the same, or unknown? A decision on pairs that stays right however often one looks. Pure.

The unit of evidence is the draw (`pairs`). For each possible log(new / old) m, the draws' effects x_i of
variance v_i give

    E(m) = (1 + g V)^(-1/2) exp(g S^2 / (2 (1 + g V))),   S = sum (x_i - m) / v_i,   V = sum 1 / v_i,

the likelihood ratio of "anything, N(m, g)" against "it is m". If it is m, E(m) ever exceeds 1 / a with a
probability of at most a, whenever one stops (Ville 1939; Robbins 1970). All m that are not excluded so form
a confidence sequence: an interval that holds the truth at all times at once.

- `different`: the sequence of level 1 - `error` does not hold 0.
- `same`: that of level 1 - `same_error` lies within ±`within`. It is a proof of its own: too little evidence
  is never one. So a refutation costs as much as a confirmation.
- `unknown`: neither.

Swapping the sides turns every sign and changes no decision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scipy import special

from perfci.analysis.decision import Decision
from perfci.analysis.pairs import DRAW_DEVIATION, DRAW_DEVIATION_DF, draw_effect, draw_variance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfci.analysis.pairs import DrawEffect

WORTH, WIDEST = 3.0, 3.0
"""A variance of so few degrees of freedom, or fewer, is widened as that of t with 3 of them."""


@dataclass(frozen=True, slots=True)
class PairSettings:
    """When a question about pairs is answered.

    `error` is the probability with which unchanged code is ever called different, `same_error` that with
    which a change of `within` (relative) or more is ever called the same. They hold as far as draws scatter
    by no more than `draw_deviation`, or than the draws before have shown.
    """

    error: float = 0.01
    same_error: float = 0.05
    within: float = 0.05
    draw_deviation: float = DRAW_DEVIATION
    draw_df: float = DRAW_DEVIATION_DF

    def __post_init__(self) -> None:
        if not (0 < self.error < 1 and 0 < self.same_error < 1 and self.within > 0):
            raise ValueError("error and same_error must lie between 0 and 1, within above 0")
        if self.draw_deviation <= 0:
            raise ValueError("draw_deviation must be above 0: a draw that has no luck would prove all alone")


@dataclass(frozen=True, slots=True)
class PairReading:
    """What the draws so far prove: the decision, and the confidence sequence of log(new / old) at level 1 -
    error.
    """

    decision: Decision
    log: float
    low: float
    high: float
    draws: int


def decide_pairs(draws: Sequence[Sequence[float]], settings: PairSettings) -> PairReading | None:
    """Decide on log(new / old), pair by pair, draw by draw, in order; None where no draw has enough pairs."""
    return decide_draws([one for pairs in draws if (one := draw_effect(pairs)) is not None], settings)


def decide_draws(found: Sequence[DrawEffect], settings: PairSettings) -> PairReading | None:
    """Decide on the effects of draws, in the order in which they were drawn; None without any."""
    if not found:
        return None
    each = draw_variances(found, settings)
    precisions = [1 / one for one in each]
    total = math.fsum(precisions)
    log = math.fsum(w * one.log for w, one in zip(precisions, found, strict=True)) / total
    mixing = _mixing(each)
    reach = _reach(total, mixing, settings.error)
    low, high = log - reach, log + reach
    # Two levels, as the two mistakes have rates of their own; the second one is made on one end only.
    same = _reach(total, mixing, settings.same_error)
    limit = math.log1p(settings.within)
    if low > 0 or high < 0:
        decision = Decision.DIFFERENT
    elif log - same > -limit and log + same < limit:
        decision = Decision.SAME
    else:
        decision = Decision.UNKNOWN
    return PairReading(decision, log, low, high, len(found))


def smallest_proven(found: Sequence[DrawEffect], settings: PairSettings, power: float = 0.8) -> float:
    """Return the MDE: the relative change that draws as these would prove with this power."""
    each = draw_variances(found, settings)
    total = math.fsum(1 / one for one in each)
    quantile = math.sqrt(2) * _inverse_error(2 * power - 1)
    return math.expm1(_reach(total, _mixing(each), settings.error) + quantile / math.sqrt(total))


def _inverse_error(value: float) -> float:
    return float(special.erfinv(value))


def _mixing(variances: Sequence[float]) -> float:
    """Return the variance of the alternatives, g: a few times that of the first draw, so that few draws prove
    most. It comes from how the pairs of that draw scatter, not from what they say.
    """
    return 8 * variances[0]


def draw_variances(found: Sequence[DrawEffect], settings: PairSettings) -> list[float]:
    """Return each draw's variance as it could be told before that draw: one must not choose it by what came
    out.
    """
    each = []
    for position, one in enumerate(found):
        between, df = draw_variance(found[:position], settings.draw_deviation, settings.draw_df)
        # A t distribution's variance is wider by df / (df - 2), and so is what these few observations may
        # have.
        known = df / (df - 2) if df > WORTH else WIDEST
        pairs = one.df / (one.df - 2) if one.df > WORTH else WIDEST
        each.append(between * known + one.error**2 * pairs)
    return each


def _reach(precision: float, mixing: float, error: float) -> float:
    """Return half the width of the confidence sequence: all m with E(m) < 1 / error."""
    grown = 1 + mixing * precision
    return math.sqrt(2 * grown / (mixing * precision**2) * math.log(math.sqrt(grown) / error))
