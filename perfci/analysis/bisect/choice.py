"""Which revision to measure next: the one that tells most about the answer per minute of lab time.

What a measurement tells is the mutual information between what will be seen and which hypothesis is true
(Lindley 1956, Annals of Mathematical Statistics 27): how much it is expected to lower the entropy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from perfci.analysis.bisect.model import BisectPoint, Kind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from perfci.analysis.bisect.model import BisectQuestion, Costs
    from perfci.analysis.bisect.posterior import Posterior
    from perfci.analysis.noise import Array


@dataclass(frozen=True, slots=True, eq=False)
class Outlook:
    """What is expected to be seen.

    Each table holds the probabilities of a hypothesis and of what one more deployment shows: `before` and
    `after` a single step (n rows), `flat` without any (1 row), `mixed` of each revision where there are
    several, and `whole`, whatever the hypothesis, of each revision (n + 1 rows each).
    """

    before: Array
    after: Array
    flat: Array
    mixed: Array
    whole: Array


def outlook(posterior: Posterior, question: BisectQuestion) -> Outlook:
    """Return what one more deployment of each revision is expected to show."""
    steps = question.steps
    noise = posterior.grid.noise(question.usual_variance)
    seen = np.vstack([posterior.before, posterior.after, posterior.flat[None, :], posterior.mixed]) @ noise
    before, after, flat = seen[:steps], seen[steps : 2 * steps], seen[2 * steps : 2 * steps + 1]
    mixed = seen[2 * steps + 1 :]
    # At revision r the steps up to r have happened, those above it have not.
    done = np.vstack([np.zeros_like(flat), np.cumsum(after, axis=0)])
    undone = np.vstack([np.cumsum(before[::-1], axis=0)[::-1], np.zeros_like(flat)])
    return Outlook(before, after, flat, mixed, done + undone + flat + mixed)


def information(posterior: Posterior, ahead: Outlook) -> Array:
    """Return what one more deployment of each revision is expected to tell, in nats; n + 1 values."""
    inside = (
        np.concatenate([[0.0], np.cumsum(_plogp(ahead.after))])
        + np.concatenate([np.cumsum(_plogp(ahead.before)[::-1])[::-1], [0.0]])
        + _plogp(ahead.flat)[0]
        + _plogp(ahead.mixed)
    )
    told: Array = inside - _plogp(ahead.whole) + posterior.entropy
    return np.maximum(told, 0.0)


def deployments_needed(posterior: Posterior, question: BisectQuestion, ahead: Outlook) -> float:
    """Return about how many more deployments make the likeliest hypothesis sure, if it is true.

    Its log odds grow by the Kullback-Leibler divergence of what it expects from what the others expect,
    at best (Chernoff 1959, Annals of Mathematical Statistics 30).
    """
    best = int(posterior.steps.argmax())
    share = max(posterior.none, posterior.several, float(posterior.steps[best]))
    if share == posterior.none:
        own = np.broadcast_to(ahead.flat, ahead.whole.shape)
    elif share == posterior.several:
        own = ahead.mixed
    else:
        happened = np.arange(question.steps + 1) > best
        own = np.where(happened[:, None], ahead.after[best], ahead.before[best])
    others = np.maximum(ahead.whole - own, 1e-300)
    rates = (own * np.log(np.maximum(own, 1e-300) / others)).sum(axis=1) / share
    rates -= math.log(share / max(1 - share, 1e-12))  # both as densities
    sure = question.settings.sure
    missing = math.log(sure / (1 - sure)) - math.log(share / max(1 - share, 1e-12))
    rate = float(rates.max())
    return missing / rate if rate > 0 else math.inf


def _plogp(table: Array) -> Array:
    """Return the sums of p log p of each row."""
    return np.asarray((table * np.log(np.maximum(table, 1e-300))).sum(axis=1))


def price(point: BisectPoint, costs: Costs, built: Collection[BisectPoint], runs: int) -> float:
    """Return the minutes that one more deployment of a point takes, with its runs."""
    return costs.deployment + runs * costs.run + (0.0 if point in built else costs.build)


def best_revision(
    posterior: Posterior, question: BisectQuestion, candidates: Iterable[int], built: Collection[BisectPoint]
) -> tuple[int | None, float]:
    """Return the revision that tells most per minute (None without candidates), and how many are needed."""
    ahead = outlook(posterior, question)
    told = information(posterior, ahead)

    def worth(revision: int) -> float:
        point = BisectPoint(Kind.REVISION, revision)
        return float(told[revision]) / price(point, question.costs, built, question.runs)

    best = max(sorted(candidates), key=worth, default=None)
    return best, deployments_needed(posterior, question, ahead)
