"""Two sides of one series, each deployed afresh in turns: the same, or different by how much? Pure.

The trial is that of a night's re-runs (`confirm`, `reruns`), asked both ways, slower and faster, as nobody
suspects anything. The series' own history says how single runs scatter; where it has too few runs, the first
ones of the old side do, which are then no observations. Nothing is taken from the history about this
morning's level: it may be of another environment.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from perfci.analysis.decision import Decision
from perfci.analysis.rerun_verdict import ask, decided, measured, reordered, wish
from perfci.analysis.sequential_test import Side
from perfci.analysis.types import Judgement, Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfci.analysis.rerun_verdict import Effect, Question
    from perfci.analysis.sequential_test import ConfirmSettings
    from perfci.analysis.settings import AnalysisSettings
    from perfci.results.model import SeriesKey

LEAST = 3
"""So many runs must say how single ones scatter."""

Runs = tuple[tuple[float, ...], ...]
"""The iterations of some runs, each a fresh deployment."""


@dataclass(frozen=True, slots=True)
class Versus:
    """One series on both sides; `history` are earlier runs, `old` and `new` those of the comparison."""

    key: SeriesKey
    history: Runs = ()
    old: Runs = ()
    new: Runs = ()

    def observe(self, side: Side, iterations: Sequence[float]) -> Versus:
        """Return the same with one more run of a side."""
        more = (tuple(iterations),)
        if side is Side.OLD:
            return Versus(self.key, self.history, self.old + more, self.new)
        return Versus(self.key, self.history, self.old, self.new + more)


@dataclass(frozen=True, slots=True)
class Finding:
    """What came out: the decision, and new against old (relative, 95 %) where both sides were run."""

    decision: Decision
    effect: Effect | None
    old_runs: int
    new_runs: int


def wishes(versus: Versus, analysis: AnalysisSettings, settings: ConfirmSettings) -> list[Side]:
    """Say which sides to run next for this series; none where it is answered or not worth another run."""
    questions = _questions(versus, analysis)
    if not questions:
        return [Side.OLD]
    settings = _lenient(settings)
    if any(decided(one, settings) is Decision.DIFFERENT for one in questions):
        return []
    return [side for one in questions if (side := wish(one, settings)) is not None]


def finding(versus: Versus, analysis: AnalysisSettings, settings: ConfirmSettings) -> Finding:
    """Say what the runs so far have shown."""
    questions = _questions(versus, analysis)
    decisions = [decided(one, _lenient(settings)) for one in questions]
    if Decision.DIFFERENT in decisions:
        decision = Decision.DIFFERENT
    elif decisions and set(decisions) == {Decision.SAME}:
        decision = Decision.SAME
    else:
        decision = Decision.UNKNOWN
    effect = measured(questions[0]) if questions else None
    return Finding(decision, effect, len(versus.old), len(versus.new))


def _lenient(settings: ConfirmSettings) -> ConfirmSettings:
    """Return the settings of a comparison in which nobody claims a change, so that `same` refutes none."""
    return replace(settings, refute=settings.same)


def _questions(versus: Versus, analysis: AnalysisSettings) -> tuple[Question, ...]:
    """Ask whether it is slower, and whether it is faster; nothing as long as too little is known."""
    known = len(versus.history) >= LEAST
    baseline = versus.history if known else versus.old[:LEAST]
    if len(baseline) < LEAST:
        return ()
    found = []
    for outcome in (Outcome.REGRESSION, Outcome.IMPROVEMENT):
        asked = ask(Judgement(versus.key, "", outcome, ""), baseline, analysis, since="", claimed=True)
        if asked is None:
            return ()
        question = reordered(asked)
        for side, runs in ((Side.OLD, versus.old if known else versus.old[LEAST:]), (Side.NEW, versus.new)):
            for run in runs:
                question = question.observe(side, run)
        found.append(question)
    return tuple(found)
