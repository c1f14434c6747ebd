"""Steps put into a history whose truth is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from series import Histories

from perfci.analysis.settings import AnalysisSettings
from perfci.analysis.verdict import judge
from perfci.analysis.what_if import Found, StepSize, WhatIf
from perfci.results.model import Metric, SeriesKey

if TYPE_CHECKING:
    from perfci.analysis.types import SeriesHistory


def lab(nights: int = 40, *, between: float = 0.01) -> list[SeriesHistory]:
    made = Histories(np.random.default_rng(2))
    series = [
        made.timings([1.0] * nights, action=f"a{n:02d}", between=between, within=0.02) for n in range(12)
    ]
    return [*series, made.counters([20.0] * nights), made.failures([0] * nights)]


def tried(step: StepSize, histories: list[SeriesHistory], trials: int = 1000) -> WhatIf:
    made = WhatIf(histories, (), AnalysisSettings(), {}, step)
    for trial in made.start()[:trials]:
        made.run(trial)
    return made


def share(found: dict[SeriesKey, Found]) -> float:
    return sum(len(one.nights) for one in found.values()) / sum(one.trials for one in found.values())


def test_a_large_step_is_found_on_the_second_night_and_a_tiny_one_never() -> None:
    large = tried(StepSize(relative=0.3), lab())
    assert share(large.found) > 0.95
    timings = [one for one in large.found.values() if one.key.metric is Metric.SECONDS]
    assert {one.median_nights for one in timings} == {2.0}
    assert share(tried(StepSize(relative=0.01), lab(), trials=40).found) == 0.0


def test_counters_are_found_on_the_first_night() -> None:
    found = tried(StepSize(relative=0.3), lab()).found
    (counter,) = (one for one in found.values() if one.key.metric is Metric.SQL_STATEMENTS)
    assert counter.median_nights == 1.0


def test_seconds_are_put_into_timings_only_and_rates_are_left_alone() -> None:
    found = tried(StepSize(seconds=0.4), lab(), trials=30).found
    assert {key.metric for key in found} == {Metric.SECONDS}
    assert Metric.FAILURE_RATE not in {
        key.metric for key in tried(StepSize(relative=0.3), lab(), trials=30).found
    }


def test_an_improvement_is_looked_for_as_one() -> None:
    assert share(tried(StepSize(relative=-0.3), lab(), trials=30).found) > 0.9


def test_of_throughput_a_fall_is_looked_for_as_a_regression() -> None:
    histories = Histories(np.random.default_rng(3))
    rates = [
        histories.counters([400.0] * 40, action=f"path {n}", metric=Metric.MEGABITS_PER_SECOND, noise=0.01)
        for n in range(10)
    ]
    assert share(tried(StepSize(relative=-0.3), rates, trials=30).found) > 0.9


def test_the_untouched_history_stays_untouched() -> None:
    histories = lab()
    before = judge(histories)
    made = tried(StepSize(relative=0.3), histories, trials=30)
    assert made.alerts == 0
    assert made.judged == sum(len(h.points) - 8 for h in histories)
    assert judge(histories) == before


def test_a_series_with_an_open_change_is_left_out() -> None:
    made = Histories(np.random.default_rng(3))
    series = [made.timings([1.0] * 10 + [1.5] * 30, action="open", between=0.01)]
    series += [made.timings([1.0] * 40, action=f"a{n}", between=0.01) for n in range(3)]
    found = tried(StepSize(relative=0.3), series).found
    assert found[series[0].key].trials < found[series[1].key].trials if series[0].key in found else True
    assert tried(StepSize(relative=0.3), series).alerts == 1


@pytest.mark.parametrize("nights", [0, 1, 9, 11])
def test_a_short_history_has_no_trials(nights: int) -> None:
    made = WhatIf(lab(nights), (), AnalysisSettings(), {}, StepSize(relative=0.3))
    assert made.start() == ()


def test_any_part_of_the_trials_is_a_sample_of_all_dates() -> None:
    made = WhatIf(lab(), (), AnalysisSettings(), {}, StepSize(relative=0.3))
    trials = made.start()
    half = {trial.night for trial in trials[: len(trials) // 2]}
    assert half == {trial.night for trial in trials}
    assert trials == WhatIf(lab(), (), AnalysisSettings(), {}, StepSize(relative=0.3)).start()
