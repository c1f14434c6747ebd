from __future__ import annotations

import random
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from perfci.report.distribution import HEIGHT, WIDTH, overlay, quantile_shifts
from perfci.results.model import Metric

CHANCE = random.Random(1)  # noqa: S311
OLD = [CHANCE.lognormvariate(0, 0.2) for _ in range(40)]


def test_a_shift_of_all_requests_moves_every_decile():
    found = quantile_shifts(OLD, [1.5 * one for one in OLD])
    assert [one.relative for one in found] == pytest.approx([0.5] * 9)
    assert all(one.is_certain for one in found[2:7])


def test_only_the_tail_moves_where_only_the_slow_requests_are_slower():
    slower = sorted(OLD)[:30] + [3 * one for one in sorted(OLD)[30:]]
    found = quantile_shifts(OLD, slower)
    assert max(abs(one.relative) for one in found[:4]) < 0.05
    assert found[8].relative > 1


def test_few_values_have_no_interval():
    found = quantile_shifts([1.0, 2.0], [2.0, 3.0])
    assert {(one.low, one.high, one.is_certain) for one in found} == {(None, None, False)}


def test_zero_before_has_no_relative_shift():
    assert quantile_shifts([0.0] * 20, [1.0] * 20)[0].relative is None


@example([0.0], [5e-324])
@example([1e9], [1e9 - 1.2e-7])
@given(
    st.lists(st.floats(0, 1e9), min_size=1, max_size=30), st.lists(st.floats(0, 1e9), min_size=1, max_size=30)
)
def test_every_picture_is_well_formed_and_inside_its_frame(before, after):
    root = ET.fromstring(overlay(before, after, Metric.SECONDS, ("<old>", "new")))  # noqa: S314
    assert root.get("aria-label").startswith("<old>: ")
    assert [one.get("class") for one in root.findall("path")][-2:] == ["share old", "share new"]
    for element in root.iter("text"):
        assert 0 <= float(element.get("x")) <= WIDTH
        assert 0 <= float(element.get("y")) <= HEIGHT
