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
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

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


@dataclass(slots=True)
class FalseAlarms:
    """False alarms of the series of one kind, per number of nights from which they spoke."""

    judged: float = 0.0
    """Nights of series without a change, older ones counting less."""
    seen: list[Alarm] = field(default_factory=list)

    def night(self, judged: int) -> None:
        """Add a night on which so many series were judged."""
        keep = 0.5 ** (1 / HALF_LIFE)
        self.judged = self.judged * keep + judged
        aged = (alarm._replace(weight=alarm.weight * keep) for alarm in self.seen)
        self.seen = [alarm for alarm in aged if alarm.weight >= FORGOTTEN]

    def note(self, proofs: Mapping[int, float]) -> None:
        """Add a false alarm: the p-value that it had, by the number of nights that spoke."""
        self.seen += [Alarm(window, max(p, SMALLEST), 1.0) for window, p in sorted(proofs.items())]

    def calibrated(self, window: int, p_value: float) -> float:
        """Return the calibrated p-value of evidence from `window` nights."""
        if not self.seen:
            return p_value
        stronger = math.fsum(a.weight for a in self.seen if a.window == window and a.p_value <= p_value)
        return min(1.0, p_value + stronger / (BEFORE + self.judged))

    def needed(self, window: int, target: float) -> float:
        """Return the largest p-value whose calibrated one is at most `target`: `calibrated` turned round."""
        alarms = sorted((a for a in self.seen if a.window == window), key=lambda a: a.p_value)
        below = target
        for number in range(len(alarms), 0, -1):
            stronger = math.fsum(a.weight for a in alarms[:number])
            most = min(below, target - stronger / (BEFORE + self.judged))
            if most >= alarms[number - 1].p_value:
                return most
            below = min(below, math.nextafter(alarms[number - 1].p_value, 0.0))
        return below
