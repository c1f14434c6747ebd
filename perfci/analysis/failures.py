"""Failure rates through the nights, judged by an exact test.

One run may prove a change of a failure rate: the evidence is the number of failed requests, and a
product that suddenly fails is not to wait for a second night.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from perfci.analysis.evidence import Evidence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfci.analysis.facts import OpenedChange
    from perfci.analysis.settings import AnalysisSettings
    from perfci.analysis.types import RunPoint


@dataclass(frozen=True, slots=True)
class FailureTally:
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
    from scipy import stats  # takes longer to import than all the rest, and is needed where something failed

    table = np.array(
        [
            [failures, attempts - failures],
            [baseline_failures, baseline_attempts - baseline_failures],
        ]
    )
    return float(stats.fisher_exact(table).pvalue)


def wilson(failures: float, attempts: float, confidence: float) -> tuple[float, float]:
    """Return Wilson's score interval of a rate (Wilson 1927)."""
    z = float(special.ndtri(0.5 + confidence / 2))
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


def critical_failures(attempts: int, before: tuple[int, int], alpha: float) -> int | None:
    """Return the fewest failures of `attempts`, above the rate before, with an exact p-value up to `alpha`.

    `before` are the baseline's (failures, attempts). None where not even failures alone are enough.
    """
    low, high = int(before[0] / before[1] * attempts) + 1, attempts
    if low > high or exact_p_value(high, attempts, *before) > alpha:
        return None
    while low < high:  # the p-value falls from the rate before upwards
        middle = (low + high) // 2
        if exact_p_value(middle, attempts, *before) <= alpha:
            high = middle
        else:
            low = middle + 1
    return high


@dataclass(frozen=True, slots=True)
class RateReach:
    """The smallest rise of a failure rate, in points, that one run of `attempts` can prove."""

    attempts: int
    before: tuple[int, int]
    floor: float

    def at(self, p_value: float) -> float:
        """See Reach. The whole way up to a rate of 1 where nothing less is enough."""
        rate = self.before[0] / self.before[1]
        fewest = critical_failures(self.attempts, self.before, p_value)
        return max(1 - rate if fewest is None else fewest / self.attempts - rate, self.floor)


STREAKS = range(1, 9)
"""How many nights in a row may prove a rate that single nights have shown before."""
CHANCE = 1 / 64
"""As rarely the baseline's own bad nights may come in such a row by chance."""


def streak_that_proves(rates: Sequence[float], least: int) -> int:
    """Return how many of the latest runs prove that a rate has changed, 0 if none do; `rates` oldest first.

    Failures come in clusters, so a rate that the baseline has seen before proves nothing by itself. But k
    nights in a row prove it where the baseline never had as many in a row, and where its own share of such
    nights would bring k in a row with a chance of at most 1 / 64. So a single bad night among eight does not
    hide a failure that lasts: its second night is proof. The baseline has at least `least` runs.
    """
    for number in STREAKS:
        before, latest = rates[: len(rates) - number], rates[len(rates) - number :]
        if len(before) < least:
            break
        if _is_new(before, latest):
            return number
    return 0


def _is_new(before: Sequence[float], latest: Sequence[float]) -> bool:
    number = len(latest)
    for bad in ([rate >= min(latest) for rate in before], [rate <= max(latest) for rate in before]):
        longest = max((len(list(same)) for value, same in groupby(bad) if value), default=0)
        if longest < number and (sum(bad) / len(before)) ** number <= CHANCE:
            return True
    return False


@dataclass(slots=True)
class FailureTrack:
    """State of one failure rate in one environment; the counterpart of `LevelTrack`."""

    settings: AnalysisSettings
    runs: list[FailureTally] = field(default_factory=list)
    after: list[FailureTally] = field(default_factory=list)
    """Runs since the open change; before a night is decided, its run too."""
    worse: bool = False
    settled: bool = False
    q_value: float = 1.0
    """That of the night on which the open change was found."""

    def fork(self) -> FailureTrack:
        """Return a track that goes on from here without touching this one."""
        return replace(self, runs=list(self.runs), after=list(self.after))

    @staticmethod
    def value_of(point: RunPoint) -> FailureTally | None:
        """Return the run's counts, or None where nothing was attempted."""
        return FailureTally(point.run_id, point.failures, point.attempts) if point.attempts > 0 else None

    def add(self, run: FailureTally) -> None:
        """Add the latest run."""
        (self.runs if len(self.runs) < self.settings.min_baseline else self.after).append(run)
        self.runs = self.runs[-self.settings.longest_baseline :]

    def look(self) -> Evidence | None:
        """Hold the latest run against the baseline; None while there is no baseline."""
        if not self.after:
            return None
        run = self.after[-1]
        window = self._window()
        baseline = self.runs[: len(self.runs) - max(window - 1, 0)] if len(self.after) == 1 else self.runs
        before = (sum(t.failures for t in baseline), sum(t.attempts for t in baseline))
        low, high = difference_interval((run.failures, run.attempts), before, self.settings.confidence)
        p_value = exact_p_value(run.failures, run.attempts, *before)
        reach = RateReach(run.attempts, before, self.settings.failure_floor)
        return Evidence(
            p_value=p_value,
            effect=run.rate - before[0] / before[1],
            low=low,
            high=high,
            location=run.rate,
            level=run.rate,
            baseline_location=before[0] / before[1],
            baseline=tuple(t.run_id for t in baseline),
            since=self._since(window),
            window=max(window, 1),
            proves=window > 0,
            suspect=False,
            reach=reach,
            shortest=reach,
            proofs={},
        )

    def follow_opened(self, opened: OpenedChange) -> None:
        """Follow a change that a night has found before."""
        self.runs = [run for run in opened.before if isinstance(run, FailureTally)]
        self.after = [run for run in opened.after if isinstance(run, FailureTally)]
        self.worse, self.q_value = opened.worse, opened.q_value

    def end(self, *, settled: bool) -> None:
        """End the open change: its runs are the baseline (`settled`), or only the latest is one of it."""
        self.runs = self.after if settled else [*self.runs, self.after[-1]]
        self.after, self.settled = [], settled

    def could_report(self, evidence: Evidence) -> bool:
        """Say whether this may be reported at all, however small its p-value is.

        Small changes of a rate that is never quite zero are of no use to anybody. Where nothing failed in any
        run of the baseline, a few failures are news, once they have come in two runs in a row.
        """
        if not evidence.proves:
            return False
        news = evidence.baseline_location == 0 and max(evidence.window, len(self.after)) > 1
        return (news and evidence.effect > 0) or abs(evidence.effect) >= self.settings.failure_floor

    def decide(self, evidence: Evidence, *, q_value: float, rejected: bool) -> None:
        """Follow the night's decision about the run that was looked at last.

        An open change is no new discovery: it goes on for as long as its runs could be reported at all.
        """
        self.settled = False
        run = self.after[-1]
        if rejected and len(self.after) == 1 and evidence.window > 1:
            earlier = evidence.window - 1
            self.runs, self.after = self.runs[:-earlier], [*self.runs[-earlier:], run]
            self.q_value, self.worse = q_value, evidence.effect > 0
        if not rejected:
            self.end(settled=False)
            return
        worse = evidence.effect > 0
        if len(self.after) == 1:
            self.q_value = q_value
        if len(self.after) > 1 and worse != self.worse:
            self.after = [run]
        self.worse = worse
        if not worse and len(self.after) >= self.settings.settle:
            self.end(settled=True)

    def _window(self) -> int:
        """Return how many of the latest runs prove a change, 0 if none do.

        Of an open change all its runs speak, each as if it were as bad as the latest.
        """
        rates = [t.rate for t in self.runs]
        if len(self.after) == 1:
            return streak_that_proves([*rates, self.after[0].rate], self.settings.min_baseline)
        number = min(len(self.after), STREAKS[-1])
        return number if _is_new(rates, [self.after[-1].rate] * number) else 0

    def _since(self, window: int) -> str:
        """Return the first run of the change."""
        if len(self.after) == 1 and window > 1:
            return self.runs[1 - window].run_id
        return self.after[0].run_id
