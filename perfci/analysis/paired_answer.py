"""From the pairs of fresh draws to the answer about a night's suspect. Pure.

A question (`rerun_verdict.Question`) about a timing is answered by draws of both codes side by side
(`pairs`), which know nothing of the nights: neither their levels nor their noise. The decision stays right
however often one looks (`pair_decision`): of unchanged series that are asked about, at most one in 250 is
ever called different, as with re-runs in turns.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from perfci.analysis.decision import Decision
from perfci.analysis.pair_decision import PairSettings, decide_draws, draw_variances
from perfci.analysis.rerun_verdict import NEAR_FLOOR, Effect, worthwhile
from perfci.analysis.sequential_test import STEPS, ConfirmSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfci.analysis.pairs import DrawEffect
    from perfci.analysis.rerun_verdict import Question

LEAST_TO_REFUTE = 2
"""One draw refutes no verdict of the nights: it may be the outlier."""
MOST_DRAWS_FOR_A_SUSPICION = 4
"""What the nights themselves have not proven is worth no more draws than these..."""
MOST_DRAWS_IF_PROMISING = 10
"""...unless the draws so far speak for a step rather than against it."""


def pair_settings(floor: float, settings: ConfirmSettings) -> PairSettings:
    """Return when pairs answer a question about changes of `floor` (relative) or more.

    A question asks for one direction, and perfci reports only a proof of that one. So each direction has the
    whole error rate for itself: of unchanged series that are asked about, one in `proof` is called different.
    """
    return PairSettings(error=2 / settings.proof, within=floor)


def answered(question: Question, draws: Sequence[DrawEffect], settings: ConfirmSettings) -> Decision:
    """Decide on the draws so far: `different` is a change of the kind asked for that is worth a report.

    A suspicion is over when a step worth a report is ten times less likely than none; a claim of the nights
    needs as strong evidence to be refuted as to be proven.
    """
    found = decide_draws(draws, pair_settings(question.floor, settings))
    if found is None:
        return Decision.UNKNOWN
    sign = 1 if question.upwards else -1
    if found.decision is Decision.DIFFERENT and sign * found.log > 0:
        if abs(math.expm1(found.log)) >= NEAR_FLOOR * question.floor:
            return Decision.DIFFERENT
        largest = max(abs(math.expm1(found.low)), abs(math.expm1(found.high)))
        return Decision.UNKNOWN if question.claimed and largest >= question.floor else Decision.SAME
    if found.decision is not Decision.UNKNOWN:
        return Decision.SAME
    against = settings.refute if question.claimed else settings.same
    enough = len(draws) >= (LEAST_TO_REFUTE if question.claimed else 1)
    return Decision.SAME if enough and log_factor(question, draws) <= math.log(against) else Decision.UNKNOWN


def wants_draw(question: Question, draws: Sequence[DrawEffect], settings: ConfirmSettings) -> bool:
    """Say whether another draw can still change the answer to a question, and is worth it."""
    if answered(question, draws, settings) is not Decision.UNKNOWN:
        return False
    if question.claimed or len(draws) < MOST_DRAWS_FOR_A_SUSPICION:
        return True
    return len(draws) < MOST_DRAWS_IF_PROMISING and log_factor(question, draws) > 0


def log_factors(question: Question, draws: Sequence[DrawEffect]) -> tuple[float, ...]:
    """Return the log Bayes factor of each size of `STEPS`, in the direction asked for, against no step."""
    if not draws:
        return ()
    sign = 1 if question.upwards else -1
    weights = [1 / one for one in draw_variances(draws, PairSettings())]
    total = math.fsum(weights)
    shift = sign * math.fsum(w * one.log for w, one in zip(weights, draws, strict=True))
    found: list[float] = (STEPS * shift - STEPS**2 * total / 2).tolist()
    return tuple(found)


def log_factor(question: Question, draws: Sequence[DrawEffect]) -> float:
    """Return the log Bayes factor of a step worth a report, all sizes alike; earlier re-runs' count too."""
    kept = worthwhile(question.floor)
    factors = np.array(log_factors(question, draws)) + np.array(question.earlier or np.zeros(STEPS.size))
    return float(special.logsumexp(factors[kept]) - math.log(kept.sum()))


def seen_effect(question: Question, draws: Sequence[DrawEffect], settings: ConfirmSettings) -> Effect | None:
    """Return new against old with the interval that holds at all looks; None without a draw."""
    found = decide_draws(draws, pair_settings(question.floor, settings))
    if found is None:
        return None
    return Effect(math.expm1(found.log), math.expm1(found.low), math.expm1(found.high))


def reported(
    question: Question,
    draws: Sequence[DrawEffect],
    settings: ConfirmSettings,
    decision: Decision,
    looked: float | None,
) -> str:
    """Say in a sentence what pairs have shown; `looked` is the change that the nights seemed to have."""
    shown = seen_effect(question, draws, settings)
    size = "" if shown is None else f": {shown.size:+.1%} [{shown.low:+.1%}, {shown.high:+.1%}]"
    fresh = "fresh deployment" if len(draws) == 1 else "fresh deployments"
    pairs = f"{sum(one.pairs for one in draws)} pairs of {len(draws)} {fresh} side by side{size}"
    if decision is Decision.DIFFERENT:
        return f"re-runs confirm it, {pairs}"
    claim = "" if looked is None else f"it looked {looked:+.1%}; "
    if decision is Decision.SAME:
        small = shown is not None and shown.low * (1 if question.upwards else -1) > 0
        why = f", less than the {question.floor:.0%} that are reported" if small else ""
        return f"{claim}re-runs refuted it, {pairs}{why}"
    return f"{claim}re-runs could not settle it, {pairs}"
