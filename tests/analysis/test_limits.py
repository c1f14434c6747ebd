"""No alert is smaller than what the series was said to be able to show."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from series import Histories, point, run_id, series_key, until

from perfci.analysis.replay import Replay
from perfci.analysis.settings import AnalysisSettings
from perfci.analysis.types import Judgement, Outcome, SeriesHistory
from perfci.analysis.verdict import by_night, judge
from perfci.results.model import Metric

CHANGED = (Outcome.REGRESSION, Outcome.IMPROVEMENT)


def alerts(histories: list[SeriesHistory], chosen: AnalysisSettings) -> list[Judgement]:
    """The judgements with which changes were first told of, night by night."""
    replay, told, found = Replay(chosen), {}, []
    for _, points in sorted(by_night(histories, {}).items()):
        for key, judgement in replay.night(points).items():
            since = judgement.since if judgement.outcome in CHANGED else None
            if since is not None and told.get(key) is None:
                found.append(judgement)
            told[key] = since
    return found


def size(judgement: Judgement) -> float:
    """How large an alert is, on the scale on which its MDE was worked out."""
    if judgement.key.metric is Metric.FAILURE_RATE or judgement.effect >= 0:
        return abs(judgement.effect)
    return math.expm1(-math.log1p(judgement.effect))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    step=st.floats(-0.5, 1.5),
    noise=st.floats(0.001, 0.3),
    floor=st.sampled_from([0.0, 0.01, 0.05, 0.3]),
    metric=st.sampled_from([Metric.SECONDS, Metric.SQL_STATEMENTS, Metric.CPU_SECONDS]),
)
def test_an_alert_is_never_below_the_mde(
    seed: int, step: float, noise: float, floor: float, metric: Metric
) -> None:
    rng = np.random.default_rng(seed)
    histories = []
    for number in range(6):
        level = np.where((np.arange(30) >= 14) & (number % 2 == 0), 1 + step, 1.0)
        values = 5 * level * np.exp(rng.normal(0, noise, 30) * rng.choice([1, 4], 30, p=[0.9, 0.1]))
        points = tuple(point(n, [v]) for n, v in enumerate(values))
        histories.append(SeriesHistory(series_key(f"a{number}", metric), points))
    chosen = AnalysisSettings(latency_floor=floor, sql_floor=floor, cpu_floor=floor)
    for alert in alerts(histories, chosen):
        assert size(alert) >= alert.mde * (1 - 1e-9)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=9, max_size=16))
def test_an_alert_of_a_failure_rate_is_never_below_the_mde(counts: list[int]) -> None:
    for alert in alerts([Histories.failures(counts)], AnalysisSettings()):
        if alert.outcome is Outcome.REGRESSION:
            assert alert.effect >= alert.mde * (1 - 1e-9)


def test_the_check_can_fail() -> None:
    """The property above sees alerts at all, and their MDE is near their size for the smallest of them."""
    rng = np.random.default_rng(1)
    ratios = []
    for step in np.linspace(0.05, 0.3, 12):
        levels = [1.0] * 20 + [1 + step] * 4
        values = np.array(levels) * np.exp(rng.normal(0, 0.02, 24))
        history = SeriesHistory(series_key(), tuple(point(n, [v]) for n, v in enumerate(values)))
        ratios += [
            size(alert) / alert.mde for alert in alerts([history], AnalysisSettings(latency_floor=0.0))
        ]
    assert len(ratios) >= 6
    assert 1 <= min(ratios) < 1.6


def test_more_series_make_a_single_change_harder_to_show(histories: Histories) -> None:
    alone = histories.timings([1.0] * 20, action="x")
    crowd = [histories.timings([1.0] * 20, action=f"a{n}") for n in range(40)]
    assert judge([alone, *crowd])[0].mde > judge([alone])[0].mde


def test_an_open_change_keeps_the_q_value_with_which_it_was_found(histories: Histories) -> None:
    history = histories.timings([1.0] * 12 + [1.3] * 5, between=0.02)
    first = next(j for n in range(12, 17) if (j := judge([until(history, n)])[0]).outcome in CHANGED)
    assert first.q_value <= 0.05
    assert judge([history])[0].q_value == pytest.approx(first.q_value)


def test_spikes_teach_the_lab_to_wait() -> None:
    """Spikes of two nights here and there, in a lab that re-runs nothing: soon two nights prove no more."""
    rng = np.random.default_rng(3)
    levels = np.ones((40, 60))
    for number in range(30):
        night = 12 + number
        levels[number, night : night + 2] = 1.3
    levels[39, 56:] = 1.3
    histories = [
        SeriesHistory(
            series_key(f"a{number:02d}"),
            tuple(point(n, [v]) for n, v in enumerate(row * np.exp(rng.normal(0, 0.02, 60)))),
        )
        for number, row in enumerate(levels)
    ]
    found = alerts(histories, AnalysisSettings())
    early = [one for one in found if one.run_id < run_id(30)]
    late = [one for one in found if run_id(30) <= one.run_id < run_id(50)]
    assert len(late) < len(early)
    assert [one.key.action for one in found if one.run_id >= run_id(56)][-1:] in ([], ["a39"])


def test_a_step_between_runs_of_the_same_code_is_remembered_as_a_false_alarm() -> None:
    levels = [1.0] * 12 + [1.3] * 12
    history = SeriesHistory(
        series_key("a", Metric.CPU_SECONDS), tuple(point(n, [v], code="same") for n, v in enumerate(levels))
    )
    replay = Replay(AnalysisSettings())
    for _, points in sorted(by_night([history], {}).items()):
        replay.night(points)
    (alarms,) = replay.alarms.values()
    assert alarms.seen
