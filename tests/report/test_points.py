from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nights import PORTS, History, run_id, seconds_key, statements_key

from perfci.analysis.level_rule import rule_of
from perfci.analysis.pairs import LEAST_PAIRS
from perfci.analysis.robust import run_location
from perfci.analysis.run_values import run_values
from perfci.analysis.settings import AnalysisSettings
from perfci.analysis.types import RunPoint, SeriesHistory
from perfci.report.points import (
    HIGH,
    LOG,
    LOW,
    MIDDLE,
    NumbersCache,
    TrendRun,
    noise_tracks,
    numbers_of,
    run_numbers,
    trend_of,
    trends,
)
from perfci.results.model import Measurement, Metric

SECONDS, STATEMENTS = seconds_key("total", PORTS), statements_key("neutron-api", PORTS)


def measured(key, night, *values):
    return Measurement(key, run_id(night), values, tuple(map(float, range(len(values)))), len(values), 0)


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=40))
def test_a_row_has_what_numpy_says(values):
    row = numbers_of(Metric.SECONDS, values, len(values), 0)
    wanted = np.percentile(values, [50, 10, 90])
    assert [row[MIDDLE], row[LOW], row[HIGH]] == [pytest.approx(one, rel=1e-12) for one in wanted]
    assert row[LOG] == pytest.approx(run_location(values).log)


def test_nothing_measured_is_no_number():
    row = numbers_of(Metric.SECONDS, [], 20, 20)
    assert math.isnan(row[MIDDLE])
    assert row[-3:] == (0.0, 20.0, 20.0)


def test_a_counter_below_its_unit_is_shown_as_measured_and_located_at_the_unit():
    row = numbers_of(Metric.SQL_STATEMENTS, [0.0], 20, 0)
    assert row[MIDDLE] == 0.0
    assert row[LOG] == 0.0


def test_a_run_without_a_series_leaves_a_gap_in_it_alone():
    runs = [TrendRun(run_id(n), "e", "c", valid=True) for n in range(3)]
    numbers = [
        run_numbers([measured(SECONDS, 0, 1.0), measured(STATEMENTS, 0, 40.0)]),
        run_numbers([measured(SECONDS, 1, 2.0)]),
        run_numbers([measured(STATEMENTS, 2, 42.0), measured(SECONDS, 2, 3.0)]),
    ]
    found = {one.key: one for one in trends(runs, numbers)}
    assert found[SECONDS].places.tolist() == [0, 1, 2]
    assert found[SECONDS].numbers[:, MIDDLE].tolist() == [1.0, 2.0, 3.0]
    assert found[STATEMENTS].places.tolist() == [0, 2]
    assert found[STATEMENTS].numbers[:, MIDDLE].tolist() == [40.0, 42.0]
    assert list(trends([], [])) == []


def test_what_was_kept_comes_back_to_the_last_bit(tmp_path):
    found = run_numbers(
        [measured(SECONDS, 0, 0.1, 0.2, 0.7), measured(STATEMENTS, 0, 40.0), measured(SECONDS, 0)]
    )
    NumbersCache(tmp_path / "new").keep(run_id(0), found)
    again = NumbersCache(tmp_path / "new").read(run_id(0))
    assert again.keys == found.keys
    assert np.array_equal(again.numbers, found.numbers, equal_nan=True)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", b"no archive"])
def test_a_damaged_file_is_as_good_as_none(tmp_path, damage):
    cache = NumbersCache(tmp_path)
    cache.keep(run_id(0), run_numbers([measured(SECONDS, 0, 1.0)]))
    (file,) = tmp_path.glob("*.npz")
    (names,) = tmp_path.glob("*.json")
    file.write_bytes(damage)
    assert NumbersCache(tmp_path).read(run_id(0)) is None
    cache.keep(run_id(0), run_numbers([measured(SECONDS, 0, 1.0)]))
    names.write_bytes(damage)
    assert NumbersCache(tmp_path).read(run_id(0)) is None
    assert cache.read(run_id(1)) is None


def test_a_lost_list_of_names_is_written_again(tmp_path):
    found = run_numbers([measured(SECONDS, 0, 1.0)])
    NumbersCache(tmp_path).keep(run_id(0), found)
    for file in tmp_path.glob("*.json"):
        file.unlink()
    fresh = NumbersCache(tmp_path)
    fresh.keep(run_id(1), found)
    assert NumbersCache(tmp_path).read(run_id(0)).keys == found.keys


def test_runs_with_the_same_series_share_one_list_of_their_names(tmp_path):
    """Also those whose numbers are new: a year of a large lab would else hold each name once for each night."""
    cache = NumbersCache(tmp_path)
    kept = [cache.keep(run_id(n), run_numbers([measured(SECONDS, n, 1.0)])) for n in range(2)]
    other = cache.keep(run_id(2), run_numbers([measured(STATEMENTS, 2, 1.0)]))
    read = [cache.read(run_id(n)) for n in range(2)]
    assert {id(one.keys) for one in (*kept, *read)} == {id(kept[0].keys)}
    assert other.keys == (STATEMENTS,)
    assert [one.numbers.tolist() for one in kept] == [one.numbers.tolist() for one in read]


def test_runs_that_no_picture_shows_are_forgotten(tmp_path):
    cache = NumbersCache(tmp_path)
    for night in range(3):
        cache.keep(run_id(night), run_numbers([measured(SECONDS, night, 1.0)]))
    cache.forget_others([run_id(2)])
    assert [cache.read(run_id(night)) is not None for night in range(3)] == [False, False, True]


def test_the_noise_is_that_of_the_locations_that_verdicts_compare():
    history = History()
    for _ in range(40):
        history.play()
    # Louder with every night.
    loud = [
        SeriesHistory(
            key,
            tuple(
                RunPoint(one.run_id, one.environment, one.code, tuple(v * (1 + (n > 24) * 0.2 * (n % 2)) for v in one.values),
                         one.attempts, one.failures, one.valid)
                for n, one in enumerate(points)
            ),
        )
        for key, points in history.points.items()
    ]  # fmt: skip
    settings = AnalysisSettings()
    found = {one.key: one for one in noise_tracks([trend_of(one) for one in loud])}
    timings = [one for one in loud if one.key.metric is Metric.SECONDS]
    assert timings
    for one in timings:
        runs = run_values(rule_of(Metric.SECONDS, settings), one.points)
        assert found[one.key].logs.tolist() == [run.log for run in runs]


def test_what_pairs_speak_for_has_the_noise_of_their_ratios_to_the_same_reference():
    ratio = replace(SECONDS, metric=Metric.RATIO)
    references = ["a", "a", None, "b", "b", "b"]
    runs = [
        TrendRun(run_id(n), "e", "c", valid=True, reference=one, pairs_only=n == 1)
        for n, one in enumerate(references)
    ]
    # On the last night fewer pairs were measured than a verdict takes.
    pairs = [LEAST_PAIRS, 0, 0, LEAST_PAIRS, LEAST_PAIRS, LEAST_PAIRS - 1]
    numbers = [
        run_numbers(
            [measured(SECONDS, night, 1.0)] + [measured(ratio, night, *[1.1] * number)] * bool(number)
        )
        for night, number in enumerate(pairs)
    ]
    found = {one.key: list(one.run_ids) for one in noise_tracks(tuple(trends(runs, numbers)))}
    assert found[SECONDS] == [run_id(2), run_id(5)]
    assert found[ratio] == [run_id(3), run_id(4), run_id(5)]


def test_noise_is_that_of_valid_runs_in_the_environment_of_the_last_one():
    points = tuple(
        RunPoint(run_id(n), environment, "c", values, 1, 0, valid)
        for n, (environment, values, valid) in enumerate(
            [("old", (1.0,), True), ("e", (2.0,), True), ("e", (3.0,), False), ("e", (), True), ("e", (4.0,), True), ("new", (9.0,), False)]
        )
    )  # fmt: skip
    (track,) = noise_tracks([trend_of(SeriesHistory(SECONDS, points))])
    assert list(track.run_ids) == [run_id(1), run_id(4)]
    assert track.logs == pytest.approx(np.log([2.0, 4.0]))
    (nothing,) = noise_tracks([trend_of(SeriesHistory(SECONDS, points[2:3]))])
    assert len(nothing.logs) == 0
