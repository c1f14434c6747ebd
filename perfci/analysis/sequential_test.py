"""Is it the code? Fresh deployments of the last good and of the new revision, run side by side.

A `Trial` is the state of such a comparison. It says what it wants run next (`next_side`), takes the
outcome (`Trial.observe`), and decides `same`, `different` or `unknown` (`decide`).

The method is a sequential Bayes factor on a grid. With the unknown level m of this morning, common to
both revisions, and the step d of the new one,

    x_old ~ F(x - m),   x_new ~ F(x - m - d),   d in STEPS,   F: `noise.Noise`

the Bayes factor of "d > 0" against "d = 0", m integrated out, is an e-process: under "d = 0" it ever
exceeds 1 / a with a probability of at most a, whenever one stops and whatever one runs next (Ville
1939; Grünwald, de Heide & Koolen 2024), as far as F is right. Every run has a deployment of its own,
so F holds what differs from deployment to deployment too, as the nights do from which it is taken.

The history says where m should lie, so most runs can be spent on the new revision. One part in ten of
the prior of m is wide: a morning on which everything is slow proves nothing until the old revision has
been run as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from perfci.analysis.decision import Decision
from perfci.analysis.noise import Array, Noise
from perfci.analysis.robust import level_and_scale, run_location

if TYPE_CHECKING:
    from collections.abc import Sequence

STEPS = np.log1p([0.015, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.14, 0.2, 0.3, 0.5, 0.8, 1.5])
"""Sizes that a step may have, in logarithms; equally likely before anything is seen."""
STRANGE_MORNING = 0.1
"""Prior probability that this morning's level has nothing to do with the history's."""
STRANGE_REACH = 0.4
PROMISING = 5.0
"""Bayes factor from which the old revision has to be run, whatever the history says."""
MOST_WORTH = 16.0
"""The history never stands for more runs of the old revision than this."""
MOST_LEVELS = 800
MOST_WITHIN = 24
LARGEST_STEP = math.log(10)
SCALE_FLOOR = 0.002
MORNING = 0.004
"""How far a morning's level may be from that of the nights, beside the series' own wander."""


class Side(StrEnum):
    """Which revision to deploy afresh."""

    OLD = "old"
    NEW = "new"


@dataclass(frozen=True, slots=True)
class ConfirmSettings:
    """When a trial ends.

    `proof` is the Bayes factor from the re-runs alone that is needed (1 / 250: of unchanged series that
    are tried, at most one in 250 is called different), `odds` the odds for a change with everything
    known that are needed besides. A Bayes factor of at most `same` says that nothing changed; one of at most
    `refute`, as strong as a proof, refutes a change that the nights have proven. `price` is how many runs
    the proof of one real step may cost: runs go where they buy most, and a trial ends
    when the next proof would cost more. `most_runs` bounds one morning.
    """

    proof: float = 250.0
    odds: float = 30.0
    same: float = 0.1
    refute: float = 1 / 250
    price: float = 900.0
    most_runs: int = 96
    least_new: int = 3
    least_old: int = 3


@dataclass(frozen=True, slots=True)
class Trial:
    """A comparison of two revisions of one series.

    `level` and `level_error` (logarithms) are what the history says about the old revision's level
    this morning, `noise` how single runs scatter. `prior` are the log odds for a step of each size of
    `STEPS`, before the re-runs. `old` and `new` are the log locations of the runs so far.
    """

    level: float
    level_error: float
    noise: Noise
    prior: tuple[float, ...]
    old: tuple[float, ...] = ()
    new: tuple[float, ...] = ()

    def observe(self, side: Side, iterations: Sequence[float]) -> Trial:
        """Return the trial with one more fresh deployment; the same trial if it gave no iteration.

        Several runs on one deployment are one observation: give all their iterations together. Taken
        for several, they would ignore what differs from deployment to deployment.
        """
        location = run_location(iterations)
        if location is None:
            return self
        if side is Side.OLD:
            return replace(self, old=(*self.old, location.log))
        return replace(self, new=(*self.new, location.log))

    @property
    def runs(self) -> int:
        """How many runs were spent."""
        return len(self.old) + len(self.new)


@dataclass(frozen=True, slots=True)
class TrialReading:
    """What the runs of a trial say.

    `log_factors` are the logarithms of the Bayes factors of each step size against no step, from the
    re-runs alone; `log_proof` that of "a step", all sizes alike; `log_odds` the odds with everything
    known. `effect` is the posterior mean of the step, relative, with its 95 % interval on the grid.
    """

    log_factors: Array
    log_proof: float
    log_odds: float
    effect: float
    low: float
    high: float


def start_trial(baseline: Sequence[Sequence[float]], *, wander: float = 0.2, odds: float = 0.05) -> Trial:
    """Start a trial from the iterations of a baseline's runs, at least two.

    `odds` for a step at all, spread evenly over the sizes, and `wander` as in `AnalysisSettings`.
    """
    logs = [found.log for run in baseline if (found := run_location(run)) is not None]
    level, scale = level_and_scale(logs)
    scale = max(scale, SCALE_FLOOR)
    error = math.sqrt(MORNING**2 + scale**2 * (wander + 1 / len(logs)))
    prior = math.log(odds / STEPS.size)
    return Trial(level, error, Noise.of(scale, np.array(logs) - level), (prior,) * STEPS.size)


def possible_levels(trial: Trial) -> tuple[Array, Array]:
    """Return this morning's possible levels, evenly spaced, and the log of their prior weights."""
    reach, scale = 4 * trial.level_error, trial.noise.scale
    seen = [x - trial.level for x in (*trial.old, *trial.new)]
    low = max(min([-reach, *(x - 4 * scale for x in seen)]), -3 * STRANGE_REACH)
    high = min(max([reach, *(x + 4 * scale for x in seen)]), 3 * STRANGE_REACH)
    spacing = min(scale / 3, trial.level_error / 2)
    offsets = np.linspace(low, high, min(MOST_LEVELS, int((high - low) / spacing) + 2))
    usual = np.exp(-0.5 * (offsets / trial.level_error) ** 2) / trial.level_error
    strange = np.exp(-0.5 * (offsets / STRANGE_REACH) ** 2) / STRANGE_REACH
    weight = (1 - STRANGE_MORNING) * usual + STRANGE_MORNING * strange
    return trial.level + offsets, np.log(weight)


def within_sizes(scale: float) -> list[Array]:
    """Return steps that stand for each of `STEPS`, at most two deviations apart, 24 of them at most.

    A step between two sizes is as good as one of them only where single runs scatter by about as much as
    lies between. The last size stands for all above it, up to a factor of 10.
    """
    middles = (STEPS[1:] + STEPS[:-1]) / 2
    low = np.concatenate([[STEPS[0] - (middles[0] - STEPS[0])], middles])
    high = np.concatenate([middles, [LARGEST_STEP]])
    numbers = np.minimum(np.ceil((high - low) / (2 * scale)), MOST_WITHIN).astype(int)
    return [
        a + (b - a) * (np.arange(n) + 0.5) / n if n > 1 else np.array([size])
        for a, b, n, size in zip(low, high, numbers, STEPS, strict=True)
    ]


def read(trial: Trial, *, fine: bool = False) -> TrialReading:
    """Work out what the runs so far say.

    `fine` spreads each size over all steps that it stands for (`within_sizes`), which a series with
    little noise needs.
    """
    within = within_sizes(trial.noise.scale) if fine else []
    steps = np.concatenate(within) if fine else STEPS
    levels, weight = possible_levels(trial)
    common = weight + sum(trial.noise(x - levels) for x in trial.old)
    nothing = common + sum(trial.noise(x - levels) for x in trial.new)
    stepped_levels = levels[None, :] + steps[:, None]
    stepped = np.broadcast_to(common, stepped_levels.shape)
    stepped = stepped + sum(trial.noise(x - stepped_levels) for x in trial.new)
    factors: Array = special.logsumexp(stepped, axis=1) - special.logsumexp(nothing)
    if fine:
        each = np.split(factors, np.cumsum([one.size for one in within])[:-1])
        factors = np.array([special.logsumexp(one) - math.log(one.size) for one in each])
    posterior = np.asarray(trial.prior) + factors
    odds = float(special.logsumexp(posterior))
    share = np.exp(posterior - odds)
    below = np.cumsum(share)
    last = STEPS.size - 1
    return TrialReading(
        log_factors=factors,
        log_proof=float(special.logsumexp(factors) - math.log(STEPS.size)),
        log_odds=odds,
        effect=math.expm1(float((share * STEPS).sum())),
        low=math.expm1(STEPS[min(int(np.searchsorted(below, 0.025)), last)]),
        high=math.expm1(STEPS[min(int(np.searchsorted(below, 0.975)), last)]),
    )


def decide(trial: Trial, reading: TrialReading, settings: ConfirmSettings) -> Decision:
    """Decide on what is known; `unknown` is the honest answer when the runs don't tell."""
    enough = len(trial.new) >= settings.least_new and len(trial.old) >= settings.least_old
    proven = reading.log_proof >= math.log(settings.proof) and reading.log_odds >= math.log(settings.odds)
    if enough and proven:
        return Decision.DIFFERENT
    return Decision.SAME if reading.log_proof <= math.log(settings.same) else Decision.UNKNOWN


def runs_to_proof(scale: Array, level_error: Array, missing: Array) -> Array:
    """Return, for each size of step, about how many more runs would prove it, were it real.

    `missing` is the log Bayes factor that is still needed. A factor of L needs a difference with a
    variance of d^2 / 2 L (Wald 1947). The history is worth (scale / level_error)^2 runs of the old
    revision; beyond that either side needs its own. Arguments are broadcast against the sizes.
    """
    variance = STEPS**2 / (2 * np.maximum(missing, 0.5))
    square, known = scale**2, level_error**2
    each, worth = 2 * square / variance, square / known
    alone = square / np.maximum(variance - known, 1e-12)
    out: Array = np.where(each > worth, 2 * each - worth, alone)
    return out


def missing_at_start(settings: ConfirmSettings) -> float:
    """Return the log Bayes factor that the proof of one size needs, as any other could have been it."""
    return math.log(settings.proof) + math.log(STEPS.size)


def proofs_per_run(trial: Trial, reading: TrialReading, settings: ConfirmSettings) -> float:
    """Return how many proofs of a real step the next run can be expected to buy."""
    posterior = np.asarray(trial.prior) + reading.log_factors
    share = np.exp(posterior - np.logaddexp(0, reading.log_odds))
    missing = missing_at_start(settings) - reading.log_factors
    needed = runs_to_proof(np.array(trial.noise.scale), np.array(trial.level_error), missing)
    least = max(settings.least_new + settings.least_old - trial.runs, 1)
    return float((share / np.maximum(needed, least)).sum())


def next_side(trial: Trial, reading: TrialReading, settings: ConfirmSettings) -> Side | None:
    """Say which revision to deploy and run next; None when the trial has ended.

    The history stands for runs of the old revision, so the new one comes first. Once it looks slower,
    the old one has to be run as well.
    """
    if trial.runs >= settings.most_runs or decide(trial, reading, settings) is Decision.DIFFERENT:
        return None
    if proofs_per_run(trial, reading, settings) < 1 / settings.price:
        return None
    worth = min((trial.noise.scale / trial.level_error) ** 2, MOST_WORTH)
    promising = reading.log_proof > math.log(PROMISING)
    if promising and len(trial.old) < max(settings.least_old, len(trial.new) / 3):
        return Side.OLD
    return Side.OLD if len(trial.old) + worth < len(trial.new) else Side.NEW
