"""The course of a bisect, as a pure function of what was asked and what was seen so far.

    ends      the good and the bad end, in turns: do they differ at all?
    search    what tells most per minute, until one step is likely
    change    the step against its parent, afresh
    revert    the newest revision against itself with the step reverted

`next_move` looks at a state and says what to deploy next, or how it ended. A state is its question and what
was reported, so a bisect that was killed anywhere goes on where it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from perfci.analysis.bisect.choice import best_revision, price
from perfci.analysis.bisect.model import BisectPoint, Kind, Observation
from perfci.analysis.bisect.posterior import infer, step_size
from perfci.analysis.bisect.proof import bayes_factor, interval, proof_runs

if TYPE_CHECKING:
    from perfci.analysis.bisect.model import BisectQuestion
    from perfci.analysis.bisect.posterior import Posterior
    from perfci.analysis.noise import Array

MOST_END_RUNS = 6
"""After so many deployments of ends that look alike, revisions between them are looked at, too."""


class End(StrEnum):
    """How a bisect ended."""

    CULPRIT = "culprit"
    """One step, proven."""
    NONE = "none"
    """The ends do not differ."""
    SEVERAL = "several"
    """More than one step."""
    UNPROVEN = "unproven"
    """One step is likely, and a proof spoke against it."""
    TOO_NOISY = "too noisy"
    """The budget does not reach."""
    NOTHING_LEFT = "nothing left"
    """An end does not deploy, or every step was refused."""


@dataclass(frozen=True, slots=True)
class BisectState:
    """A bisect so far: what was seen, in order, and which points and steps are out.

    `broken` points do not deploy or fail the smoke test; `refused` steps can't be the culprit; the proof by
    revert is left out where reverting `unrevertable` steps did not apply. `minutes` of lab time are spent.
    """

    question: BisectQuestion
    seen: tuple[Observation, ...] = ()
    broken: tuple[BisectPoint, ...] = ()
    refused: tuple[int, ...] = ()
    unrevertable: tuple[int, ...] = ()
    minutes: float = 0.0

    def observe(self, observation: Observation, minutes: float = 0.0) -> BisectState:
        """Return the state with one more deployment."""
        return replace(self, seen=(*self.seen, observation), minutes=self.minutes + minutes)

    def without(self, point: BisectPoint, minutes: float = 0.0) -> BisectState:
        """Return the state knowing that a point does not deploy, or that a step does not revert."""
        spent = self.minutes + minutes
        if point.kind is Kind.REVERTED:
            return replace(self, unrevertable=(*self.unrevertable, point.index), minutes=spent)
        return replace(self, broken=(*self.broken, point), minutes=spent)

    def refuse(self, step: int) -> BisectState:
        """Return the state knowing that a step can't be the culprit."""
        return replace(self, refused=(*self.refused, step))

    @property
    def runs(self) -> int:
        """How many runs were made."""
        return sum(one.runs for one in self.seen)

    def at(self, kind: Kind, index: int) -> tuple[Observation, ...]:
        """Return what was seen of a point."""
        return tuple(one for one in self.seen if one.point == BisectPoint(kind, index))


@dataclass(frozen=True, slots=True)
class Measure:
    """What to do next: deploy a point afresh and run it `runs` times; `why` is a word for people."""

    point: BisectPoint
    runs: int
    why: str


@dataclass(frozen=True, slots=True)
class BisectResult:
    """How it ended.

    `probability` is that of what is said, `second` that of a further step beside the culprit. `steps`
    are the culprit (several in a row where the revisions between them do not deploy), or those that are
    likely to be among several. `effect`, `low` and `high` are relative. `reverted` tells whether the revert
    was measured; `needed` about how many more runs would tell, where the budget did not reach.
    """

    end: End
    probability: float
    steps: tuple[int, ...] = ()
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    second: float = 0.0
    reverted: bool = False
    needed: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Group:
    """Steps that can't be told apart, as no revision between them deploys: from `first` to `last`."""

    first: int
    last: int
    probability: float

    @property
    def steps(self) -> tuple[int, ...]:
        return tuple(range(self.first, self.last + 1))


def next_move(state: BisectState) -> Measure | BisectResult:
    """Return what to measure next, or the answer."""
    question = state.question
    ends = (BisectPoint(Kind.REVISION, 0), BisectPoint(Kind.REVISION, question.steps))
    if lost := [one.index for one in ends if one in state.broken]:
        which = "good" if lost[0] == 0 else "bad"
        return BisectResult(End.NOTHING_LEFT, 1.0, reason=f"the {which} end does not deploy")
    if len(set(state.refused)) == question.steps:
        return BisectResult(End.NOTHING_LEFT, 1.0, reason="every step was refused")
    counts = [len(state.at(Kind.REVISION, one.index)) for one in ends]
    if min(counts) < question.settings.least_ends:
        return _within_budget(state, None, ends[0] if counts[0] <= counts[1] else ends[1], "end")
    return _go_on(state, counts)


def _go_on(state: BisectState, counts: list[int]) -> Measure | BisectResult:
    settings = state.question.settings
    posterior = infer(state.question, state.seen, state.refused)
    if posterior.none >= settings.sure:
        return BisectResult(End.NONE, posterior.none)
    if posterior.several >= settings.sure:
        known = tuple(int(one) + 1 for one in np.flatnonzero(posterior.among >= settings.propose))
        return BisectResult(End.SEVERAL, posterior.several, known)
    group = max(_groups(state, posterior), key=lambda one: one.probability)
    if group.probability >= settings.propose and posterior.several <= settings.second:
        return _prove(state, posterior, group)
    return _search(state, posterior, counts)


def _groups(state: BisectState, posterior: Posterior) -> list[_Group]:
    """Return the steps between neighbouring revisions that deploy."""
    broken = {one.index for one in state.broken if one.kind is Kind.REVISION}
    whole = [one for one in range(state.question.steps + 1) if one not in broken]
    return [
        _Group(low + 1, high, min(float(posterior.involved[low:high].sum()), 1.0))
        for low, high in pairwise(whole)
    ]


def _search(state: BisectState, posterior: Posterior, counts: list[int]) -> Measure | BisectResult:
    question = state.question
    last = question.steps
    inside = posterior.none <= 0.5 or min(counts) >= MOST_END_RUNS  # noqa: PLR2004 - likelier than not
    broken = {one.index for one in state.broken if one.kind is Kind.REVISION}
    candidates = {one for one in range(last + 1) if inside or one in (0, last)} - broken
    built = {one.point for one in state.seen}
    best, deployments = best_revision(posterior, question, candidates, built)
    needed = deployments * question.runs
    if best is None:
        return BisectResult(End.NOTHING_LEFT, 1.0, reason="no revision deploys")
    left = question.most_runs - state.runs
    if needed > question.settings.hopeless * left:
        return _too_noisy(posterior, needed)
    return _within_budget(state, posterior, BisectPoint(Kind.REVISION, best), "search", needed)


def _prove(state: BisectState, posterior: Posterior, group: _Group) -> Measure | BisectResult:
    sizes, shares = step_size(state.question, state.seen, group.last)
    middle, low, high = interval(sizes, shares)
    found = BisectResult(End.CULPRIT, group.probability, group.steps, middle, low, high, posterior.several)
    proof = _Proof(state, posterior, found, sizes, shares)
    move = proof.against_parent()
    if move is not None:
        return move
    alone = len(group.steps) == 1 and group.last not in state.unrevertable
    return proof.by_revert() if state.question.revert and alone else found


@dataclass(frozen=True, slots=True, eq=False)
class _Proof:
    """The proofs of one step, or of several in a row that can't be told apart."""

    state: BisectState
    posterior: Posterior
    found: BisectResult
    sizes: Array
    shares: Array

    def against_parent(self) -> Measure | BisectResult | None:
        """Return what the first proof needs, or that it failed; None once it stands."""
        settings, steps = self.state.question.settings, self.found.steps
        before, after = BisectPoint(Kind.PARENT, steps[0]), BisectPoint(Kind.CHANGE, steps[-1])
        factor, least = self._weigh(before, after)
        if least >= settings.least_proof and factor <= 1 / settings.refuted:
            reason = "measured afresh, it is not slower than its parent"
            return replace(self.found, end=End.UNPROVEN, reason=reason)
        sure = self.found.probability >= settings.sure and factor >= settings.proof
        if sure and least >= settings.least_proof:
            return None
        if {before, after} & set(self.state.broken):
            reason = "it or its parent no longer deploys"
            return replace(self.found, end=End.UNPROVEN, reason=reason)
        return self._measure(before, after, "change", 2 if self.state.question.revert else 1)

    def by_revert(self) -> Measure | BisectResult:
        """Return what the second proof needs, or the answer."""
        settings, step = self.state.question.settings, self.found.steps[-1]
        reverted, head = BisectPoint(Kind.REVERTED, step), BisectPoint(Kind.HEAD, step)
        factor, least = self._weigh(reverted, head)
        if least >= settings.least_proof and factor >= settings.proof:
            return replace(self.found, reverted=True)
        if least >= settings.least_proof and factor <= 1 / settings.refuted:
            reason = "its revert at the newest revision changes nothing"
            return replace(self.found, end=End.UNPROVEN, reverted=True, reason=reason)
        if head in self.state.broken:
            return replace(self.found, reason="the newest revision does not deploy")
        return self._measure(reverted, head, "revert", 1)

    def _seen(self, point: BisectPoint) -> tuple[Observation, ...]:
        return self.state.at(point.kind, point.index)

    def _weigh(self, low: BisectPoint, high: BisectPoint) -> tuple[float, int]:
        """Return the Bayes factor of a proof, and how often its rarer side was deployed."""
        first, second = self._seen(low), self._seen(high)
        factor = bayes_factor(first, second, self.state.question, self.sizes, self.shares)
        return factor, min(len(first), len(second))

    def _measure(self, low: BisectPoint, high: BisectPoint, why: str, proofs: int) -> Measure | BisectResult:
        point = low if len(self._seen(low)) <= len(self._seen(high)) else high
        effect = self.found.effect or 0.0
        wanted = proofs * proof_runs(self.state.question, math.log1p(effect))
        return _within_budget(self.state, self.posterior, point, why, wanted)


def _within_budget(
    state: BisectState, posterior: Posterior | None, point: BisectPoint, why: str, needed: float = math.nan
) -> Measure | BisectResult:
    """Return the measurement, or that the budget does not reach for it."""
    question = state.question
    minutes = price(point, question.costs, {one.point for one in state.seen}, question.runs)
    if state.runs + question.runs > question.most_runs or state.minutes + minutes > question.most_minutes:
        return _too_noisy(posterior, needed)
    return Measure(point, question.runs, why)


def _too_noisy(posterior: Posterior | None, needed: float) -> BisectResult:
    runs = math.ceil(needed) if math.isfinite(needed) else 0
    if posterior is None:
        return BisectResult(End.TOO_NOISY, 0.0, needed=runs, reason="the budget was too small to begin with")
    best = int(posterior.steps.argmax()) + 1
    return BisectResult(End.TOO_NOISY, float(posterior.steps[best - 1]), (best,), needed=runs)
