"""What must not change the answer, and inputs that nobody hoped for."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from series import Histories, point, run_id, series_key

from perfci.analysis.types import Judgement, Outcome, SeriesHistory
from perfci.analysis.verdict import judge
from perfci.results.model import Metric


def mixed_night() -> list[SeriesHistory]:
    made = Histories(np.random.default_rng(3))
    return [
        *(made.timings([0.5] * 12 + [0.65] * 3, action=f"slow{i}") for i in range(4)),
        *(made.timings([0.5] * 15, action=f"same{i}") for i in range(8)),
        made.counters([20.0] * 14 + [24.0]),
        made.failures([0] * 13 + [9, 9]),
    ]


def test_the_order_of_the_series_does_not_matter() -> None:
    series = mixed_night()
    forward, backward = judge(series), judge(series[::-1])
    assert forward == backward[::-1]
    assert {j.outcome for j in forward} >= {Outcome.REGRESSION, Outcome.NO_CHANGE}


@pytest.mark.parametrize("factor", [1e-6, 1e3])
def test_the_unit_of_a_timing_does_not_matter(factor: float) -> None:
    series = mixed_night()[:12]
    scaled = [
        SeriesHistory(h.key, tuple(replace(p, values=tuple(v * factor for v in p.values)) for p in h.points))
        for h in series
    ]
    for a, b in zip(judge(series), judge(scaled), strict=True):
        assert (a.outcome, a.since) == (b.outcome, b.since)
        assert a.effect == pytest.approx(b.effect, abs=1e-9)
        assert a.p_value == pytest.approx(b.p_value, rel=1e-6)
        assert b.location == pytest.approx(a.location * factor)


def test_when_the_nights_were_does_not_matter() -> None:
    def later(night: str) -> str:
        return run_id(int(night[-6:]) * 3 + 100)

    series = mixed_night()
    moved = [
        SeriesHistory(h.key, tuple(replace(p, run_id=later(p.run_id)) for p in h.points)) for h in series
    ]
    for a, b in zip(judge(series), judge(moved), strict=True):
        assert (a.outcome, a.effect, a.q_value) == (b.outcome, b.effect, b.q_value)


values = st.one_of(
    st.floats(min_value=0, max_value=1e12),
    st.sampled_from([0.0, 1.0, 1e-300, 1e300, 5e-324, math.nan, math.inf, -1.0]),
)
runs = st.lists(values, max_size=5)
metrics = st.sampled_from([m for m in Metric if m is not Metric.FAILURE_RATE])


def sane(judgement: Judgement) -> None:
    """No number is out of its range. The q-value of an open change is that of the night that found it."""
    numbers = (judgement.effect, judgement.low, judgement.mde, judgement.p_value, judgement.q_value)
    for number in numbers:
        assert number is None or math.isfinite(number)
    if judgement.effect is not None:
        assert judgement.low <= judgement.effect <= judgement.high
        assert 0 <= judgement.p_value <= 1
        assert 0 <= judgement.q_value <= 1
        assert judgement.mde > 0
    assert (judgement.since is not None) == (judgement.outcome in (Outcome.REGRESSION, Outcome.IMPROVEMENT))


@settings(max_examples=60, deadline=None)
@given(st.lists(runs, max_size=16), metrics, st.integers(0, 3))
def test_any_numbers_give_an_answer(nights: list[list[float]], metric: Metric, gap: int) -> None:
    points = tuple(point(n * (gap + 1), v) for n, v in enumerate(nights))
    sane(judge([SeriesHistory(series_key("x", metric), points)])[0])


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([(1.0,), (1.0, 1.2), (1e-9, 1e9)]), st.integers(9, 20), st.randoms())
def test_constant_and_two_valued_series_give_an_answer(
    levels: tuple[float, ...], nights: int, random: object
) -> None:
    points = tuple(point(n, [random.choice(levels)]) for n in range(nights))
    judgement = judge([SeriesHistory(series_key(), points)])[0]
    sane(judgement)
    if len(levels) == 1:
        assert judgement.outcome == Outcome.NO_CHANGE


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=16))
def test_any_failure_counts_give_an_answer(counts: list[int]) -> None:
    sane(judge([Histories.failures(counts, attempts=30)])[0])
