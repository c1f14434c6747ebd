"""Ratios to a reference through the nights: one series of a paired night, and the change that is open.

A ratio needs no baseline. The reference is code that was accepted, so without a change the ratio is 1. How
much single nights scatter is known before the first one: the pairs of a night say how well they know their
own draw, and draws differ by `pairs.DRAW_DEVIATION`, or by what the nights have shown if that is more. So
one night may prove a change, and one night its end. All else is as for other levels (`LevelTrack`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from perfci.analysis.evidence import Contrast, RunValue, Spread, agreed_shift, relative
from perfci.analysis.level_track import BACK, LevelTrack, OpenChange
from perfci.analysis.pairs import DRAW_DEVIATION, DRAW_DEVIATION_DF, DrawEffect, draw_effect, draw_variance
from perfci.analysis.robust import median

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perfci.analysis.types import RunPoint
    from perfci.analysis.variance import VariancePrior

SUSPICION = 0.06
"""p-value from which on a night alone is worth one more draw, which costs two minutes."""
WORTH_ASKING = 0.6
"""Share of the floor from which on it is: a step at the floor may be measured smaller."""
CLEAR = 4.0
"""A step of so many deviations of a single night is over with one night at the reference; others with two."""
PAIRS_DF = 40.0
"""Degrees of freedom of a night's own error; where its pairs have fewer, `value_of` has widened that."""
_NARROW, _WIDEST = 3.0, 3.0


@dataclass(slots=True)
class PairedTrack(LevelTrack):
    """State of one ratio to one reference in one environment."""

    def value_of(self, point: RunPoint) -> RunValue | None:
        """Return the log ratio of a night and what its pairs leave open, without the luck of the draw."""
        found = draw_effect([math.log(value) for value in point.values if 0 < value < math.inf])
        if found is None:
            return None
        widened = found.df / (found.df - 2) if found.df > _NARROW else _WIDEST
        return RunValue(point.run_id, found.log, found.error * math.sqrt(widened), (), point.code)

    @property
    def least_baseline(self) -> int:
        """How many nights there must be before one can be judged."""
        return 0

    def needed(self) -> int:
        """Return how many nights may prove a change."""
        return 1

    def watch(self, window: int, proofs: Mapping[int, float]) -> None:
        """See LevelTrack; what the very first nights show has nothing before it to go back to."""
        if len(self.runs) > window:
            LevelTrack.watch(self, window, proofs)

    def _windows(self) -> tuple[int, ...]:
        return (1, *self.settings.windows)

    def _suspect(self, prior: VariancePrior) -> bool:
        if self.change is not None:
            return False
        alone = self._contrast(1, self.runs[-1:], prior)
        return (
            alone.p_value <= SUSPICION and abs(relative(alone.difference)) >= WORTH_ASKING * self.rule.floor
        )

    def _start(self, window: int) -> int:
        return len(self.runs) - window

    def _is_back(self, change: OpenChange) -> bool:
        known = change.after[:-1] or change.after
        clear = abs(median([run.log for run in known])) >= CLEAR * self._scale(0).scale
        number = 1 if clear else 2
        if len(change.after) <= number:
            return False
        shares, worse = self._shares(change, number)
        return worse != change.worse or bool(np.clip(shares, -0.5, 1.5).mean() < BACK)

    def _scale(self, latest: int) -> Spread:
        """Return the level, which is that of the reference, and the deviation of a single night."""
        number = len(self.runs) - latest
        if number not in self.scales:
            kept = self._kept(latest)
            between, df = _between(kept)
            within = float(np.mean([run.error**2 for run in kept or self.runs])) if self.runs else 0.0
            self.scales[number] = Spread(0.0, math.sqrt(between + within), df)
        return self.scales[number]

    def _contrast(
        self,
        number: int,
        latest: list[RunValue],
        prior: VariancePrior,
        lab: float = 0.0,  # noqa: ARG002
    ) -> Contrast:
        """Hold the latest nights against the reference. What the lab did to both sides is in neither."""
        baseline = self._kept(number)
        between, df = _between(baseline)
        within = float(np.mean([run.error**2 for run in latest]))
        # Satterthwaite 1946: the degrees of freedom of a sum of two estimated variances.
        parts = between**2 / df + within**2 / (PAIRS_DF * len(latest))
        variance, df = prior.moderate(between + within, (between + within) ** 2 / parts)
        # What the pairs themselves leave open is known: other series can't make it smaller.
        variance = max(variance, DRAW_DEVIATION**2 + within)
        shifts = [run.log for run in latest]
        price = math.pi / 2 if len(latest) > 2 else 1.0  # noqa: PLR2004 - of a median, as in `shift_error`
        return Contrast(
            baseline=tuple(baseline),
            latest=tuple(latest),
            level=0.0,
            difference=median(shifts),
            agreed=agreed_shift(shifts, math.sqrt(variance)),
            scale=math.sqrt(variance),
            error=math.sqrt(variance * price / len(latest)),
            df=df,
        )


def _between(nights: Sequence[RunValue]) -> tuple[float, float]:
    """Return the variance from draw to draw and its degrees of freedom: known ones and nights together."""
    draws = [DrawEffect(run.log, run.error, PAIRS_DF, 0, 0.0) for run in nights]
    return draw_variance(draws, DRAW_DEVIATION, DRAW_DEVIATION_DF)
