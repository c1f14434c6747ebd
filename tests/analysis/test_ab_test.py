"""Old against new without a suspicion: what is the same, what is different, and what can't be told."""

from __future__ import annotations

import random

import pytest

from perfci.analysis.ab_test import LEAST, Versus, finding, wishes
from perfci.analysis.decision import Decision
from perfci.analysis.run_order import next_deployment
from perfci.analysis.sequential_test import ConfirmSettings, Side
from perfci.analysis.settings import AnalysisSettings
from perfci.results.model import TOTAL, Metric, SeriesKey

KEY = SeriesKey("embedded", "nightly", "S.s", "0" * 8, TOTAL, Metric.SECONDS)
ANALYSIS, SETTINGS = AnalysisSettings(), ConfirmSettings(most_runs=24)


def run(draw, level=1.0, scatter=0.02):
    here = level * draw.lognormvariate(0, scatter)
    return tuple(here * draw.lognormvariate(0, 0.05) for _ in range(20))


def carried_out(factor, *, history, seed=1, scatter=0.02):
    """Play an A/B to its end; return what was found, and the sides in their order."""
    draw = random.Random(seed)  # noqa: S311 - a seed, not a secret
    versus = Versus(KEY, tuple(run(draw, scatter=scatter) for _ in range(history)))
    done = []
    while len(done) < SETTINGS.most_runs:
        side = Side.OLD if not done else next_deployment(done, wishes(versus, ANALYSIS, SETTINGS))
        if side is None:
            break
        versus = versus.observe(side, run(draw, factor if side is Side.NEW else 1.0, scatter))
        done.append(side)
    return finding(versus, ANALYSIS, SETTINGS), done


@pytest.mark.parametrize("history", [0, 8])
@pytest.mark.parametrize(("factor", "sign"), [(1.25, 1), (0.8, -1)])
def test_a_large_change_is_found_with_its_size(factor, sign, history):
    found, _ = carried_out(factor, history=history)
    assert found.decision is Decision.DIFFERENT
    assert found.effect is not None
    assert found.effect.size == pytest.approx(factor - 1, abs=0.1)
    assert found.effect.low < found.effect.size < found.effect.high
    assert sign * found.effect.low > 0 or sign * found.effect.high > 0


@pytest.mark.parametrize("seed", range(4))
def test_the_same_is_said_to_be_the_same(seed):
    found, done = carried_out(1.0, history=8, seed=seed)
    assert found.decision is Decision.SAME
    assert found.effect is not None
    assert found.effect.low < 0 < found.effect.high
    assert {Side.OLD, Side.NEW} <= set(done)


def test_noise_is_not_called_a_change():
    found, done = carried_out(1.0, history=8, scatter=0.4)
    assert found.decision is not Decision.DIFFERENT
    assert len(done) <= SETTINGS.most_runs


def test_without_a_history_old_runs_come_first_and_prove_nothing():
    versus = Versus(KEY)
    for count in range(LEAST):
        assert wishes(versus, ANALYSIS, SETTINGS) == [Side.OLD]
        assert finding(versus, ANALYSIS, SETTINGS).decision is Decision.UNKNOWN
        versus = versus.observe(Side.OLD, (1.0 + count / 100,) * 5)
    assert wishes(versus, ANALYSIS, SETTINGS)
    assert finding(versus, ANALYSIS, SETTINGS).effect is None


def test_runs_without_a_value_prove_nothing():
    versus = Versus(KEY)
    for side in (Side.OLD, Side.NEW) * 4:
        versus = versus.observe(side, ())
    assert finding(versus, ANALYSIS, SETTINGS).decision is Decision.UNKNOWN
