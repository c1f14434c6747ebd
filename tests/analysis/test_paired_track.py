"""Ratios to a reference: nights simulated as log ratios of pairs, judged as all series are."""

from __future__ import annotations

import math

import numpy as np
import pytest

from perfci.analysis.pairs import DRAW_DEVIATION
from perfci.analysis.settings import AnalysisSettings
from perfci.analysis.types import Outcome, RunPoint, SeriesHistory
from perfci.analysis.verdict import judge
from perfci.results.model import Metric, SeriesKey

PAIRS, PAIR = 40, 0.08
WORSE = Outcome.REGRESSION


def key(number: int = 0) -> SeriesKey:
    return SeriesKey("lab", "job", f"Scenario.{number}", "a", "total", Metric.RATIO)


def ratios(rng: np.random.Generator, step: float, *, luck: float = DRAW_DEVIATION) -> tuple[float, ...]:
    """Return the ratios of one night's pairs, with the luck of its draw."""
    return tuple(np.exp(step + rng.normal(0, luck) + rng.normal(0, PAIR, PAIRS)).tolist())


def history(nights: list[tuple[float, ...]], number: int = 0, reference: str = "r") -> SeriesHistory:
    points = [
        RunPoint(f"202611{at + 1:02}T000000Z-job-0000", f"e, beside {reference}", f"c{at}", values, PAIRS, 0, valid=True)
        for at, values in enumerate(nights)
    ]  # fmt: skip
    return SeriesHistory(key(number), tuple(points))


def outcomes(steps: list[float], *, series: int, seed: int) -> list[Outcome]:
    """Return the verdicts of the last of some nights over many series with the same steps."""
    rng = np.random.default_rng(seed)
    found = judge([history([ratios(rng, step) for step in steps], number) for number in range(series)])
    return [one.outcome for one in found]


def test_the_first_night_has_a_verdict_and_an_mde() -> None:
    (found,) = judge([history([ratios(np.random.default_rng(1), 0.0)])])
    assert found.outcome is Outcome.NO_CHANGE
    assert found.baseline == ()
    assert found.baseline_location == 1.0
    assert 0.03 < found.mde < 0.15
    assert found.low < 0 < found.high


def test_a_doubled_time_is_proven_by_the_first_night() -> None:
    (found,) = judge([history([ratios(np.random.default_rng(2), math.log(2))])])
    assert found.outcome is WORSE
    assert found.effect == pytest.approx(1.0, abs=0.1)
    assert found.since == found.run_id


def test_unchanged_code_is_silent_over_many_series_and_nights() -> None:
    rng = np.random.default_rng(3)
    nights = [[ratios(rng, 0.0) for _ in range(20)] for _ in range(60)]
    for last in (1, 2, 5, 12, 20):
        found = judge([history(one[:last], number) for number, one in enumerate(nights)])
        assert not [one for one in found if one.outcome in {WORSE, Outcome.IMPROVEMENT}]
        assert sum(one.suspect for one in found) <= 9  # of 60; 6 % and what chance adds


def test_a_step_is_worth_a_draw_more_in_its_first_night() -> None:
    rng = np.random.default_rng(4)
    steps = [0.0] * 10 + [math.log(1.07)]
    found = judge([history([ratios(rng, step) for step in steps], number) for number in range(60)])
    seen = [one.suspect or one.outcome is WORSE for one in found]
    assert np.mean(seen) > 0.85


def test_a_step_that_stays_is_proven_within_three_nights_and_over_with_its_first_good_one() -> None:
    steps = [0.0] * 8 + [math.log(1.1)] * 3
    assert np.mean([one is WORSE for one in outcomes(steps, series=40, seed=5)]) > 0.95
    clear = [0.0] * 8 + [math.log(1.2)] * 3 + [0.0]
    assert np.mean([one is Outcome.NO_CHANGE for one in outcomes(clear, series=40, seed=6)]) > 0.95


def test_one_night_at_the_reference_does_not_end_a_small_change() -> None:
    """Half of a small step is within the luck of one draw."""
    rng = np.random.default_rng(7)
    nights = [ratios(rng, 0.0, luck=0.0) for _ in range(8)]
    nights += [ratios(rng, math.log(1.07), luck=0.0) for _ in range(8)]
    assert judge([history(nights)])[0].outcome is WORSE
    assert judge([history([*nights, ratios(rng, 0.0, luck=0.0)])])[0].outcome is WORSE
    over = judge([history([*nights, *(ratios(rng, 0.0, luck=0.0) for _ in range(2))])])
    assert over[0].outcome is Outcome.NO_CHANGE


def test_swapping_the_sides_turns_every_answer() -> None:
    rng = np.random.default_rng(8)
    for step in (0.0, 0.1, 0.5):
        nights = [ratios(rng, 0.0) for _ in range(6)] + [ratios(rng, step) for _ in range(3)]
        (one,) = judge([history(nights)])
        (other,) = judge([history([tuple(1 / value for value in night) for night in nights])])
        turned = {WORSE: Outcome.IMPROVEMENT, Outcome.IMPROVEMENT: WORSE}
        assert other.outcome is turned.get(one.outcome, one.outcome)
        assert math.log1p(other.effect) == pytest.approx(-math.log1p(one.effect))


def test_draws_that_scatter_more_than_is_known_prove_less() -> None:
    rng = np.random.default_rng(9)
    wild = [ratios(rng, 0.0, luck=0.05) for _ in range(12)]
    (calm,) = judge([history([ratios(rng, 0.0) for _ in range(12)])])
    (wide,) = judge([history(wild)])
    assert wide.mde > 1.5 * calm.mde


def test_another_reference_is_another_series() -> None:
    rng = np.random.default_rng(10)
    steps = [0.0] * 8 + [math.log(1.3)] * 2
    before = history([ratios(rng, step) for step in steps])
    after = history([ratios(rng, 0.0) for _ in range(11)], reference="s").points[-1:]
    (found,) = judge([SeriesHistory(before.key, (*before.points, *after))])
    assert found.outcome is Outcome.NO_CHANGE
    assert found.baseline == ()


def test_a_night_with_too_few_pairs_says_nothing() -> None:
    rng = np.random.default_rng(11)
    (found,) = judge([history([ratios(rng, 0.0)[:7]])])
    assert found.outcome is Outcome.NO_DATA


def test_the_floor_is_the_jobs() -> None:
    rng = np.random.default_rng(12)
    steps = [0.0] * 10 + [math.log(1.04)] * 8
    nights = [ratios(rng, step, luck=0.0) for step in steps]
    assert judge([history(nights)])[0].outcome is Outcome.NO_CHANGE
    lower = AnalysisSettings(latency_floor=0.02)
    assert judge([history(nights)], lower)[0].outcome is WORSE
