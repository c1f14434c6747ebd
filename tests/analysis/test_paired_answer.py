"""Answers from draws: how often unchanged code is called different, and how many draws a suspicion gets."""

from __future__ import annotations

import numpy as np
import pytest

from perfci.analysis.decision import Decision
from perfci.analysis.paired_answer import (
    MOST_DRAWS_FOR_A_SUSPICION,
    MOST_DRAWS_IF_PROMISING,
    answered,
    wants_draw,
)
from perfci.analysis.pairs import DRAW_DEVIATION, DrawEffect
from perfci.analysis.rerun_verdict import ask
from perfci.analysis.sequential_test import ConfirmSettings
from perfci.analysis.settings import AnalysisSettings
from perfci.analysis.types import Judgement, Outcome
from perfci.results.model import TOTAL, Metric, SeriesKey

SETTINGS, ERROR = ConfirmSettings(), 0.012


def question(*, claimed=False, floor=0.05):
    key = SeriesKey("lab", "job", "Scenario.a", "a", TOTAL, Metric.RATIO)
    judgement = Judgement(key, "r", Outcome.NO_CHANGE, "")
    return ask(judgement, [], AnalysisSettings(latency_floor=floor), since="r", claimed=claimed)


def draws(logs):
    return [DrawEffect(log, ERROR, 30.0, 40, 0.08) for log in logs]


@pytest.mark.parametrize("floor", [0.02, 0.05])
def test_unchanged_code_is_ever_called_different_in_one_of_250_at_most(floor):
    rng = np.random.default_rng(1)
    asked, wrong = question(claimed=True, floor=floor), 0
    for _ in range(500):
        seen = draws(rng.normal(0, np.hypot(DRAW_DEVIATION, ERROR), MOST_DRAWS_IF_PROMISING).tolist())
        looks = (answered(asked, seen[:n], SETTINGS) for n in range(1, len(seen) + 1))
        wrong += any(one is Decision.DIFFERENT for one in looks)
    assert wrong <= 2


def test_a_suspicion_gets_more_draws_only_while_they_speak_for_a_step():
    promising, dull = draws([0.034] * 12), draws([0.026, 0.024] * 6)
    few, most = MOST_DRAWS_FOR_A_SUSPICION, MOST_DRAWS_IF_PROMISING
    asked = question()
    assert answered(asked, promising[:few], SETTINGS) is Decision.UNKNOWN
    assert wants_draw(asked, promising[:few], SETTINGS)
    assert not wants_draw(asked, promising[:most], SETTINGS)
    assert wants_draw(asked, dull[: few - 1], SETTINGS)
    assert not wants_draw(asked, dull[:few], SETTINGS)


def test_a_claim_is_asked_to_its_end():
    seen = draws([0.034] * 5)
    assert answered(question(claimed=True), seen, SETTINGS) is Decision.UNKNOWN
    assert wants_draw(question(claimed=True), seen, SETTINGS)
