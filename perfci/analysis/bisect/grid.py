"""Levels on a grid: how likely an observation is at each, and how likely a step from one to another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from perfci.analysis.noise import OUTLIER_REACH, OUTLIERS, Array, student

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfci.analysis.bisect.model import BisectQuestion, Observation

MOST_LEVELS = 600
FARTHEST = 3.0
"""Levels farther than this from the middle of what was seen are not thought of: 20 times as much."""
TAILS = 0.87
"""The scale of Student's t with 5 degrees of freedom that is nearest to a normal of deviation 1."""
LEAST_SCALE = 0.0005
BROAD = 0.12
"""Typical size of a step of which nothing is known, beyond the floor."""
WORSE = 0.8
"""Share of steps that make it worse, where nothing else is known."""
TRUST = 0.85
"""How far the size that the alert claims is believed."""
LEAST_SHARE = 0.4
"""A step that is a smaller part of what the alert claims is not what it is about."""


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Evenly spaced levels."""

    levels: Array

    @property
    def spacing(self) -> float:
        """How far apart they are."""
        return float(self.levels[1] - self.levels[0])

    @classmethod
    def around(cls, logs: Sequence[float], question: BisectQuestion) -> Grid:
        """Return levels that hold what was seen, with room for a step beyond it."""
        seen = np.asarray(logs if len(logs) else [0.0])
        middle, scale = float(np.median(seen)), scale_of(question.usual_variance)
        step = abs(question.effect or 0.0) + 2 * question.effect_error + floor_of(question)
        room = 5 * scale + max(step, BROAD)
        low = max(float(seen.min()) - room, middle - FARTHEST)
        high = min(float(seen.max()) + room, middle + FARTHEST)
        # The middle of the range moves with what is seen; how fine the grid is does not.
        number = int(np.clip((high - low) / (scale / 2.5), 60, MOST_LEVELS))
        return cls(np.linspace(low, high, number))

    def log_density(self, observations: Sequence[Observation], question: BisectQuestion) -> Array:
        """Return the log likelihood of observations of one revision, for each of its possible levels."""
        if not observations:
            return np.zeros(self.levels.size)
        ordered = sorted(observations, key=lambda one: (one.log, one.runs, one.error))
        away = np.array([one.log for one in ordered])[:, None] - self.levels
        # What is finer than the grid would be far from each of its levels.
        scales = np.array([max(scale_of(question.variance(one)), self.spacing) for one in ordered])[:, None]
        return np.asarray(log_density(away, scales).sum(axis=0), dtype=np.float64)

    def transition(self, density: Array) -> Array:
        """Return a matrix of probabilities: from each level (row) to each other (column).

        `density` is that of steps of -(M - 1) to M - 1 spacings, as `shifts` gives them.
        """
        size = self.levels.size
        index = np.arange(size)[None, :] - np.arange(size)[:, None] + size - 1
        return np.asarray(density[index], dtype=np.float64)

    @property
    def shifts(self) -> Array:
        """All steps from one level to another one, smallest first."""
        size = self.levels.size
        return np.arange(1 - size, size, dtype=np.float64) * self.spacing

    def noise(self, variance: float) -> Array:
        """Return, for each level (row), the probabilities of what is observed (column)."""
        matrix = self.transition(np.exp(log_density(self.shifts, scale_of(variance))))
        return np.asarray(matrix / matrix.sum(axis=1, keepdims=True), dtype=np.float64)


def scale_of(variance: float) -> float:
    """Return the scale of an observation's distribution."""
    return max(math.sqrt(max(variance, 0.0)) * TAILS, LEAST_SCALE)


def log_density(away: Array, scale: Array | float) -> Array:
    """Return the log density of an observation this far from its level: Student's t, and some outliers."""
    wide = np.exp(-np.abs(away) / OUTLIER_REACH) / (2 * OUTLIER_REACH)
    return np.log((1 - OUTLIERS) * student(away / scale) / scale + OUTLIERS * wide)


def floor_of(question: BisectQuestion) -> float:
    """Return the smallest step that a hypothesis other than "none" has."""
    return max(question.floor, LEAST_SHARE * abs(question.effect or 0.0))


def broad_steps(shifts: Array, question: BisectQuestion) -> Array:
    """Return the prior of a step of which nothing is known; it is at least as large as the floor."""
    size, floor = np.abs(shifts), floor_of(question)
    density = np.exp(-np.maximum(size - floor, 0) / BROAD) * (size >= floor * (1 - 1e-9))
    up = -1.0 if question.effect is not None and question.effect < 0 else 1.0
    density *= np.where(shifts * up > 0, WORSE, 1 - WORSE)
    return _unit(density)


def single_steps(shifts: Array, question: BisectQuestion) -> Array:
    """Return the prior of the only step there is: where the whole step is known, it is about that one."""
    broad = broad_steps(shifts, question)
    if question.effect is None:
        return broad
    error = math.hypot(1.5 * question.effect_error, 0.15 * question.effect, shifts[1] - shifts[0])
    known = np.exp(-0.5 * ((shifts - question.effect) / error) ** 2)
    known *= np.abs(shifts) >= floor_of(question) * (1 - 1e-9)
    if not known.any():
        return broad
    return TRUST * _unit(known) + (1 - TRUST) * broad


def _unit(density: Array) -> Array:
    total = float(density.sum())
    return density / total if total > 0 else density
