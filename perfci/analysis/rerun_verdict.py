"""From a night's suspect to the question that re-runs answer, and from the answer to the verdict. Pure.

A `Question` is a `confirm.Trial` with what it is about. Re-runs take only the scenarios of the suspects, so
what ran before them in the night may be missing. Both sides miss it alike, which keeps the comparison
fair, but the histories then say little about this morning's level: it is `reordered`, and the trial's prior
of it so wide that the old revision is run as often as the new one.

Only changes that are worth a report are asked for. Sizes below the floor have no prior, so no run is spent
on them, and a series whose re-runs exclude the sizes above is the same for all that matters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import special

from perfci.analysis.change_shape import tail_location
from perfci.analysis.decision import Decision
from perfci.analysis.level_rule import rule_of, tail_rule
from perfci.analysis.robust import level_and_scale, run_location
from perfci.analysis.sequential_test import STEPS, Side, decide, next_side, read, start_trial
from perfci.analysis.types import Basis, ChangeKind, Confirmation, Judgement, Outcome
from perfci.results.model import Metric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from perfci.analysis.sequential_test import ConfirmSettings, Trial, TrialReading
    from perfci.analysis.settings import AnalysisSettings
    from perfci.results.model import SeriesKey

CLAIMED_ODDS = 1.0
"""Odds for a change that the night's own rules have proven: half of them are the lab's after all."""
SUSPECTED_ODDS = 0.05
LEAST_TO_REFUTE = 2
"""One fresh deployment of the new revision refutes no verdict: it may be the outlier."""
LEAST_OLD_TO_REFUTE = 1
"""Nor do the histories alone: all of this morning may be fast."""
REORDERED = 0.15
"""How far a scenario's level may move, in logarithms, when those before it are left out."""
NEAR_FLOOR = 0.8
"""Steps from this share of the floor on are worth runs: one at the floor may be measured a little smaller."""
ROUNDING = 1e-9
PRIOR_RUNS = 7.0
"""Degrees of freedom that the histories' deviation counts for beside that of the re-runs."""
CONFIDENCE = 0.95


class Effect(NamedTuple):
    """New against old, relative, with its 95 % interval."""

    size: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Question:
    """What re-runs are to say about one series.

    `since` is the first run of the suspected change. `claimed` says that the night's own rules call it a
    change; else it is a suspicion. `worse` asks whether it is slower; if False, whether it is faster. With
    the metric that says whether the values would have gone up (`upwards`).
    `floor` is the smallest relative change worth a report, `unit` the smallest value that counts.
    """

    key: SeriesKey
    since: str
    trial: Trial
    floor: float
    unit: float = 0.0
    claimed: bool = False
    worse: bool = True
    tail: bool = False
    earlier: tuple[float, ...] = ()
    """Log Bayes factors of `STEPS` from re-runs of nights before, which asked the same and could not tell."""

    def observe(self, side: Side, iterations: Sequence[float]) -> Question:
        """Return the question with one more fresh deployment; the same one if it gave no value."""
        return replace(self, trial=self.trial.observe(side, self._seen(iterations)))

    @property
    def upwards(self) -> bool:
        """Whether what is asked for is a rise of the values."""
        return self.worse != self.key.metric.higher_is_better

    def _seen(self, iterations: Sequence[float]) -> list[float]:
        return as_seen(iterations, unit=self.unit, upwards=self.upwards, tail=self.tail)


def as_seen(iterations: Sequence[float], *, unit: float, upwards: bool, tail: bool) -> list[float]:
    """Return one run's iterations as a trial takes them, which only knows steps upwards.

    Of the tail one number; where the question is whether they fell, their inverse: iterations per second.
    """
    values = [max(value, unit) for value in iterations if value >= 0]
    if tail:
        location = tail_location(values)
        values = [] if location is None else [math.exp(location)]
    return values if upwards else [1 / value for value in values if value > 0]


def ask(
    judgement: Judgement,
    baseline: Sequence[Sequence[float]],
    settings: AnalysisSettings,
    *,
    since: str,
    claimed: bool,
) -> Question | None:
    """Return the question whether a judgement's change is real, from the iterations of its baseline's runs.

    None where fewer than two of them gave a value. Not for failure rates, which have no level. Ratios need no
    baseline, as pairs answer: the trial of theirs is never run.
    """
    tail = judgement.kind is ChangeKind.TAIL
    worse = judgement.outcome is not Outcome.IMPROVEMENT
    rule = tail_rule(settings) if tail else rule_of(judgement.key.metric, settings)
    upwards = worse != judgement.key.metric.higher_is_better
    seen = [as_seen(run, unit=rule.unit, upwards=upwards, tail=tail) for run in baseline]
    if judgement.key.metric is Metric.RATIO:
        seen = [[1.0], [1.0]]
    if sum(run_location(run) is not None for run in seen) < 2:  # noqa: PLR2004
        return None
    odds = CLAIMED_ODDS if claimed else SUSPECTED_ODDS
    trial = start_trial([run for run in seen if run], wander=settings.wander, odds=odds)
    return Question(
        judgement.key,
        since,
        above_floor(trial, rule.floor, odds=odds),
        rule.floor,
        unit=rule.unit,
        claimed=claimed,
        worse=worse,
        tail=tail,
    )


def above_floor(trial: Trial, floor: float, *, odds: float | None = None) -> Trial:
    """Return a trial that asks only for steps worth a report; `odds` for all of them together, if given."""
    kept = worthwhile(floor)
    prior = np.where(kept, np.asarray(trial.prior), -np.inf)
    if odds is not None:
        prior = np.where(kept, math.log(odds / kept.sum()), -np.inf)
    return replace(trial, prior=tuple(prior.tolist()))


def worthwhile(floor: float) -> NDArray[np.bool_]:
    """Say which of `confirm.STEPS` are worth a report; the largest always is."""
    kept: NDArray[np.bool_] = np.log1p(floor * NEAR_FLOOR) <= STEPS + ROUNDING
    kept[-1] = True
    return kept


def reordered(question: Question) -> Question:
    """Return the question for re-runs that leave out scenarios which the nights ran before this one."""
    trial = question.trial
    return replace(question, trial=replace(trial, level_error=math.hypot(trial.level_error, REORDERED)))


def wish(question: Question, settings: ConfirmSettings) -> Side | None:
    """Say which revision a question needs run next; None when it is answered or not worth another run."""
    trial = question.trial
    reading = read(trial, fine=True)
    side = next_side(trial, reading, settings)
    if not question.claimed or trial.runs >= settings.most_runs:
        return side
    # A claim is asked to its end, whatever a run costs: it is proven, refuted, or the budget is used up.
    if decide(trial, reading, settings) is Decision.DIFFERENT or _is_refuted(question, reading, settings):
        return None
    if side is not None:
        return side
    return Side.NEW if len(trial.new) <= len(trial.old) else Side.OLD


def decided(question: Question, settings: ConfirmSettings) -> Decision:
    """Decide on the runs so far.

    A change that is proven but certainly below the floor is `same`, as nothing below it is ever reported; one
    that may be above it is `unknown`. To refute a claim takes as much evidence as to prove one.
    """
    trial = question.trial
    reading = read(trial, fine=True)
    found = decide(trial, reading, settings)
    if found is Decision.DIFFERENT:
        shown = measured(question)
        if shown is not None and abs(shown.size) >= question.floor:
            return Decision.DIFFERENT
        largest = 0.0 if shown is None else max(abs(shown.low), abs(shown.high))
        return Decision.UNKNOWN if question.claimed and largest >= question.floor else Decision.SAME
    if question.claimed:
        return Decision.SAME if _is_refuted(question, reading, settings) else Decision.UNKNOWN
    if not trial.new:
        return Decision.UNKNOWN
    against = _log_factor(reading, question) <= math.log(settings.same)
    return Decision.SAME if found is Decision.SAME or against else found


def _is_refuted(question: Question, reading: TrialReading, settings: ConfirmSettings) -> bool:
    """Say whether the re-runs refute a claim: both sides were run, and they speak against every size."""
    trial = question.trial
    enough = len(trial.new) >= LEAST_TO_REFUTE and len(trial.old) >= LEAST_OLD_TO_REFUTE
    return enough and _log_factor(reading, question) <= math.log(settings.refute)


def _log_factor(reading: TrialReading, question: Question) -> float:
    """Return the log Bayes factor of a step that is worth a report, all sizes alike, against none."""
    kept = worthwhile(question.floor)
    factors = reading.log_factors + (np.array(question.earlier) if question.earlier else 0.0)
    return float(special.logsumexp(factors[kept]) - math.log(kept.sum()))


def measured(question: Question) -> Effect | None:
    """Return how far the new revision's runs lie from the old one's; None without runs of both.

    Student's interval of the difference of two means (logarithms, outliers clipped), with the variance
    of the re-runs moderated by that of the histories (Smyth 2004).
    """
    old, new = question.trial.old, question.trial.new
    if not old or not new:
        return None
    before, after = level_and_scale(old)[0], level_and_scale(new)[0]
    squares = math.fsum([*((x - before) ** 2 for x in old), *((x - after) ** 2 for x in new)])
    df = PRIOR_RUNS + len(old) + len(new) - 2
    scale = math.sqrt((PRIOR_RUNS * question.trial.noise.scale**2 + squares) / df)
    half = float(special.stdtrit(df, 0.5 + CONFIDENCE / 2)) * scale * math.sqrt(1 / len(old) + 1 / len(new))
    step = after - before
    low, high = step - half, step + half
    if not question.upwards:
        step, low, high = -step, -high, -low
    return Effect(math.expm1(step), math.expm1(low), math.expm1(high))


def is_steady(judgement: Judgement, baseline: Sequence[Sequence[float]], settings: AnalysisSettings) -> bool:
    """Say whether a counter is nearly deterministic, so that one night proves by its own rule."""
    rule = rule_of(judgement.key.metric, settings)
    if not rule.may_be_steady:
        return False
    seen = [as_seen(run, unit=rule.unit, upwards=True, tail=False) for run in baseline]
    logs = [found.log for run in seen if (found := run_location(run)) is not None]
    return bool(logs) and level_and_scale(logs)[1] <= settings.steady_scale


def confirmed(judgement: Judgement, answer: Confirmation) -> Judgement:
    """Return a night's judgement as re-runs leave it; `judgement` was made with them (`verdict.judge`).

    A change that they alone have proven is told with their size and interval: the night's own may be that
    of several nights of which some are from before the change.
    """
    judgement = replace(judgement, confirmation=answer)
    if answer.basis is Basis.SAME_CODE:
        return _without_change(judgement, Outcome.INVALID, answer.reason)
    if answer.decision is Decision.DIFFERENT:
        return _changed(judgement, answer)
    if answer.decision is Decision.SAME:
        return _without_change(judgement, Outcome.NO_CHANGE, answer.reason)
    if answer.basis is Basis.RERUNS and answer.claimed:
        return _without_change(judgement, Outcome.TOO_NOISY, answer.reason)
    return judgement


def _changed(judgement: Judgement, answer: Confirmation) -> Judgement:
    outcome = Outcome.REGRESSION if answer.worse else Outcome.IMPROVEMENT
    told = replace(
        judgement,
        outcome=outcome,
        since=answer.since,
        suspect=False,
        kind=judgement.kind or (ChangeKind.TAIL if answer.tail else ChangeKind.SHIFT),
        reason=f"{judgement.reason}; {answer.reason}",
    )
    if answer.claimed:
        return told
    return replace(
        told,
        effect=answer.effect,
        low=answer.low,
        high=answer.high,
        p_value=None,
        q_value=None,
        level=judgement.location,
    )


def _without_change(judgement: Judgement, outcome: Outcome, reason: str) -> Judgement:
    return replace(judgement, outcome=outcome, reason=reason, since=None, kind=None, suspect=False)


def told(question: Question, decision: Decision, looked: float | None) -> str:
    """Say in a sentence what re-runs have shown; `looked` is the change that the nights seemed to have."""
    trial = question.trial
    shown = measured(question)
    size = "" if shown is None else f": {shown.size:+.1%} [{shown.low:+.1%}, {shown.high:+.1%}]"
    fresh = "fresh deployment" if len(trial.new) == 1 else "fresh deployments"
    runs = f"{len(trial.new)} {fresh} of the new code and {len(trial.old)} of the old{size}"
    if decision is Decision.DIFFERENT:
        return f"re-runs confirm it, {runs}"
    claim = "" if looked is None else f"it looked {looked:+.1%}; "
    if decision is Decision.SAME:
        small = shown is not None and shown.size >= question.floor * NEAR_FLOOR
        why = f", less than the {question.floor:.0%} that are reported" if small else ""
        return f"{claim}re-runs refuted it, {runs}{why}"
    return f"{claim}re-runs could not settle it, {runs}"
