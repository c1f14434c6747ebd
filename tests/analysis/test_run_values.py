"""Many series at once give what each gives by itself."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfci.analysis.level_rule import rule_of, tail_rule
from perfci.analysis.run_values import run_value, run_values
from perfci.analysis.settings import AnalysisSettings
from perfci.analysis.types import RunPoint
from perfci.results.model import Metric

SETTINGS = AnalysisSettings()
RULES = [rule_of(Metric.SECONDS, SETTINGS), tail_rule(SETTINGS), rule_of(Metric.ROWS_READ, SETTINGS)]
USUAL = st.floats(1e-4, 1e4)
ODD = st.sampled_from([0.0, -1.0, math.nan, math.inf, 5e-324, 1e300])
VALUES = st.one_of(
    st.lists(USUAL, max_size=3),
    st.lists(USUAL, min_size=20, max_size=24),
    st.lists(USUAL | ODD, max_size=24),
)


def same(one, other):
    """Compare all that is exact exactly, and sums to the last few bits: their order is not promised."""
    if one is None or other is None:
        return one is other
    numbers = (one.log, one.error, *one.shape), (other.log, other.error, *other.shape)
    return (one.run_id, one.code, one.measured) == (other.run_id, other.code, other.measured) and numbers[
        0
    ] == pytest.approx(numbers[1], rel=1e-12, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("rule", RULES, ids=["timing", "tail", "counter"])
@settings(max_examples=150, deadline=None)
@given(rows=st.lists(VALUES, max_size=6))
def test_many_series_at_once_give_what_each_gives_by_itself(rule, rows):
    points = [RunPoint(f"r{n}", "e", f"c{n}", values, 1, 0, valid=True) for n, values in enumerate(rows)]
    found = run_values(rule, points)
    assert len(found) == len(points)
    for value, point in zip(found, points, strict=True):
        assert same(value, run_value(rule, point)), point.values
