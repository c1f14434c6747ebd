"""The words of a bisect: its question, where it can measure, and what it has seen.

There are n suspects in the order of merging, *steps* 1 to n. *Revision* k has the first k of them: revision
0 is the good end, revision n the bad one. All levels and sizes are natural logarithms of the metric.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perfci.analysis.variance import VarianceLevels

USUAL_FLOOR = 0.025


class Kind(StrEnum):
    """What is deployed for a measurement."""

    REVISION = "revision"
    """Revision `index`, in the search."""
    PARENT = "parent"
    """What was there before step `index`, afresh: one side of the first proof."""
    CHANGE = "change"
    """Step `index` on its parent, afresh: the other side."""
    HEAD = "head"
    """The newest revision: one side of the second proof of step `index`."""
    REVERTED = "reverted"
    """The newest revision with step `index` reverted: the other side."""


@dataclass(frozen=True, slots=True, order=True)
class BisectPoint:
    """Something that can be deployed and measured."""

    kind: Kind
    index: int


@dataclass(frozen=True, slots=True)
class Observation:
    """One fresh deployment of a point and `runs` runs on it.

    `log` is the location of all their iterations together, `error` its standard error from the few
    iterations there are.
    """

    point: BisectPoint
    log: float
    error: float = 0.0
    runs: int = 1


@dataclass(frozen=True, slots=True)
class Costs:
    """What lab time costs, in minutes: a run, a fresh deployment, and a build, once for each point."""

    run: float = 1.0
    deployment: float = 0.4
    build: float = 0.25


@dataclass(frozen=True, slots=True)
class BisectSettings:
    """When a bisect believes something.

    `none` and `several` are prior probabilities; the rest belongs to single steps. A step is proposed for
    proof from `propose` on, where a second one is no likelier than `second`; an answer needs `sure`. Each
    proof needs a Bayes factor of `proof` from fresh runs alone, and fails at 1 / `refuted`. `least_ends`
    and `least_proof` are deployments of either side. `hopeless`: the search ends early where it would take
    this many times the runs that are left.
    """

    none: float = 0.2
    several: float = 0.1
    propose: float = 0.8
    second: float = 0.15
    sure: float = 0.99
    proof: float = 5.0
    refuted: float = 100.0
    least_ends: int = 1
    least_proof: int = 2
    hopeless: float = 4.0


@dataclass(frozen=True, slots=True)
class BisectQuestion:
    """What is asked.

    `plausibility` has one weight above 0 for each step, in the order of merging. `noise` are the three
    variances of the series. `effect` and `effect_error` are what is known of the whole step between the
    ends, None where nothing is; a positive step is what is worse. `floor` is the smallest step that
    counts, in logarithms. `revert` says whether the proof at the newest revision is wanted. `usual_error` is
    the standard error that an observation will have from its few iterations, where each brings its own.
    """

    plausibility: tuple[float, ...]
    noise: VarianceLevels
    effect: float | None = None
    effect_error: float = 0.0
    floor: float = USUAL_FLOOR
    most_runs: int = 90
    most_minutes: float = math.inf
    costs: Costs = field(default_factory=Costs)
    settings: BisectSettings = field(default_factory=BisectSettings)
    revert: bool = True
    usual_error: float = 0.0

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return len(self.plausibility)

    @property
    def runs(self) -> int:
        """How many runs each deployment gets (Cochran's rule, `VarianceLevels.best_runs`)."""
        return self.noise.best_runs(self.costs.deployment, self.costs.run)

    def variance(self, observation: Observation) -> float:
        """Return the variance of an observation around its revision's level."""
        return self.noise.deployment + self.noise.run / observation.runs + observation.error**2

    @property
    def usual_variance(self) -> float:
        """The variance of the next observation."""
        return self.noise.of_mean(1, self.runs) + self.usual_error**2
