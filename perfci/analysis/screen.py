"""Which series are worth a re-run tonight? Cheap, sensitive, and for all series at once.

For each series and each window of k latest nights, the shift x of the window against the nights before
it is compared with what a step of each possible size d would give,

    odds(d, k) = rate * f((x - d) / e) / f(x / e),   e^2 = s^2 (w + (1 - w) / k + 1 / n)

with Student's t density f, the night-to-night deviation s, the share w of its variance that
neighbouring nights have in common, and n nights before. `rate` is the prior probability of a step per
night. Three things keep the odds honest: s^2 is moderated by the other series (`variance.fit_prior`);
no window counts for more than its conformal p-value allows (a series that is off on one night in four
can't surprise by being off); and what re-runs have shown about the same nights is multiplied in, so that
a question is not asked twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import special

from perfci.analysis.noise import DF, Array, Noise
from perfci.analysis.robust import CLIP, MAD_TO_SD
from perfci.analysis.sequential_test import (
    MORNING,
    SCALE_FLOOR,
    STEPS,
    Trial,
    missing_at_start,
    runs_to_proof,
)
from perfci.analysis.variance import fit_prior

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perfci.analysis.sequential_test import ConfirmSettings, TrialReading

WINDOWS = (1, 2, 3, 4, 6, 8, 12)
STANDS_FOR = (1, 1, 1, 1, 2, 2, 4)
"""How many nights each window stands for as a possible first night of a change."""
SHORT, LONG = 4, 12
"""Windows up to SHORT are held against the nights before the latest SHORT, longer ones before LONG."""
FOLLOWED = (3, 4, 6, 12)
"""Windows in which an improvement is followed without a re-run, if it is as clear as this:"""
FOLLOW_AT = -4.0
KEPT, BASELINE = 64, 40
LEAST = 15
"""Nights that a series needs before it is screened."""
LEAST_SIDE = 4
WITHIN_WIDER = 1.3
"""Iterations are more correlated than `robust.run_location` allows for."""
LONG_AGO = 10**6


@dataclass(frozen=True, slots=True)
class ScreenSettings:
    """How sensitive the screening is.

    `rate` is the prior probability that a given night brings a step to a given series, `wander` the
    share of a night's own variance (iterations apart) that neighbouring nights have in common. Which
    odds are worth a re-run is up to `ConfirmSettings.price`. `surprise` is the share of a window's
    shift that counts as having been seen before.
    """

    rate: float = 0.002
    wander: float = 0.2
    surprise: float = 0.7


class Suspicion(NamedTuple):
    """A series worth a trial, and in which window of latest nights it stands out most."""

    series: int
    window: int
    log_odds: float
    trial: Trial


class Baselines(NamedTuple):
    """Level, deviation and number of nights of each series."""

    level: Array
    scale: Array
    nights: Array


def ordered_median(ordered: Array, counts: NDArray[np.int64]) -> Array:
    """Return the medians of the rows of a sorted array with NaN last and `counts` numbers each."""
    rows = np.arange(len(ordered))
    low, high = np.maximum(counts - 1, 0) // 2, np.minimum(counts // 2, ordered.shape[1] - 1)
    out: Array = (ordered[rows, low] + ordered[rows, high]) / 2
    return out


def levels(nights: Array) -> Baselines:
    """Return level, scale and number of nights of each row, NaN being nights without a result.

    As `robust.level_and_scale`, for many series at once.
    """
    present = np.isfinite(nights)
    counts = present.sum(axis=1)
    centre = ordered_median(np.sort(nights, axis=1), counts)
    away = nights - centre[:, None]
    width = MAD_TO_SD * ordered_median(np.sort(np.abs(away), axis=1), counts)
    width = CLIP * np.maximum(width, SCALE_FLOOR / 2)[:, None]
    clipped = np.where(present, np.clip(away, -width, width), 0.0)
    some = np.maximum(counts, 1)
    mean = clipped.sum(axis=1) / some
    square = np.where(present, (clipped - mean[:, None]) ** 2, 0.0).sum(axis=1)
    return Baselines(centre + mean, np.sqrt(square / np.maximum(some - 1, 1)), counts.astype(np.float64))


def window_shift(latest: Array, base: Baselines) -> tuple[Array, Array]:
    """Return the shift of the latest nights (a column each), and how many of them have a result.

    The mean, with outliers pulled towards the middle: of two nights to within 1.5 deviations of the
    one nearer to the baseline, of more to within 2 of their median.
    """
    away = latest - base.level[:, None]
    counts = np.isfinite(away).sum(axis=1)
    ordered = np.sort(away, axis=1)
    if latest.shape[1] == 2:  # noqa: PLR2004
        near, far = ordered[:, 0], ordered[:, 1]
        middle = np.where((counts == 2) & (np.abs(far) < np.abs(near)), far, near)  # noqa: PLR2004
        reach = 1.5 * base.scale
    else:
        middle, reach = ordered_median(ordered, counts), 2 * base.scale
    pulled = np.clip(away, (middle - reach)[:, None], (middle + reach)[:, None])
    total = np.where(np.isfinite(pulled), pulled, 0.0).sum(axis=1)
    return total / np.maximum(counts, 1), counts


@dataclass(slots=True)
class Screen:
    """The nights of many series, as far as they are needed to suspect. To store it, store its arrays."""

    series: int
    settings: ScreenSettings = field(default_factory=ScreenSettings)
    nights: Array = field(init=False)
    """Log run values, series x KEPT, the latest last; nights before a known step are at its new level."""
    within: Array = field(init=False)
    """Typical squared standard error of a run value, from its iterations."""
    scatter: Array = field(init=False)
    """Series x KEPT: how re-runs of one revision scattered on one morning, the latest last."""
    known: Array = field(init=False)
    """Series x sizes: log Bayes factors of the latest re-runs."""
    asked: NDArray[np.int64] = field(init=False)
    """Nights since those."""

    def __post_init__(self) -> None:
        self.nights = np.full((self.series, KEPT), np.nan)
        self.within = np.full(self.series, np.nan)
        self.scatter = np.full((self.series, KEPT), np.nan)
        self.known = np.zeros((self.series, STEPS.size))
        self.asked = np.full(self.series, LONG_AGO)

    def add(self, values: Array, errors: Array) -> None:
        """Add a night: one log run value per series with its standard error, NaN where there is none."""
        self.nights = np.concatenate([self.nights[:, 1:], values[:, None]], axis=1)
        before = np.where(np.isfinite(self.within), self.within, errors**2)
        self.within = np.where(np.isfinite(errors), before + 0.05 * (errors**2 - before), self.within)
        self.asked += 1

    def relevel(self, series: int, window: int, shift: float) -> None:
        """Move what was before the latest `window` nights to the new level: the step is known."""
        self.nights[series, : KEPT - window] += shift
        self.known[series] = 0.0
        self.asked[series] = LONG_AGO

    def remember(self, series: int, trial: Trial, reading: TrialReading) -> None:
        """Keep what tonight's re-runs have shown: of a step, and of the scatter of runs."""
        self.known[series] = reading.log_factors
        self.asked[series] = 0
        for side in (trial.old, trial.new):
            if len(side) >= LEAST_SIDE:
                away = (np.array(side) - np.median(side)) * math.sqrt(len(side) / (len(side) - 1))
                self.scatter[series] = np.concatenate([self.scatter[series], away])[-KEPT:]

    def locate(self, series: int, trial: Trial, effect: float, longest: int) -> int:
        """Return for how many nights a step of known size has been there, at least 1, at most `longest`.

        The maximum likelihood change point between two known levels (Hinkley 1970).
        """
        away = self.nights[series, KEPT - min(longest, KEPT) :] - trial.level
        away = away[::-1]
        gain = trial.noise(away - math.log1p(effect)) - trial.noise(away)
        return int(np.argmax(np.cumsum(np.where(np.isfinite(away), gain, 0.0)))) + 1

    def suspect(self, confirming: ConfirmSettings, today: float = 0.0) -> list[Suspicion]:
        """Return the series in which re-runs are worth their price, the likeliest first.

        `today` is how far this morning's level is moved by what the canaries know, in logarithms.
        Improvements are followed on the way: their new level becomes the baseline.
        """
        bases = {gap: self._baselines(gap) for gap in (SHORT, LONG)}
        if self._follow(bases):
            bases = {gap: self._baselines(gap) for gap in (SHORT, LONG)}
        odds = np.array([self._odds(i, bases[_gap(k)]) for i, k in enumerate(WINDOWS)])
        by_window = special.logsumexp(odds, axis=2)
        total = special.logsumexp(by_window, axis=0)
        worth = self._worth(special.logsumexp(odds, axis=0), total, bases[SHORT], confirming)
        out = []
        for s in worth[np.argsort(-total[worth], kind="stable")].tolist():
            window = WINDOWS[int(by_window[:, s].argmax())]
            prior = special.logsumexp(odds[:, s, :], axis=0)
            trial = self._trial(s, _gap(window), bases[_gap(window)], today, prior)
            out.append(Suspicion(s, window, float(total[s]), trial))
        return out

    def _worth(
        self, odds: Array, total: Array, base: Baselines, confirming: ConfirmSettings
    ) -> NDArray[np.int64]:
        """Return the series whose first run buys proofs at the set price, as `confirm.proofs_per_run`."""
        share = np.exp(odds - np.logaddexp(0, total)[:, None])
        missing = np.full((self.series, STEPS.size), missing_at_start(confirming))
        scale, error = base.scale[:, None], self._level_error(base)[:, None]
        needed = np.maximum(runs_to_proof(scale, error, missing), confirming.least_new + confirming.least_old)
        return np.flatnonzero((share / needed).sum(axis=1) >= 1 / confirming.price)

    def _baselines(self, gap: int) -> Baselines:
        base = levels(self.nights[:, KEPT - gap - BASELINE : KEPT - gap])
        usable, df = base.nights >= LEAST, np.maximum(base.nights - 1, 0)
        prior = fit_prior(np.where(usable, base.scale, 0.0) ** 2, df)
        moderated = (prior.df * prior.variance + df * base.scale**2) / np.maximum(prior.df + df, 1)
        return base._replace(scale=np.sqrt(np.maximum(moderated, SCALE_FLOOR**2)))

    def _shared(self, scale: Array) -> Array:
        """Return the share of each series' variance that neighbouring nights have in common.

        What the iterations leave open is new every night.
        """
        own = 1 - np.nan_to_num(self.within) * WITHIN_WIDER / scale**2
        out: Array = self.settings.wander * np.clip(own, 0.1, 1.0)
        return out

    def _shift(self, window: int, base: Baselines) -> tuple[Array, Array, Array]:
        """Return the shift of a window, its standard error, and how many of its nights have a result."""
        shift, present = window_shift(self.nights[:, -window:], base)
        shared = self._shared(base.scale)
        some = np.maximum(present, 1)
        return (
            shift,
            base.scale * np.sqrt(shared + (1 - shared) / some + 1 / np.maximum(base.nights, 1)),
            present,
        )

    def _follow(self, bases: dict[int, Baselines]) -> bool:
        """Follow clear improvements; say whether there was one."""
        left = np.ones(self.series, dtype=bool)
        for k in FOLLOWED:
            base = bases[_gap(k)]
            shift, error, present = self._shift(k, base)
            clear = left & (base.nights >= LEAST) & (present >= k - 1) & (shift < FOLLOW_AT * error)
            for s in np.flatnonzero(clear).tolist():
                self.relevel(s, k, float(shift[s]))
            left &= ~clear
        return not left.all()

    def _level_error(self, base: Baselines) -> Array:
        """Return how uncertain this morning's level of the old revision is."""
        share = self._shared(base.scale) + 1 / np.maximum(base.nights, 1)
        out: Array = np.sqrt(MORNING**2 + base.scale**2 * share)
        return out

    def _odds(self, index: int, base: Baselines) -> Array:
        """Return the log odds of a step for a window, series x sizes; -inf where nothing can be said."""
        k = WINDOWS[index]
        shift, error, present = self._shift(k, base)
        usable = (base.nights >= LEAST) & (present >= 1) & np.isfinite(self.nights[:, -1])
        unlikely = np.log1p((shift / error) ** 2 / DF)[:, None]
        likely = np.log1p(((shift[:, None] - STEPS) / error[:, None]) ** 2 / DF)
        ratio = np.minimum((DF + 1) / 2 * (unlikely - likely), self._surprise(shift, base, k)[:, None])
        prior = math.log(self.settings.rate * STANDS_FOR[index] / STEPS.size)
        memory = np.where((self.asked < k)[:, None], self.known, 0.0)
        return np.where(usable[:, None], ratio + prior + memory, -np.inf)

    def _surprise(self, shift: Array, base: Baselines, window: int) -> Array:
        """Return the most that a window may say: -log of its conformal p-value, more for more nights.

        The p-value is the rank of the shift among the single nights before (Vovk, Gammerman & Shafer
        2005).
        """
        gap = _gap(window)
        before = self.nights[:, KEPT - gap - BASELINE : KEPT - gap] - base.level[:, None]
        above = (before >= self.settings.surprise * shift[:, None]).sum(axis=1)
        out: Array = -np.log((1 + above) / (1 + base.nights)) * (1 + 0.5 * (window - 1))
        return out

    def _trial(self, series: int, gap: int, base: Baselines, today: float, prior: Array) -> Trial:
        level, scale = float(base.level[series]), float(base.scale[series])
        error = float(self._level_error(base)[series])
        past = self.nights[series, : KEPT - gap] - level
        reruns = self.scatter[series][np.isfinite(self.scatter[series])]
        if reruns.size >= LEAST:
            scale = max(scale, float(levels(reruns[None, :]).scale[0]))
        noise = Noise.of(scale, np.concatenate([past[np.isfinite(past)], reruns]))
        return Trial(level + today, error, noise, tuple(prior.tolist()))


def _gap(window: int) -> int:
    return SHORT if window <= SHORT else LONG
