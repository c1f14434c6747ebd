"""Change points of whole histories."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfci.analysis.changepoints import change_points, deviations, potts


def test_deviations_are_those_of_the_definition() -> None:
    values = np.random.default_rng(1).normal(size=30).round(1).tolist()
    for n, found in enumerate(deviations(values), start=1):
        part = np.array(values[:n])
        assert found == pytest.approx(np.abs(part - np.median(part)).sum(), abs=1e-9)


def test_potts_is_exact() -> None:
    """Against all cuts of a short sequence."""
    rng = np.random.default_rng(2)
    values = (rng.normal(size=9) + np.repeat([0.0, 4.0, 1.0], 3)).tolist()

    def cost(cuts: list[int]) -> float:
        edges = [0, *cuts, len(values)]
        parts = [np.array(values[a:b]) for a, b in itertools.pairwise(edges)]
        return sum(float(np.abs(p - np.median(p)).sum()) for p in parts) + 1.5 * len(cuts)

    possible = [[i for i in range(1, 9) if bits >> i & 1] for bits in range(0, 512, 2)]
    allowed = [
        cuts for cuts in possible if all(b - a >= 2 for a, b in zip([0, *cuts], [*cuts, 9], strict=True))
    ]
    assert cost(potts(values, 1.5)) == pytest.approx(min(cost(cuts) for cuts in allowed))


def test_steps_are_found_dated_and_measured() -> None:
    rng = np.random.default_rng(3)
    levels = np.repeat([1.0, 1.15, 0.95], [40, 30, 30])
    found = change_points(levels * np.exp(rng.normal(0, 0.02, 100)))
    assert [abs(c.index - true) <= 1 for c, true in zip(found, [40, 70], strict=True)] == [True, True]
    for change, true, size in zip(found, [40, 70], [0.15, 0.95 / 1.15 - 1], strict=True):
        assert change.earliest <= true <= change.latest
        assert change.low < size < change.high
    assert found[0].before == pytest.approx(1.0, abs=0.02)
    assert found[1].after == pytest.approx(0.95, abs=0.02)


def test_dates_and_sizes_lie_in_their_intervals_as_often_as_promised() -> None:
    """Nominal 95 % each; of 120 found steps at least 108 (binomial, 99 %), in heavy-tailed noise."""
    rng = np.random.default_rng(8)
    dated = sized = total = 0
    for _ in range(120):
        size = rng.uniform(0.08, 0.25)
        values = np.exp(0.03 * rng.standard_t(5, 60) * math.sqrt(3 / 5)) * np.repeat(
            [1.0, 1 + size], [35, 25]
        )
        for change in change_points(values):
            total += 1
            dated += change.earliest <= 35 <= change.latest
            sized += change.low <= size <= change.high
    assert total >= 110
    assert dated >= 0.9 * total
    assert sized >= 0.9 * total


@pytest.mark.parametrize("noise", ["normal", "heavy"])
def test_quiet_histories_have_no_change_points(noise: str) -> None:
    """Nominal 1 % a history; 60 histories, so at most 4 (binomial, 99.6 %)."""
    rng = np.random.default_rng(4)
    draw = rng.standard_normal if noise == "normal" else lambda n: rng.standard_t(4, n)
    assert sum(bool(change_points(np.exp(0.03 * draw(80)))) for _ in range(60)) <= 4


def test_an_outlier_night_is_no_change() -> None:
    values = np.exp(np.random.default_rng(5).normal(0, 0.02, 50))
    values[20] *= 1.8
    assert change_points(values) == ()


def test_missing_values_keep_their_places() -> None:
    values = np.repeat([1.0, 1.3], 20) * np.exp(np.random.default_rng(6).normal(0, 0.01, 40))
    values[[3, 25]] = math.nan
    assert [c.index for c in change_points(values)] == [20]


def test_small_changes_stay_below_the_floor() -> None:
    values = np.repeat([1.0, 1.03], 40) * np.exp(np.random.default_rng(7).normal(0, 0.005, 80))
    assert len(change_points(values)) == 1
    assert change_points(values, floor=0.05) == ()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.floats(1e-9, 1e9), st.sampled_from([math.nan, math.inf, 0.0, -1.0])), max_size=25)
)
def test_any_history_gives_an_answer(values: list[float]) -> None:
    for change in change_points(values):
        assert 0 < change.index < len(values)
        assert change.earliest <= change.index <= change.latest
        assert change.low <= change.effect <= change.high
        assert 0 <= change.p_value <= 0.01
