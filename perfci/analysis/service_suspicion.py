"""Does a whole service stand out tonight, though none of its scenarios does? Pure.

A change in one service moves every scenario that uses it. What those say together is known better than
what each says: they have pairs of their own, and only a part of a deployment's luck in common. That proves
nothing, as nobody knows that part well. But it is worth fresh draws of the scenarios that stand out most.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from scipy import special

from perfci.analysis.evidence import relative
from perfci.analysis.paired_track import SUSPICION, WORTH_ASKING
from perfci.analysis.pairs import DRAW_DEVIATION, DRAW_DEVIATION_DF
from perfci.projects import project
from perfci.results.model import TOTAL, Metric

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perfci.analysis.evidence import RunValue
    from perfci.analysis.facts import TrackKey

SHARED = 0.4
"""Share of the variance of a draw's luck that all scenarios of one service have in common."""
LEAST_SCENARIOS = 3
"""Fewer scenarios say hardly more together than each alone."""
ASKED = 3
"""So many scenarios, those that stand out most, are asked about: each more makes a draw longer."""


class ServiceShift(NamedTuple):
    """How far the scenarios of a service are off the reference together, relative."""

    service: str
    scenarios: int
    effect: float
    p_value: float

    @property
    def in_words(self) -> str:
        """Say it for a reason."""
        return f"the {self.scenarios} scenarios of {self.service} are {self.effect:+.1%} off together"


def services_off(tonight: Mapping[TrackKey, RunValue], floor: float) -> dict[TrackKey, ServiceShift]:
    """Return the series to be asked about as their service stands out, with what it shows.

    `tonight` holds the log ratios of one night to its reference, of series without an open change. Whole
    iterations count, one for each scenario.
    """
    services: dict[str, list[TrackKey]] = {}
    for part in sorted(tonight):
        if part.key.metric is Metric.RATIO and part.key.action == TOTAL and not part.tail:
            services.setdefault(project(part.key.scenario), []).append(part)
    found: dict[TrackKey, ServiceShift] = {}
    for service, parts in services.items():
        shift = _shift(service, [tonight[part] for part in parts])
        if shift.scenarios < LEAST_SCENARIOS or shift.p_value > SUSPICION:
            continue
        if abs(shift.effect) < WORTH_ASKING * floor:
            continue
        sign = 1 if shift.effect > 0 else -1
        most = sorted(parts, key=lambda part: -sign * tonight[part].log)[:ASKED]
        found |= {part: shift for part in most if sign * tonight[part].log > 0}
    return found


def _shift(service: str, values: list[RunValue]) -> ServiceShift:
    """Return the mean of a service's scenarios, each counting alike, and its p-value."""
    number = len(values)
    mean = math.fsum(one.log for one in values) / number
    luck = DRAW_DEVIATION**2 * (SHARED + (1 - SHARED) / number)
    pairs = math.fsum(one.error**2 for one in values) / number**2
    p = 2 * float(special.stdtr(DRAW_DEVIATION_DF, -abs(mean) / math.sqrt(luck + pairs)))
    return ServiceShift(service, number, relative(mean), p)
