"""The nightly verdict on histories whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from series import Histories, point, run_id, series_key, until

from perfci.analysis.replay import Replay
from perfci.analysis.settings import AnalysisSettings
from perfci.analysis.types import ChangeKind, Outcome, SeriesHistory
from perfci.analysis.verdict import feed, judge
from perfci.results.model import Metric

SLOW = [1.0] * 8 + [1.3] * 3 + [1.0] * 3


def outcomes(history: SeriesHistory, **arguments: object) -> list[Outcome]:
    """The answers night by night."""
    return [judge([until(history, n)], **arguments)[0].outcome for n in range(len(history.points))]


def test_a_slow_down_is_found_named_and_closed(histories: Histories) -> None:
    history = histories.timings(SLOW, between=0.02)
    told = outcomes(history)
    assert told[:8] == [Outcome.NO_BASELINE] * 8
    assert told[9:11] == [Outcome.REGRESSION] * 2
    assert told[13] == Outcome.NO_CHANGE
    slow = judge([until(history, 10)])[0]
    assert slow.since == run_id(8)
    assert slow.kind == ChangeKind.SHIFT
    assert slow.low < 0.3 < slow.high
    assert slow.baseline == tuple(run_id(n) for n in range(8))


def test_of_throughput_a_fall_is_the_regression_and_it_closes(histories: Histories) -> None:
    def told(levels: list[float]) -> list[Outcome]:
        return outcomes(histories.counters(levels, metric=Metric.MEGABITS_PER_SECOND, noise=0.01))

    fell = told([400.0] * 9 + [300.0] * 4 + [400.0] * 3)
    assert fell[10:13] == [Outcome.REGRESSION] * 3
    assert fell[-1] == Outcome.NO_CHANGE
    assert told([400.0] * 9 + [520.0] * 4)[10:] == [Outcome.IMPROVEMENT] * 3


def test_the_effect_of_a_fall_keeps_its_sign(histories: Histories) -> None:
    levels = [400.0] * 9 + [300.0] * 3
    history = histories.counters(levels, metric=Metric.MEGABITS_PER_SECOND, noise=0.01)
    judgement = judge([history])[0]
    assert judgement.low < -0.25 < judgement.high < 0
    assert judgement.kind is ChangeKind.SHIFT


def test_the_first_night_back_is_told_as_that(histories: Histories) -> None:
    history = histories.timings([1.0] * 8 + [1.3] * 4 + [1.0] * 2, between=0.02)
    said = [judge([until(history, n)])[0] for n in range(10, 14)]
    assert [one.outcome for one in said] == [Outcome.REGRESSION] * 3 + [Outcome.NO_CHANGE]
    assert ["back at the baseline" in one.reason for one in said] == [False, False, True, False]


def test_one_night_alone_is_suspect_but_proves_nothing(histories: Histories) -> None:
    history = histories.timings([1.0] * 12 + [1.6, 1.0], between=0.02)
    first = judge([until(history, 12)])[0]
    assert first.outcome == Outcome.NO_CHANGE
    assert first.suspect
    assert judge([history])[0].outcome == Outcome.NO_CHANGE


def test_a_regression_does_not_become_the_baseline_by_lasting(histories: Histories) -> None:
    judgement = judge([histories.timings([1.0] * 10 + [1.2] * 40, between=0.02)])[0]
    assert judgement.outcome == Outcome.REGRESSION
    assert judgement.since == run_id(10)
    assert judgement.baseline == tuple(run_id(n) for n in range(10))


def test_an_accepted_regression_is_the_baseline(histories: Histories) -> None:
    history = histories.timings([1.0] * 10 + [1.2] * 12, between=0.02)
    judgement = judge([history], accepted={history.key: run_id(10)})[0]
    assert judgement.outcome == Outcome.NO_CHANGE
    assert set(judgement.baseline) <= {run_id(n) for n in range(10, 22)}


def test_an_improvement_becomes_the_baseline_and_can_be_lost_again(histories: Histories) -> None:
    history = histories.timings([1.0] * 10 + [0.8] * 12 + [1.0] * 3, between=0.02)
    assert judge([until(history, 12)])[0].outcome == Outcome.IMPROVEMENT
    assert judge([until(history, 21)])[0].outcome == Outcome.NO_CHANGE
    lost = judge([history])[0]
    assert lost.outcome == Outcome.REGRESSION
    assert lost.since == run_id(22)


def test_a_change_below_the_floor_is_not_reported(histories: Histories) -> None:
    history = histories.timings([1.0] * 20 + [1.03] * 20, between=0.002, within=0.01)
    assert set(outcomes(history)[8:]) == {Outcome.NO_CHANGE}


def test_a_noisy_series_says_what_it_could_show(histories: Histories) -> None:
    judgement = judge([histories.timings([1.0] * 20, between=0.25)])[0]
    assert judgement.outcome == Outcome.TOO_NOISY
    assert judgement.mde > 0.15


def test_the_published_spread_of_a_shared_cloud_gives_no_alert() -> None:
    """Job 60 to 83 minutes, one flow 4.58 to 5.29 s, with nothing changed; as four runs and as many."""
    job = [60.0, 83.0, 71.0, 65.0] * 6
    flow = [4.58, 5.29, 4.9, 5.1] * 6
    for values in (job, flow):
        for order in (values, values[::-1], sorted(values[:4]) * 6):
            history = SeriesHistory(series_key(), tuple(point(n, [v]) for n, v in enumerate(order)))
            told = outcomes(history)
            assert set(told[:8]) == {Outcome.NO_BASELINE}
            assert set(told[9:]) <= {Outcome.TOO_NOISY}, told


def test_a_new_environment_starts_without_a_baseline(histories: Histories) -> None:
    history = histories.timings([1.0] * 10 + [1.5] * 12, between=0.02)
    points = tuple(replace(p, environment="e1") if n >= 10 else p for n, p in enumerate(history.points))
    told = outcomes(SeriesHistory(history.key, points))
    assert told[10:18] == [Outcome.NO_BASELINE] * 8
    assert set(told[18:]) <= {Outcome.NO_CHANGE, Outcome.TOO_NOISY}


def test_an_invalid_night_is_invalid_for_all_and_never_compared_with(histories: Histories) -> None:
    series = [histories.timings([1.0] * 9 + [3.0, 1.0], action=a, between=0.01) for a in "ab"]
    bad = [
        SeriesHistory(h.key, tuple(replace(p, valid=p.run_id != run_id(9)) for p in h.points)) for h in series
    ]
    assert [j.outcome for j in judge([until(h, 9) for h in bad])] == [Outcome.INVALID] * 2
    for judgement in judge(bad):
        assert judgement.outcome == Outcome.NO_CHANGE
        assert run_id(9) not in judgement.baseline


def test_a_counter_proves_in_one_run(histories: Histories) -> None:
    history = histories.counters([20.0] * 9 + [22.0, 20.0])
    told = outcomes(history)
    assert told[8:] == [Outcome.NO_CHANGE, Outcome.REGRESSION, Outcome.NO_CHANGE]
    judgement = judge([until(history, 9)])[0]
    assert judgement.kind == ChangeKind.COUNTER
    assert judgement.effect == pytest.approx(0.1, abs=0.01)


def test_a_constant_counter_that_starts_counting_is_a_finite_change() -> None:
    history = SeriesHistory(
        series_key("glance", Metric.SQL_STATEMENTS), tuple(point(n, [0.0]) for n in range(9))
    )
    history = SeriesHistory(history.key, (*history.points, point(9, [4.0])))
    judgement = judge([history])[0]
    assert judgement.outcome == Outcome.REGRESSION
    assert judgement.effect == pytest.approx(3.0)


def test_less_than_one_statement_is_no_change(histories: Histories) -> None:
    """An idle service has its periodic statements; a longer task has more of them per iteration."""
    assert outcomes(histories.counters([2.0] * 9 + [2.7]))[-1] != Outcome.REGRESSION
    assert outcomes(histories.counters([2.0] * 9 + [3.5]))[-1] == Outcome.REGRESSION


def test_a_noisy_counter_needs_two_runs(histories: Histories) -> None:
    history = histories.counters([0.5] * 12 + [0.8] * 2, metric=Metric.CPU_SECONDS, noise=0.04)
    assert outcomes(history)[12:] == [Outcome.TOO_NOISY, Outcome.REGRESSION]


def test_failures_prove_in_one_run_and_close() -> None:
    told = outcomes(Histories.failures([0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 12, 12, 0]))
    assert told[8:] == [
        Outcome.NO_CHANGE, Outcome.NO_CHANGE, Outcome.REGRESSION, Outcome.REGRESSION, Outcome.NO_CHANGE,
    ]  # fmt: skip
    judgement = judge([Histories.failures([0] * 9 + [12])])[0]
    assert judgement.kind == ChangeKind.FAILURES
    assert judgement.low < 0.3 < judgement.high


def test_a_rate_that_was_zero_for_long_needs_no_floor_but_two_runs() -> None:
    counts = [0] * 12 + [15, 15, 14, 0, 0]
    told = outcomes(Histories.failures(counts, attempts=400))
    assert told[12:] == [
        Outcome.NO_CHANGE,
        Outcome.REGRESSION,
        Outcome.REGRESSION,
        Outcome.NO_CHANGE,
        Outcome.NO_CHANGE,
    ]
    for harmless in ([0] * 12 + [15, 0, 15, 0], [0] * 12 + [1, 1, 1], [2, 0, 3] * 4 + [15, 15, 15]):
        assert set(outcomes(Histories.failures(harmless, attempts=400))[8:]) == {Outcome.NO_CHANGE}


def test_failures_that_come_in_clusters_are_known() -> None:
    told = outcomes(Histories.failures([0, 0, 15, 0, 0, 0, 0, 0, 0, 14, 0, 14]))
    assert told[-1] == Outcome.NO_CHANGE


@pytest.mark.parametrize("bad", [1, 3, 7])
def test_one_early_bad_night_does_not_hide_a_failure_that_lasts(bad: int) -> None:
    counts = [40 if night == bad else 0 for night in range(8)] + [0] * 12 + [40] * 5 + [0] * 2
    history = Histories.failures(counts)
    told = outcomes(history)
    assert told[19:] == [
        Outcome.NO_CHANGE, Outcome.NO_CHANGE, *[Outcome.REGRESSION] * 4, Outcome.NO_CHANGE, Outcome.NO_CHANGE,
    ]  # fmt: skip
    assert judge([until(history, 24)])[0].since == run_id(20)
    assert outcomes(Histories.failures(counts[:8] + [40] * 2))[8:] == [Outcome.NO_CHANGE, Outcome.REGRESSION]


def test_a_scenario_that_fails_now_and_then_is_no_news() -> None:
    chance = np.random.default_rng(3)
    counts = [40 if chance.random() < 0.15 else 0 for _ in range(120)]
    told = feed(Replay(AnalysisSettings()), [Histories.failures(counts)]).values()
    assert sum(one.outcome is Outcome.REGRESSION for one in told) <= 3


def test_a_run_without_a_single_success_gives_no_timing(histories: Histories) -> None:
    history = histories.timings([1.0] * 9)
    failed = point(9, [], attempts=40, failures=40)
    judgement = judge([SeriesHistory(history.key, (*history.points, failed))])[0]
    assert judgement.outcome == Outcome.NO_DATA
    assert "40 of 40" in judgement.reason


def test_an_empty_history_has_no_data() -> None:
    assert judge([SeriesHistory(series_key(), ())])[0].outcome == Outcome.NO_DATA
    assert judge([]) == ()


def test_a_quiet_night_of_many_series_is_silent() -> None:
    """60 unchanged series over 30 nights: at most the nominal share of nights says anything."""
    made = Histories(np.random.default_rng(5))
    series = [made.timings([0.5] * 30, action=f"a{i}", between=0.04) for i in range(50)]
    reported = 0
    for night in range(9, 30, 5):
        told = judge([until(h, night) for h in series])
        reported += any(j.outcome in (Outcome.REGRESSION, Outcome.IMPROVEMENT) for j in told)
    assert reported <= 1


def test_settings_are_respected(histories: Histories) -> None:
    history = histories.timings([1.0] * 10 + [1.2] * 4, between=0.02)
    assert judge([history], AnalysisSettings(latency_floor=0.5))[0].outcome != Outcome.REGRESSION
    assert judge([history], AnalysisSettings(min_baseline=20))[0].outcome == Outcome.NO_BASELINE


def test_a_slower_tail_is_told_apart() -> None:
    made = Histories(np.random.default_rng(8))
    history = made.timings([1.0] * 14, between=0.02, within=0.05, iterations=60)
    slow = []
    for p in history.points[10:]:
        values = np.array(p.values)
        values[np.argsort(values)[-12:]] *= 1.6
        slow.append(replace(p, values=tuple(values.tolist())))
    judgement = judge([SeriesHistory(history.key, (*history.points[:10], *slow))])[0]
    assert (judgement.outcome, judgement.kind) == (Outcome.REGRESSION, ChangeKind.TAIL)
    assert judgement.since == run_id(10)
    assert "slow requests" in judgement.reason


def test_a_second_mode_is_told_apart() -> None:
    made = Histories(np.random.default_rng(9))
    history = made.timings([1.0] * 14, between=0.02, within=0.05, iterations=60)
    slow = [
        replace(p, values=tuple(v * (1.7 if i % 5 < 2 else 1) for i, v in enumerate(p.values)))
        for p in history.points[10:]
    ]
    judgement = judge([SeriesHistory(history.key, (*history.points[:10], *slow))])[0]
    assert (judgement.outcome, judgement.kind) == (Outcome.REGRESSION, ChangeKind.MODE)


def test_when_the_canaries_step_too_it_was_the_lab(histories: Histories) -> None:
    levels = [1.0] * 12 + [1.2] * 3
    series = [histories.timings(levels, action=f"a{i}", between=0.01) for i in range(6)]
    canaries = [histories.timings(levels, action=f"canary{i}", between=0.005) for i in range(3)]
    assert {j.outcome for j in judge(series)} == {Outcome.REGRESSION}
    assert {j.outcome for j in judge(series, canaries=canaries)} == {Outcome.NO_BASELINE}


@pytest.mark.parametrize("between", [0.03, 0.002], ids=["noise rules", "the floor rules"])
def test_a_change_of_twice_the_published_size_is_found_on_the_second_night(between: float) -> None:
    """The MDE is a limit of what is reported; twice that is found at once: of 40, at least 34."""
    made = Histories(np.random.default_rng(12))
    found = 0
    for _ in range(40):
        before = made.timings([1.0] * 20, between=between, within=0.03)
        size = 2 * judge([before])[0].mde
        after = made.timings([1.0] * 20 + [1 + size] * 2, between=between, within=0.03)
        history = SeriesHistory(before.key, (*before.points, *after.points[20:]))
        found += judge([history])[0].outcome is Outcome.REGRESSION
    assert found >= 34


def test_a_change_of_the_published_size_is_found_within_eight_nights() -> None:
    """Each look has a chance of about a half, and more runs show more; of 40, at least 24 (60 %)."""
    made = Histories(np.random.default_rng(13))
    found = 0
    for _ in range(40):
        before = made.timings([1.0] * 20, within=0.03)
        size = judge([before])[0].mde
        after = made.timings([1.0] * 20 + [1 + size] * 8, within=0.03)
        points = (*before.points, *after.points[20:])
        told = [judge([SeriesHistory(before.key, points[:n])])[0].outcome for n in range(22, 29, 2)]
        found += Outcome.REGRESSION in told
    assert found >= 24


def test_a_lab_that_is_slower_for_some_nights_widens_the_intervals(histories: Histories) -> None:
    series = [histories.timings([1.0] * 14 + [1.12] * 2, action=f"a{i}", between=0.01) for i in range(6)]
    canaries = [histories.timings([1.0] * 14 + [1.1] * 2, action=f"c{i}", between=0.03) for i in range(3)]
    alone, informed = judge(series), judge(series, canaries=canaries)
    assert {j.outcome for j in alone} == {Outcome.REGRESSION}
    assert Outcome.REGRESSION not in {j.outcome for j in informed}
    sql = histories.counters([20.0] * 14 + [24.0] * 2)
    assert judge([sql], canaries=canaries)[0].outcome is Outcome.REGRESSION


def test_a_level_that_was_visited_twice_is_a_mode_of_the_series(histories: Histories) -> None:
    levels = [1.0] * 10 + ([1.2] * 3 + [1.0] * 5) * 2
    twice = histories.timings([*levels, 1.2, 1.2, 1.2], between=0.01)
    assert judge([until(twice, 12)])[0].outcome == Outcome.REGRESSION
    assert judge([until(twice, 20)])[0].outcome == Outcome.REGRESSION
    assert judge([twice])[0].outcome != Outcome.REGRESSION
    elsewhere = histories.timings([*levels, 1.5, 1.5, 1.5], between=0.01)
    assert judge([elsewhere])[0].outcome == Outcome.REGRESSION


def test_a_series_with_false_alarms_needs_more_nights_for_as_much(histories: Histories) -> None:
    levels = [1.0] * 10 + ([1.2] * 3 + [1.0] * 5) * 2
    elsewhere = histories.timings([*levels, *[1.1] * 8], between=0.01)
    assert judge([until(elsewhere, 27)])[0].outcome != Outcome.REGRESSION
    assert judge([elsewhere])[0].outcome == Outcome.REGRESSION


@pytest.mark.parametrize("least", [2, 3, 90])
def test_any_size_of_baseline_works(histories: Histories, least: int) -> None:
    settings = AnalysisSettings(min_baseline=least)
    series = [histories.timings([1.0] * least + [3.0] * 3, action=f"a{i}", between=0.02) for i in range(6)]
    told = judge(series, settings)
    assert {j.outcome for j in told} == {Outcome.REGRESSION}
    assert {len(j.baseline) for j in told} == {least}


def test_a_baseline_of_one_run_is_refused() -> None:
    with pytest.raises(ValueError, match="2 or more"):
        AnalysisSettings(min_baseline=1)


def test_the_level_since_a_change_is_what_its_effect_says(histories: Histories) -> None:
    history = histories.timings([0.76] * 12 + [0.88] * 4 + [0.80], between=0.01)
    found = judge([history])[0]
    assert found.outcome is Outcome.REGRESSION
    assert found.level == pytest.approx(found.baseline_location * (1 + found.effect))
    assert found.location < 0.97 * found.level


@pytest.mark.parametrize(
    ("metric", "value"), [(Metric.LEFTOVERS, 0.0), (Metric.CPU_SECONDS, 0.0), (Metric.CPU_SECONDS, 0.0004)]
)
def test_what_is_below_the_unit_of_the_verdict_is_shown_as_measured(metric: Metric, value: float) -> None:
    history = SeriesHistory(series_key("nova-api", metric), tuple(point(n, [value]) for n in range(12)))
    found = judge([history])[0]
    assert (found.baseline_location, found.level, found.location) == (value, value, value)
    assert found.effect == 0


@pytest.mark.parametrize(
    ("metric", "level"),
    [
        (Metric.CPU_SECONDS, 0.0005),
        (Metric.CPU_SECONDS, 0.003),
        (Metric.WARNINGS, 2.0),
        (Metric.ROWS_READ, 300.0),
    ],
)
def test_a_steady_counter_near_its_unit_is_unchanged_not_noisy(
    histories: Histories, metric: Metric, level: float
) -> None:
    steady = histories.counters([level] * 14, metric=metric, noise=0.02)
    found = judge([steady])[0]
    assert found.outcome is Outcome.NO_CHANGE
    assert "too small to matter" in found.reason
    assert found.high - found.low < 0.1


def test_a_counter_near_its_unit_that_is_really_noisy_is_called_so(histories: Histories) -> None:
    noisy = histories.counters([0.003] * 14, metric=Metric.CPU_SECONDS, noise=0.9)
    assert judge([noisy])[0].outcome is Outcome.TOO_NOISY
