"""Pairs: coverage and error rates by simulation against nominal, and what must not matter."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from perfci.analysis.decision import Decision
from perfci.analysis.pair_decision import PairSettings, decide_draws, decide_pairs, smallest_proven
from perfci.analysis.pairs import DRAW_DEVIATION, LEAST_PAIRS, combined, draw_effect, paired_effect

if TYPE_CHECKING:
    from collections.abc import Callable

    Noise = Callable[[np.random.Generator, int], np.ndarray]

PAIR = 0.1
"""Standard deviation of single pairs here; on real clouds 10 to 20 %."""


def white(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.normal(0, PAIR, n)


def correlated(rng: np.random.Generator, n: int) -> np.ndarray:
    values, steps = np.empty(n), rng.normal(0, PAIR * math.sqrt(1 - 0.4**2), n)
    values[0] = rng.normal(0, PAIR)
    for at in range(1, n):
        values[at] = 0.4 * values[at - 1] + steps[at]
    return values


def spikes(rng: np.random.Generator, n: int) -> np.ndarray:
    either = rng.choice([-1, 1], n) * (rng.random(n) < 0.1)
    return white(rng, n) + either * rng.exponential(1.5, n)


def second_mode(rng: np.random.Generator, n: int) -> np.ndarray:
    return white(rng, n) + 0.3 * (rng.random(n) < 0.2) - 0.3 * (rng.random(n) < 0.2)


def drift(rng: np.random.Generator, n: int) -> np.ndarray:
    return white(rng, n) + np.linspace(-0.1, 0.1, n) * rng.choice([-1, 1])


NOISES = [white, correlated, spikes, second_mode, drift]
noises = pytest.mark.parametrize("noise", NOISES, ids=lambda one: one.__name__)


@noises
@pytest.mark.parametrize("n", [20, 60])
def test_the_interval_of_one_draw_covers_as_often_as_it_says(noise: Noise, n: int) -> None:
    rng = np.random.default_rng(n)
    found = [draw_effect(noise(rng, n)) for _ in range(1500)]
    covered = [abs(one.log) <= stats.t.ppf(0.975, one.df) * one.error for one in found if one]
    # Three deviations of 1500 trials are 1.7 points; strong correlation in 20 pairs costs two more.
    assert np.mean(covered) >= (0.91 if noise is correlated and n == 20 else 0.93)


@noises
@pytest.mark.parametrize("draws", [1, 3, 8])
def test_the_interval_over_draws_covers_the_truth(noise: Noise, draws: int) -> None:
    rng = np.random.default_rng(draws)
    covered = 0
    for _ in range(400):
        pairs = [noise(rng, 40) + 0.04 + rng.normal(0, DRAW_DEVIATION) for _ in range(draws)]
        found = paired_effect(pairs)
        low, high = found.interval()
        covered += low <= 0.04 <= high
    assert covered / 400 >= 0.92


def test_one_draw_alone_can_not_be_surer_than_draws_differ() -> None:
    found = paired_effect([np.zeros(10_000)])
    assert found.error >= DRAW_DEVIATION


def test_the_variances_are_told_apart() -> None:
    rng = np.random.default_rng(5)
    pairs = [white(rng, 40) + rng.normal(0, 0.05) for _ in range(60)]
    found = paired_effect(pairs)
    assert found.between**0.5 == pytest.approx(0.05, rel=0.25)
    midmean_of_normals = 1.09 * PAIR / math.sqrt(40)
    assert found.within**0.5 == pytest.approx(midmean_of_normals, rel=0.15)


def test_draws_that_happen_to_agree_prove_nothing() -> None:
    rng = np.random.default_rng(6)
    found = paired_effect([white(rng, 400) for _ in range(3)])
    assert found.between >= DRAW_DEVIATION**2


def test_too_few_pairs_say_nothing() -> None:
    assert draw_effect([0.1] * (LEAST_PAIRS - 1)) is None
    assert draw_effect([math.nan] * 30) is None
    assert paired_effect([[0.1], []]) is None
    assert decide_pairs([[0.1], []], PairSettings()) is None


def test_a_quarter_of_bad_pairs_moves_the_effect_by_less_than_their_error() -> None:
    rng = np.random.default_rng(7)
    pairs = white(rng, 40)
    harmed = pairs.copy()
    harmed[:8] += 3.0
    clean, moved = draw_effect(pairs), draw_effect(harmed)
    assert abs(moved.log - clean.log) < 2.5 * clean.error


def simulated(
    noise: Noise,
    *,
    effect: float,
    draws: int,
    trials: int,
    seed: int,
    settings: PairSettings,
    luck: float = DRAW_DEVIATION,
) -> list[set[Decision]]:
    """Return what was ever decided, looking after each draw."""
    rng = np.random.default_rng(seed)
    ever = []
    for _ in range(trials):
        found, seen = [], set()
        for _ in range(draws):
            found.append(draw_effect(noise(rng, 40) + effect + rng.normal(0, luck)))
            seen.add(decide_draws(found, settings).decision)
        ever.append(seen)
    return ever


@noises
def test_unchanged_code_is_called_different_no_more_often_than_allowed_however_often_one_looks(
    noise: Noise,
) -> None:
    ever = simulated(noise, effect=0.0, draws=12, trials=250, seed=11, settings=PairSettings(error=0.05))
    assert np.mean([Decision.DIFFERENT in seen for seen in ever]) <= 0.05


@pytest.mark.parametrize("sign", [-1, 1])
@noises
def test_a_change_at_the_limit_is_called_the_same_no_more_often_than_allowed(noise: Noise, sign: int) -> None:
    settings = PairSettings(error=0.01, same_error=0.05, within=0.03)
    ever = simulated(noise, effect=sign * math.log(1.03), draws=12, trials=250, seed=12, settings=settings)
    assert np.mean([Decision.SAME in seen for seen in ever]) <= 0.05


def test_with_twice_the_luck_assumed_the_error_is_not_twice_what_is_allowed() -> None:
    ever = simulated(
        white,
        effect=0.0,
        draws=12,
        trials=250,
        seed=13,
        settings=PairSettings(error=0.05),
        luck=2 * DRAW_DEVIATION,
    )
    assert np.mean([Decision.DIFFERENT in seen for seen in ever]) <= 0.1


def test_five_percent_is_proven_and_so_is_equivalence() -> None:
    settings = PairSettings(error=0.01)
    slower = simulated(white, effect=math.log(1.05), draws=8, trials=100, seed=14, settings=settings)
    assert np.mean([Decision.DIFFERENT in seen for seen in slower]) >= 0.95
    same = simulated(white, effect=0.0, draws=8, trials=100, seed=15, settings=settings)
    assert np.mean([Decision.SAME in seen for seen in same]) >= 0.95


def test_one_look_at_little_is_neither_different_nor_the_same() -> None:
    assert decide_pairs([white(np.random.default_rng(3), 12)], PairSettings()).decision is Decision.UNKNOWN


DIFFERENCES = st.lists(st.floats(-1, 1), min_size=LEAST_PAIRS, max_size=40)


@given(st.lists(DIFFERENCES, min_size=1, max_size=5))
def test_swapping_the_sides_turns_the_sign_and_changes_no_decision(draws: list[list[float]]) -> None:
    settings = PairSettings()
    one, other = decide_pairs(draws, settings), decide_pairs([[-v for v in d] for d in draws], settings)
    assert one.decision is other.decision
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


@given(
    st.lists(
        st.lists(
            st.tuples(st.floats(0.1, 10), st.floats(0.1, 10), st.floats(-2, 5)),
            min_size=LEAST_PAIRS,
            max_size=20,
        ),
        min_size=1,
        max_size=4,
    )
)
def test_a_delay_common_to_both_sides_makes_no_verdict(draws: list[list[tuple[float, float, float]]]) -> None:
    """What multiplies both sides of a pair, however wildly it goes up and down, cancels."""
    plain = [[math.log(new / old) for old, new, _ in pairs] for pairs in draws]
    shaken = [
        [math.log(new * math.exp(s)) - math.log(old * math.exp(s)) for old, new, s in pairs]
        for pairs in draws
    ]
    one, other = decide_pairs(plain, PairSettings()), decide_pairs(shaken, PairSettings())
    assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=1e-6)


def test_a_delay_added_to_both_sides_of_unchanged_code_makes_no_verdict() -> None:
    rng = np.random.default_rng(21)
    for _ in range(30):
        draws = []
        for _ in range(6):
            common = rng.exponential(2.0, 40) * (rng.random(40) < 0.3) + np.linspace(
                0, rng.exponential(1), 40
            )
            old, new = np.exp(white(rng, 40)), np.exp(white(rng, 40))
            draws.append(np.log((new + common) / (old + common)))
        assert decide_pairs(draws, PairSettings()).decision is not Decision.DIFFERENT


def test_the_mde_of_a_decision_is_what_simulation_proves_as_often() -> None:
    rng = np.random.default_rng(8)
    settings = PairSettings(error=0.05)
    found = [draw_effect(white(rng, 60)) for _ in range(2)]
    effect = math.log1p(smallest_proven(found, settings))
    proven = 0
    for _ in range(300):
        trial = [draw_effect(white(rng, 60) + effect + rng.normal(0, DRAW_DEVIATION)) for _ in range(2)]
        proven += decide_draws(trial, settings).decision is Decision.DIFFERENT
    assert proven / 300 >= 0.75


def test_more_draws_make_the_mde_smaller() -> None:
    rng = np.random.default_rng(9)
    found = [draw_effect(white(rng, 60)) for _ in range(6)]
    settings = PairSettings()
    proven = [smallest_proven(found[:n], settings) for n in (1, 3, 6)]
    assert proven == sorted(proven, reverse=True)
    visible = [combined(found[:n], draw_deviation=0.015, draw_df=8).smallest_visible() for n in (1, 3, 6)]
    assert visible == sorted(visible, reverse=True)


@pytest.mark.parametrize(
    ("name", "value"), [("error", 0.0), ("same_error", 1.0), ("within", 0.0), ("draw_deviation", 0.0)]
)
def test_settings_that_would_prove_anything_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        PairSettings(**{name: value})
