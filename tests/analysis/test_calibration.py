"""What a lab can show, worked out from runs of unchanged code."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from series import Histories, point, run_id, series_key

from perfci.analysis.calibration import NIGHTS, calibrate
from perfci.analysis.noise_trend import Growth, noise_growth
from perfci.analysis.settings import AnalysisSettings
from perfci.analysis.types import SeriesHistory
from perfci.analysis.verdict import judge
from perfci.report.points import noise_tracks, trend_of
from perfci.results.model import Metric

if TYPE_CHECKING:
    from collections.abc import Sequence

SETTINGS = AnalysisSettings()


def test_the_published_mde_is_that_of_the_verdict() -> None:
    """Both know the same runs but for the two that the verdict holds against the others."""
    made = Histories(np.random.default_rng(1))
    series = [made.timings([1.0] * 40, action=f"a{n}", between=0.03) for n in range(8)]
    published = {one.key: one.mde[2] for one in calibrate(series, SETTINGS)}
    tonight = {one.key: one.mde for one in judge(series)}
    for key, size in published.items():
        assert size == pytest.approx(tonight[key], rel=0.1)


def test_more_nights_show_smaller_changes() -> None:
    made = Histories(np.random.default_rng(2))
    (found,) = calibrate([made.timings([1.0] * 20)], SETTINGS)
    sizes = [found.mde[n] for n in NIGHTS]
    assert sizes == sorted(sizes, reverse=True)
    assert found.mde[8] >= SETTINGS.latency_floor
    assert found.runs == 20
    assert found.location == pytest.approx(1.0, abs=0.05)


def test_the_three_levels_of_noise_are_told_apart_where_deployments_were_run_twice() -> None:
    rng = np.random.default_rng(3)
    points, deployments = [], {}
    for number in range(200):
        level = rng.normal(0, 0.04)
        for again in range(2):
            night = 2 * number + again
            values = np.exp(level + rng.normal(0, 0.02) + rng.normal(0, 0.1, 30))
            points.append(point(night, values))
            deployments[run_id(night)] = f"d{number}"
    chosen = replace(SETTINGS, max_baseline=400)
    (found,) = calibrate([SeriesHistory(series_key(), tuple(points))], chosen, deployments)
    assert found.budget is not None
    assert found.budget.run is not None
    assert found.budget.deployment**0.5 == pytest.approx(0.04, rel=0.15)
    assert (found.budget.run + found.budget.iterations) ** 0.5 == pytest.approx(
        (0.02**2 + 0.1**2 / 24) ** 0.5, rel=0.25
    )


def test_without_repeated_deployments_their_noise_and_that_of_runs_are_one() -> None:
    made = Histories(np.random.default_rng(4))
    (found,) = calibrate([made.timings([1.0] * 30, between=0.05, within=0.02)], SETTINGS)
    assert found.budget is not None
    assert found.budget.run is None
    assert found.budget.deployment > 10 * found.budget.iterations


def test_only_the_stretch_since_the_last_change_counts() -> None:
    made = Histories(np.random.default_rng(5))
    (found,) = calibrate([made.timings([1.0] * 20 + [1.5] * 12, between=0.02)], SETTINGS)
    assert 11 <= found.runs <= 13
    assert found.location == pytest.approx(1.5, rel=0.03)


def test_only_valid_runs_in_the_last_environment_count() -> None:
    history = Histories(np.random.default_rng(6)).timings([1.0] * 20)
    points = [
        replace(p, environment="e1" if n >= 10 else "e0", valid=n != 12) for n, p in enumerate(history.points)
    ]
    (found,) = calibrate([SeriesHistory(history.key, tuple(points))], SETTINGS)
    assert found.runs == 9


def test_counters_and_failure_rates_have_their_own_limits() -> None:
    made = Histories(np.random.default_rng(7))
    found = {
        one.key.metric: one
        for one in calibrate([made.counters([20.0] * 12), made.failures([0, 1] * 6)], SETTINGS)
    }
    assert found[Metric.SQL_STATEMENTS].mde[1] == pytest.approx(0.05, rel=0.01), "one statement of twenty"
    assert list(found[Metric.FAILURE_RATE].mde) == [1]
    assert 0.05 < found[Metric.FAILURE_RATE].mde[1] < 0.6


def test_a_level_below_the_smallest_unit_is_told_as_it_was_measured() -> None:
    points = tuple(point(night, [0.0]) for night in range(6))
    (found,) = calibrate([SeriesHistory(series_key(metric=Metric.LEFTOVERS), points)], SETTINGS)
    assert found.location == 0
    assert found.mde[1] >= 1, "one thing left behind"


def test_too_few_runs_say_nothing() -> None:
    made = Histories(np.random.default_rng(8))
    assert calibrate([made.timings([1.0] * 2), SeriesHistory(series_key("x"), ())], SETTINGS) == ()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.floats(0, 1e12), max_size=3), max_size=14), st.sampled_from(list(Metric)))
def test_any_numbers_can_be_calibrated(nights: list[list[float]], metric: Metric) -> None:
    points = tuple(point(n, v, failures=0) for n, v in enumerate(nights))
    for found in calibrate([SeriesHistory(series_key("x", metric), points)], SETTINGS):
        assert all(np.isfinite(size) and size > 0 for size in found.mde.values())


def growing(histories: Sequence[SeriesHistory], given: AnalysisSettings) -> tuple[Growth, ...]:
    return noise_growth(noise_tracks([trend_of(one) for one in histories]), given)


def grown(ratio: float, *, runs: int = 60, seed: int = 1, series: int = 1) -> list[SeriesHistory]:
    rng = np.random.default_rng(seed)
    scale = np.where(np.arange(runs) >= runs - 14, 0.02 * ratio, 0.02)
    return [
        SeriesHistory(
            series_key(f"a{number:03d}"),
            tuple(point(n, [v]) for n, v in enumerate(np.exp(rng.normal(0, 1, runs) * scale))),
        )
        for number in range(series)
    ]


def test_noise_that_has_trebled_is_found_and_measured() -> None:
    found = [one for seed in range(20) for one in growing(grown(3.0, seed=seed), SETTINGS)]
    assert len(found) >= 16
    assert np.median([one.ratio for one in found]) == pytest.approx(3.0, rel=0.2)
    assert sum(one.low <= 3.0 <= one.high for one in found) >= 0.85 * len(found)
    assert found[0].since == run_id(46)
    assert found[0].past == pytest.approx(0.02, rel=0.3)


@pytest.mark.parametrize("kind", ["normal", "heavy", "steps"])
def test_noise_that_stays_as_it_is_is_not_listed(kind: str) -> None:
    """At most the nominal share of 40 lists of 50 series has a false one, with 3 sigma of room."""
    rng = np.random.default_rng(9)
    wrong = 0
    for _ in range(40):
        histories = []
        for number in range(50):
            noise = rng.standard_t(4, 60) if kind == "heavy" else rng.normal(0, 1, 60)
            level = np.where(np.arange(60) >= 50, 0.2, 0.0) if kind == "steps" else 0.0
            values = np.exp(0.02 * noise + level)
            histories.append(
                SeriesHistory(series_key(f"a{number}"), tuple(point(n, [v]) for n, v in enumerate(values)))
            )
        wrong += bool(growing(histories, SETTINGS))
    assert wrong <= 40 * 0.05 + 3 * np.sqrt(40 * 0.05 * 0.95)


def test_constant_and_short_series_do_not_grow() -> None:
    constant = SeriesHistory(series_key(), tuple(point(n, [1.0]) for n in range(60)))
    assert growing([constant, *grown(5.0, runs=30), SeriesHistory(series_key("y"), ())], SETTINGS) == ()


def test_the_worst_comes_first_whatever_the_order() -> None:
    histories = [*grown(6.0, seed=2), *[replace(h, key=series_key("b")) for h in grown(12.0, seed=3)]]
    there, back = growing(histories, SETTINGS), growing(histories[::-1], SETTINGS)
    assert there == back
    assert [one.key.action for one in there] == ["b", "a000"]
