"""The proofs: two deployed states, measured afresh, side against side.

The Bayes factor of "the second is a step away" against "they are the same", from these runs alone. Under
"they are the same" it ever exceeds f with a probability of at most 1 / f, whenever one stops (Ville 1939).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from perfci.analysis.bisect.grid import Grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfci.analysis.bisect.model import BisectQuestion, Observation
    from perfci.analysis.noise import Array


def bayes_factor(
    first: Sequence[Observation],
    second: Sequence[Observation],
    question: BisectQuestion,
    sizes: Array,
    shares: Array,
) -> float:
    """Return how much likelier a step from `first` to `second` makes what was seen than none.

    `sizes` (logarithms) and `shares` are the step's prior, of which the likelier direction counts: being
    faster proves no slow-down. 1 where a side has not been measured.
    """
    if not first or not second:
        return 1.0
    up = float(shares[sizes > 0].sum()) >= float(shares[sizes < 0].sum())
    shares = np.where((sizes > 0) == up, shares, 0.0)
    grid = Grid.around(sorted(one.log for one in (*first, *second)), question)
    low = grid.log_density(first, question)
    high = grid.log_density(second, question)
    density = (
        np.interp(grid.shifts, sizes, shares / (sizes[1] - sizes[0]), left=0.0, right=0.0) * grid.spacing
    )
    total = density.sum()
    if total <= 0:
        return 1.0
    one, other = np.exp(low - low.max()), np.exp(high - high.max())
    step = float(one @ grid.transition(density / total) @ other)
    same = float(one @ other)
    return step / same if same > 0 else math.inf if step > 0 else 1.0


def interval(sizes: Array, shares: Array) -> tuple[float, float, float]:
    """Return the median of a size and its 95 % interval, all relative: 0.1 is 10 % slower."""
    order = np.argsort(sizes)
    total = np.cumsum(shares[order]) / shares.sum()
    low, middle, high = (
        math.expm1(float(np.interp(share, total, sizes[order]))) for share in (0.025, 0.5, 0.975)
    )
    return middle, low, high


def proof_runs(question: BisectQuestion, size: float) -> float:
    """Return about how many deployments both sides of a proof take together for a step of this size.

    The log of the Bayes factor grows by half the squared difference over its variance, less what spreading
    the prior over sizes costs (about one nat).
    """
    if size == 0:
        return math.inf
    wanted = 2 * (math.log(question.settings.proof) + 1)
    each = wanted * 2 * question.usual_variance / size**2
    return 2 * max(math.ceil(each), question.settings.least_proof)
