"""What the observations say: which step, none, or several.

The level of revision k is that of revision 0 plus all steps up to k. Each hypothesis says which steps are
not nothing:

    none      no step
    step k    step k alone; its size from `grid.single_steps`
    several   two steps, each of a size from `grid.broad_steps` (three and more look like two)

On a grid of levels this is a hidden Markov chain along the revisions, whose state is the level and the
number of steps so far, so every sum over levels, sizes and pairs of steps is exact but for the grid, for
any distribution of the noise (Rabiner 1989, Proceedings of the IEEE 77). Where one level starts nothing is
known, alike for all hypotheses. The order of the observations does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from perfci.analysis.bisect.grid import Grid, broad_steps, single_steps
from perfci.analysis.bisect.model import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perfci.analysis.bisect.model import BisectPoint, BisectQuestion, Observation
    from perfci.analysis.noise import Array

UNIFORM = 0.2
"""How much of the prior is spread evenly over all steps: files and names can mislead."""


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """What is believed.

    `steps` has the probability of each step to be the only one, step 1 first. The joint tables hold, for
    each hypothesis, the probability of it and of the level: `before` and `after` a single step (n rows),
    `flat` without any, `mixed` of each revision where there are several (n + 1 rows). `among` is the
    probability of each step to be one of several, if there are several.
    """

    grid: Grid
    none: float
    several: float
    steps: Array
    before: Array
    after: Array
    flat: Array
    mixed: Array
    among: Array

    @property
    def involved(self) -> Array:
        """The probability of each step to be one, alone or among several."""
        return np.asarray(self.steps + self.several * self.among)

    @property
    def entropy(self) -> float:
        """How much is not known, in nats."""
        shares = np.array([self.none, self.several, *self.steps])
        shares = shares[shares > 0]
        return float(-(shares * np.log(shares)).sum())


@dataclass(frozen=True, slots=True, eq=False)
class _Tables:
    """The likelihoods by revision (n + 1 rows, each with its largest value taken out) and the priors."""

    grid: Grid
    likelihood: Array
    single: Array
    broad: Array
    weights: Array


def revision_of(point: BisectPoint) -> int | None:
    """Return the revision that a point belongs to; the proofs at the newest revision have none."""
    if point.kind is Kind.PARENT:
        return point.index - 1
    return point.index if point.kind in (Kind.REVISION, Kind.CHANGE) else None


def infer(
    question: BisectQuestion, observations: Iterable[Observation], refused: Iterable[int] = ()
) -> Posterior:
    """Return what observations say, at least one; `refused` steps are known not to be it."""
    return _posterior(question, _tables(question, observations, frozenset(refused)))


def step_size(
    question: BisectQuestion, observations: Iterable[Observation], step: int
) -> tuple[Array, Array]:
    """Return the sizes (logarithms) that a step may have if it is the only one, and their probabilities."""
    tables = _tables(question, observations, frozenset())
    before = _products(tables.likelihood[:step])[0][-1]
    after = _products(tables.likelihood[step:])[0][-1]
    joint = before[:, None] * tables.single * after[None, :]
    size = joint.shape[0]
    place = (np.arange(size)[None, :] - np.arange(size)[:, None] + size - 1).ravel()
    shares = np.bincount(place, weights=joint.ravel(), minlength=2 * size - 1)
    return tables.grid.shifts, shares / shares.sum()


def _tables(
    question: BisectQuestion, observations: Iterable[Observation], refused: frozenset[int]
) -> _Tables:
    seen: list[list[Observation]] = [[] for _ in range(question.steps + 1)]
    for one in observations:
        if (revision := revision_of(one.point)) is not None:
            seen[revision].append(one)
    grid = Grid.around(sorted(one.log for row in seen for one in row), question)
    logs = np.array([grid.log_density(row, question) for row in seen])
    likelihood = np.exp(logs - logs.max(axis=1, keepdims=True))
    shifts = grid.shifts
    weights = np.array(question.plausibility, dtype=np.float64)
    weights = (1 - UNIFORM) * weights / weights.sum() + UNIFORM / weights.size
    weights[[step - 1 for step in refused]] = 0.0
    return _Tables(
        grid,
        likelihood,
        grid.transition(single_steps(shifts, question)),
        grid.transition(broad_steps(shifts, question)),
        weights,
    )


def _posterior(question: BisectQuestion, tables: _Tables) -> Posterior:
    prefix, prefix_log = _products(tables.likelihood)
    suffix, suffix_log = _products(tables.likelihood[::-1])
    suffix, suffix_log = suffix[::-1], suffix_log[::-1]
    flat = prefix[-1]
    # A single step k: revisions up to k - 1 at one level, the others at another one.
    jumps = prefix[:-1] @ tables.single
    back = suffix[1:] @ tables.single.T
    after, before = jumps * suffix[1:], prefix[:-1] * back
    shares = prefix_log[:-1] + suffix_log[1:]
    several_log, mixed, among = _several(tables)

    settings, size = question.settings, question.steps
    left = tables.weights.sum()
    prior_several = settings.several if size > 1 else 0.0
    prior_single = 1 - settings.none - prior_several
    logs = np.concatenate(
        [
            [_log(settings.none * flat.sum()) + prefix_log[-1]],
            [_log(prior_several) + several_log],
            _logs(prior_single * tables.weights * after.sum(axis=1)) + shares,
        ]
    )
    if left <= 0:  # every step is refused
        logs[1:] = -np.inf
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    return Posterior(
        grid=tables.grid,
        none=float(weights[0]),
        several=float(weights[1]),
        steps=weights[2:],
        before=_rows(before) * weights[2:, None],
        after=_rows(after) * weights[2:, None],
        flat=_rows(flat[None, :])[0] * weights[0],
        mixed=_rows(mixed) * weights[1],
        among=among,
    )


def _products(rows: Array) -> tuple[Array, Array]:
    """Return the products of the first 1, 2, ... rows, scaled to 1 at most, and the logs of the scales."""
    found, logs = np.empty_like(rows), np.empty(len(rows))
    product, log = np.ones(rows.shape[1]), 0.0
    for number, row in enumerate(rows):
        product = product * row
        top = product.max()
        product, log = product / top, log + float(np.log(top))
        found[number], logs[number] = product, log
    return found, logs


def _several(tables: _Tables) -> tuple[float, Array, Array]:
    """Return the log likelihood of two steps, the levels of each revision then, and which steps they are."""
    rows, weights, jump = tables.likelihood, tables.weights, tables.broad
    count, size = rows.shape
    # The prior of a pair is the product of its weights, over that of all pairs.
    pairs = (weights.sum() ** 2 - (weights**2).sum()) / 2
    if count < 3 or pairs <= 0:  # noqa: PLR2004 - two steps need three revisions
        return -np.inf, np.full((count, size), 1 / size), np.zeros(count - 1)
    ahead, ahead_log = _chain(rows, np.concatenate([[0.0], weights]), jump)
    behind, behind_log = _chain_back(rows, np.concatenate([[0.0], weights]), jump)
    mixed = (ahead * behind[:, ::-1]).sum(axis=1)
    total = _log(float(ahead[-1, 2].sum()) / pairs) + ahead_log[-1]
    # First step at k: none before it, one after it; second likewise.
    later = behind[1:] * rows[1:, None, :]
    shares = ahead_log[:-1] + behind_log[1:]
    first = _logs(weights * ((ahead[:-1, 0] @ jump) * later[:, 1]).sum(axis=1)) + shares
    second = _logs(weights * ((ahead[:-1, 1] @ jump) * later[:, 0]).sum(axis=1)) + shares
    return total, mixed, _shares(first) + _shares(second)


def _chain(rows: Array, weights: Array, jump: Array) -> tuple[Array, Array]:
    """Return, by revision, number of steps so far (0, 1, 2) and level, the likelihood up to there."""
    count, size = rows.shape
    found, logs = np.zeros((count, 3, size)), np.zeros(count)
    state, log = np.zeros((3, size)), 0.0
    state[0] = 1.0
    for number, row in enumerate(rows):
        if number:
            state = np.stack(
                [
                    state[0],
                    state[1] + weights[number] * (state[0] @ jump),
                    state[2] + weights[number] * (state[1] @ jump),
                ]
            )
        state = state * row
        top = state.max()
        state, log = state / top, log + float(np.log(top))
        found[number], logs[number] = state, log
    return found, logs


def _chain_back(rows: Array, weights: Array, jump: Array) -> tuple[Array, Array]:
    """Return, by revision, steps to come (0, 1, 2) and level, the likelihood of what comes after."""
    count, size = rows.shape
    found, logs = np.zeros((count, 3, size)), np.zeros(count)
    state, log = np.zeros((3, size)), 0.0
    state[0] = 1.0
    found[-1] = state
    for number in range(count - 2, -1, -1):
        later = state * rows[number + 1]
        weight = weights[number + 1]
        state = np.stack(
            [
                later[0],
                later[1] + weight * (jump @ later[0]),
                later[2] + weight * (jump @ later[1]),
            ]
        )
        top = state.max()
        state, log = state / top, log + float(np.log(top))
        found[number], logs[number] = state, log
    return found, logs


def _shares(logs: Array) -> Array:
    weights = np.exp(logs - logs.max())
    return np.asarray(weights / weights.sum())


def _rows(table: Array) -> Array:
    total = table.sum(axis=1, keepdims=True)
    shares = np.full_like(table, 1 / table.shape[1])
    np.divide(table, total, out=shares, where=total > 0)
    return shares


def _log(value: float) -> float:
    return float(np.log(value)) if value > 0 else -np.inf


def _logs(values: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(values))
