"""Failure rates through the nights, judged by an exact test.

One run may prove a change of a failure rate: the evidence is the number of failed requests, and a
product that suddenly fails is not to wait for a second night.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from perfci.analysis.evidence import Evidence

if TYPE_CHECKING:
    from perfci.analysis.settings import AnalysisSettings
    from perfci.analysis.types import RunPoint


@dataclass(frozen=True, slots=True)
class Tally:
    """Failed and attempted iterations of one run."""

    run_id: str
    failures: int
    attempts: int

    @property
    def rate(self) -> float:
        """Failed / attempted."""
        return self.failures / self.attempts


def exact_p_value(failures: int, attempts: int, baseline_failures: int, baseline_attempts: int) -> float:
    """Return Fisher's two-sided exact p-value for two failure rates being equal."""
    table = np.array(
        [
            [failures, attempts - failures],
            [baseline_failures, baseline_attempts - baseline_failures],
        ]
    )
    return float(stats.fisher_exact(table).pvalue)


def wilson(failures: float, attempts: float, confidence: float) -> tuple[float, float]:
    """Return Wilson's score interval of a rate (Wilson 1927)."""
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    rate = failures / attempts
    centre = rate + z * z / (2 * attempts)
    half = z * np.sqrt(rate * (1 - rate) / attempts + z * z / (4 * attempts**2))
    scale = 1 + z * z / attempts
    return float((centre - half) / scale), float((centre + half) / scale)


def difference_interval(
    now: tuple[int, int], before: tuple[int, int], confidence: float
) -> tuple[float, float]:
    """Return Newcombe's interval (1998, method 10) for a difference of (failures, attempts)."""
    p1, p2 = now[0] / now[1], before[0] / before[1]
    l1, u1 = wilson(*now, confidence)
    l2, u2 = wilson(*before, confidence)
    low = p1 - p2 - np.sqrt((p1 - l1) ** 2 + (u2 - p2) ** 2)
    high = p1 - p2 + np.sqrt((u1 - p1) ** 2 + (p2 - l2) ** 2)
    return float(low), float(high)


def detectable_rate(attempts: int, before: tuple[int, int], alpha: float, power: float) -> float:
    """Return the smallest rise of the rate that one run of `attempts` would show with this power.

    The critical count comes from the exact test, the power from the binomial distribution at the
    raised rate. 1 - rate where not even a run of failures only would be enough.
    """
    rate = before[0] / before[1]
    counts = range(int(rate * attempts) + 1, attempts + 1)
    critical = next((c for c in counts if exact_p_value(c, attempts, *before) <= alpha), None)
    if critical is None:
        return 1 - rate
    rates = np.linspace(rate, 1, 401)
    enough = stats.binom.sf(critical - 1, attempts, rates) >= power
    return float(rates[int(np.argmax(enough))] - rate)


@dataclass(slots=True)
class FailureTrack:
    """State of one failure rate in one environment; the counterpart of `LevelTrack`."""

    settings: AnalysisSettings
    runs: list[Tally] = field(default_factory=list)
    after: list[Tally] = field(default_factory=list)
    """Runs since the open change; before a night is decided, its run too."""
    worse: bool = False
    settled: bool = False

    @staticmethod
    def value_of(point: RunPoint) -> Tally | None:
        """Return the run's counts, or None where nothing was attempted."""
        return Tally(point.run_id, point.failures, point.attempts) if point.attempts > 0 else None

    def add(self, run: Tally) -> None:
        """Add the latest run."""
        (self.runs if len(self.runs) < self.settings.min_baseline else self.after).append(run)

    def look(self) -> Evidence | None:
        """Hold the latest run against the baseline; None while there is no baseline."""
        if not self.after:
            return None
        baseline, run = self.runs[-self.settings.longest_baseline :], self.after[-1]
        before = (sum(t.failures for t in baseline), sum(t.attempts for t in baseline))
        low, high = difference_interval((run.failures, run.attempts), before, self.settings.confidence)
        alpha = self.settings.false_discovery_rate
        p_value = exact_p_value(run.failures, run.attempts, *before)
        mde = detectable_rate(run.attempts, before, alpha, self.settings.power)
        return Evidence(
            p_value=p_value,
            effect=run.rate - before[0] / before[1],
            low=low,
            high=high,
            mde=max(mde, self.settings.failure_floor),
            location=run.rate,
            baseline_location=before[0] / before[1],
            baseline=tuple(t.run_id for t in baseline),
            since=self.after[0].run_id,
            window=1,
            proves=self._outside(run, baseline),
            suspect=False,
        )

    def decide(self, evidence: Evidence, *, rejected: bool) -> None:
        """Follow the night's decision about the run that was looked at last."""
        self.settled = False
        run = self.after[-1]
        changed = rejected and evidence.proves and abs(evidence.effect) >= self.settings.failure_floor
        if not changed:
            self.runs.append(run)
            self.after = []
            return
        worse = evidence.effect > 0
        if len(self.after) > 1 and worse != self.worse:
            self.after = [run]
        self.worse = worse
        if not worse and len(self.after) >= self.settings.settle:
            self.runs, self.after, self.settled = self.after, [], True

    def _outside(self, run: Tally, baseline: list[Tally]) -> bool:
        """Failures come in clusters, so a rate that the baseline has seen before proves nothing."""
        rates = [t.rate for t in baseline]
        return run.rate > max(rates) or run.rate < min(rates)
