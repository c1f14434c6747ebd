"""p-values that the lab's own history has corrected.

A formula's p-value is only as good as its assumptions. The lab knows better: evidence that looked like a
change and went away by itself, or that began between two runs of the same code, was a false alarm, and how
often such evidence comes up without a cause can be counted. What looks like evidence at least this strong is
either what the formula expects, or one of these (a contaminated null distribution, Huber 1964):

    calibrated p = p + false alarms at least as strong / (m + nights of series that were judged)

The second term is the conformal p-value (Vovk, Gammerman & Shafer 2005) of the lab's own false alarms, with
`m` = 1000 nights of series to begin with: a lab's first false alarm is not as bad as its history is short.
Evidence stronger than any false alarm so far is taken at the formula's word.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BEFORE = 1000.0
"""Nights of series that a lab is taken to have been quiet before it was known."""
HALF_LIFE = 90.0
"""Nights after which what was seen counts half: labs change."""
FORGOTTEN = 0.01
SMALLEST = 1e-300


class Alarm(NamedTuple):
    """A false alarm: from how many nights, how strong, and how much it still counts."""

    window: int
    p_value: float
    weight: float


class _Ranked(NamedTuple):
    """The p-values of false alarms, smallest first, and the weight of those up to each; no alarms weigh 0."""

    p_values: list[float]
    weights: list[float]


@dataclass(slots=True)
class FalseAlarms:
    """False alarms of the series of one kind, per number of nights from which they spoke."""

    judged: float = 0.0
    """Nights of series without a change, older ones counting less."""
    seen: list[Alarm] = field(default_factory=list)
    _ranked: dict[int, _Ranked] = field(default_factory=dict, init=False, repr=False, compare=False)
    """By number of nights, for as long as no alarm is added: every series of a night asks."""

    def night(self, judged: int) -> None:
        """Add a night on which so many series were judged."""
        keep = 0.5 ** (1 / HALF_LIFE)
        self._ranked.clear()
        self.judged = self.judged * keep + judged
        aged = (alarm._replace(weight=alarm.weight * keep) for alarm in self.seen)
        self.seen = [alarm for alarm in aged if alarm.weight >= FORGOTTEN]

    def note(self, proofs: Mapping[int, float]) -> None:
        """Add a false alarm: the p-value that it had, by the number of nights that spoke."""
        self._ranked.clear()
        self.seen += [Alarm(window, max(p, SMALLEST), 1.0) for window, p in sorted(proofs.items())]

    def calibrated(self, window: int, p_value: float) -> float:
        """Return the calibrated p-value of evidence from `window` nights."""
        if not self.seen:
            return p_value
        ranked = self._rank(window)
        stronger = ranked.weights[bisect_right(ranked.p_values, p_value)]
        return min(1.0, p_value + stronger / (BEFORE + self.judged))

    def needed(self, window: int, target: float) -> float:
        """Return the largest p-value whose calibrated one is at most `target`: `calibrated` turned round.

        With the k strongest alarms that is target - their weight / nights, as long as it lies above the k-th
        alarm and below the next one. The more alarms, the less of the target is left: the largest k is found
        by halving.
        """
        p_values, weights = self._rank(window)
        total = BEFORE + self.judged

        def left(number: int) -> float:
            return target - weights[number] / total

        low, high = 0, len(p_values)
        while low < high:
            middle = (low + high + 1) // 2
            if left(middle) >= p_values[middle - 1]:
                low = middle
            else:
                high = middle - 1
        # An alarm that is as strong as the next one is not below it.
        while 0 < low < len(p_values) and p_values[low] == p_values[low - 1]:
            low -= 1
        below = math.nextafter(p_values[low], 0.0) if low < len(p_values) else math.inf
        return min(below, left(low), target)

    def _rank(self, window: int) -> _Ranked:
        if window not in self._ranked:
            alarms = sorted((a.p_value, a.weight) for a in self.seen if a.window == window)
            self._ranked[window] = _Ranked([p for p, _ in alarms], [0.0, *_sums(w for _, w in alarms)])
        return self._ranked[window]


def _sums(values: Iterable[float]) -> Iterable[float]:
    """Return the sum of the first, the first two, ... of some numbers, each as exact as `math.fsum`."""
    parts: list[float] = []
    for value in values:
        # Shewchuk 1997: the sum so far as numbers that don't overlap.
        x, kept = value, []
        for part in parts:
            y = part
            if abs(x) < abs(y):
                x, y = y, x
            high = x + y
            low = y - (high - x)
            if low:
                kept.append(low)
            x = high
        parts = [*kept, x]
        yield math.fsum(parts)
