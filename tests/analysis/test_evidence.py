"""p-values and intervals against nominal, by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from perfci.analysis.evidence import RunValue, contrast
from perfci.analysis.failures import critical_failures, difference_interval, exact_p_value, wilson
from perfci.analysis.false_discovery import q_values, threshold
from perfci.analysis.p_calibration import FalseAlarms
from perfci.analysis.robust import run_location
from perfci.analysis.variance import VariancePrior, fit_prior, variance_levels

REPEATS = 600


def noise(kind: str, rng: np.random.Generator, n: int) -> np.ndarray:
    if kind == "normal":
        return rng.normal(0, 0.03, n)
    if kind == "heavy":
        return 0.03 * rng.standard_t(4, n)
    wander = np.zeros(n)
    for t in range(1, n):
        wander[t] = 0.85 * wander[t - 1] + rng.normal(0, 0.01 * np.sqrt(1 - 0.85**2))
    return wander + rng.normal(0, 0.03, n)


@pytest.mark.parametrize("kind", ["normal", "heavy", "wandering"])
@pytest.mark.parametrize("window", [2, 3, 5])
def test_p_values_and_intervals_keep_their_level(kind: str, window: int) -> None:
    """At most 5 % of p-values below 5 %, and at least 95 % of intervals over the truth, with 3 sigma of room."""
    rng = np.random.default_rng(window)
    small = covered = 0
    for _ in range(REPEATS):
        runs = [RunValue(str(i), float(x), 0.0) for i, x in enumerate(noise(kind, rng, 12 + window))]
        found = contrast(runs[:12], runs[12:], scale_floor=0.002, wander=0.2, prior=VariancePrior())
        small += found.p_value < 0.05
        covered += abs(found.difference) <= found.half_width(0.95)
    room = 3 * np.sqrt(0.05 * 0.95 * REPEATS)
    assert small <= 0.05 * REPEATS + room
    assert covered >= 0.95 * REPEATS - room


@pytest.mark.parametrize("between", [0.0, 0.5, 1.0, 2.0, 4.0])
def test_p_values_keep_their_level_where_the_iterations_rule_the_noise(between: float) -> None:
    """Runs that differ by less than their iterations leave open are no proof that they always will."""
    rng = np.random.default_rng(13)
    within, small = 0.03, 0
    for _ in range(4 * REPEATS):
        logs = rng.normal(0, within * np.hypot(1, between), 10)
        runs = [RunValue(str(i), float(x), within) for i, x in enumerate(logs)]
        found = contrast(runs[:8], runs[8:], scale_floor=0.002, wander=0.0, prior=VariancePrior())
        small += found.p_value < 0.01
    assert small <= 0.01 * 4 * REPEATS + 3 * np.sqrt(0.01 * 0.99 * 4 * REPEATS)


def test_moderation_by_other_series_is_calibrated_and_sharper() -> None:
    """100 series with 8 runs each: the prior of equal variances gives p-values at level and many more degrees."""
    rng = np.random.default_rng(1)
    runs = rng.normal(0, 0.05, (400, 10))
    prior = fit_prior(runs[:, :8].var(axis=1, ddof=1), np.full(400, 7.0))
    assert prior.df > 15
    assert prior.variance == pytest.approx(0.05**2, rel=0.1)
    found = []
    for row in runs:
        values = [RunValue(str(i), float(x), 0.0) for i, x in enumerate(row)]
        found.append(contrast(values[:8], values[8:], scale_floor=0.0, wander=0.0, prior=prior).p_value)
    assert np.mean(np.array(found) < 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def test_a_prior_of_wildly_different_series_counts_for_little() -> None:
    rng = np.random.default_rng(2)
    variances = np.exp(rng.normal(0, 3, 200))
    assert fit_prior(variances, np.full(200, 7.0)).df < 2


def test_fishers_exact_test_keeps_its_level() -> None:
    rng = np.random.default_rng(3)
    p = [
        exact_p_value(int(rng.binomial(40, 0.05)), 40, int(rng.binomial(320, 0.05)), 320)
        for _ in range(REPEATS)
    ]
    assert np.mean(np.array(p) < 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / REPEATS)


def test_intervals_of_failure_rates_cover() -> None:
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(REPEATS):
        now, before = int(rng.binomial(40, 0.3)), int(rng.binomial(320, 0.05))
        low, high = difference_interval((now, 40), (before, 320), 0.95)
        covered += low <= 0.25 <= high
    assert covered >= 0.95 * REPEATS - 3 * np.sqrt(0.05 * 0.95 * REPEATS)


def test_intervals_of_a_single_rate_cover() -> None:
    rng = np.random.default_rng(12)
    for rate in (0.02, 0.1, 0.5):
        counts = rng.binomial(60, rate, REPEATS)
        covered = sum(low <= rate <= high for low, high in (wilson(int(c), 60, 0.95) for c in counts))
        assert covered >= 0.94 * REPEATS - 3 * np.sqrt(0.05 * 0.95 * REPEATS)


def test_the_fewest_failures_that_prove_are_those_of_the_definition() -> None:
    for before in ((0, 320), (5, 320), (100, 320), (320, 320)):
        for alpha in (0.05, 1e-4, 1e-12, 1e-60):
            rate = before[0] / before[1]
            enough = [c for c in range(41) if c / 40 > rate and exact_p_value(c, 40, *before) <= alpha]
            assert critical_failures(40, before, alpha) == (min(enough) if enough else None)


def test_q_values_are_those_of_scipy_and_control_the_share_of_false_ones() -> None:
    rng = np.random.default_rng(5)
    share = []
    for _ in range(100):
        z = np.concatenate([rng.normal(size=180), rng.normal(4, 1, size=20)])
        p = 2 * stats.norm.sf(np.abs(z))
        q = q_values(p)
        np.testing.assert_allclose(q, stats.false_discovery_control(p))
        reported = q <= 0.1
        share.append(reported[:180].sum() / max(reported.sum(), 1))
    assert np.mean(share) <= 0.1 * 1.1


def test_false_discoveries_stay_rare_over_many_nights_of_many_series() -> None:
    """Thirty nights with a tenth of real changes on some: false ones as a share of the month's discoveries.

    The p-values of a night are positively dependent: half of their noise is the lab's.
    """
    rng = np.random.default_rng(8)
    shares, naive = [], []
    for _ in range(40):
        found: list[tuple[int, int]] = []
        nightly = [0, 0]
        for night in range(30):
            real = np.zeros(100, dtype=bool)
            real[:10] = night % 10 == 5
            z = np.sqrt(0.5) * rng.normal() + np.sqrt(0.5) * rng.normal(size=100) + 5.0 * real
            p = stats.norm.sf(z)
            reported = q_values(p, before=sum(n for n, _ in found), nights=30) <= 0.1
            found.append((int(reported.sum()), int((reported & ~real).sum())))
            alone = q_values(p) <= 0.1
            nightly = [nightly[0] + int(alone.sum()), nightly[1] + int((alone & ~real).sum())]
        total, false = (sum(column) for column in zip(*found, strict=True))
        shares.append(false / max(total, 1))
        naive.append(nightly[1] / max(nightly[0], 1))
    assert np.mean(shares) <= 0.1
    assert np.mean(naive) > 0.1, "night by night is not enough"


def test_a_month_without_a_change_is_silent_in_nineteen_of_twenty() -> None:
    rng = np.random.default_rng(9)
    months = [rng.random((30, 200)) for _ in range(200)]
    loud = sum(any((q_values(p, nights=30) <= 0.05).any() for p in month) for month in months)
    assert loud <= 10 + 3 * np.sqrt(200 * 0.05 * 0.95)


def test_the_threshold_is_the_p_value_up_to_which_is_reported() -> None:
    rng = np.random.default_rng(10)
    p = np.concatenate([rng.random(190), 1e-5 * rng.random(10)])
    reported = q_values(p, before=3, nights=30) <= 0.05
    limit = threshold(0.05, found=int(reported.sum()), tests=200, before=3, nights=30)
    assert (reported == (p <= limit)).all()


def test_a_p_value_is_corrected_by_the_labs_own_false_alarms() -> None:
    """A lab in which two nights in a thousand look like a proof: calibrated, they do so as often as they say."""
    rng = np.random.default_rng(11)
    alarms, below = FalseAlarms(), []
    for night in range(400):
        bad = rng.random(100) < 0.002
        p = np.where(bad, 10.0 ** rng.uniform(-12, -6, 100), rng.random(100))
        if night >= 100:
            below += [alarms.calibrated(2, float(one)) for one in p]
        alarms.night(100)
        for one in p[bad]:
            alarms.note({2: float(one)})
    calibrated = np.array(below)
    for level in (1e-3, 3e-3, 1e-2):
        expected = level * calibrated.size
        assert (calibrated <= level).sum() <= 1.2 * expected + 3 * np.sqrt(expected)
    assert alarms.calibrated(3, 1e-9) == 1e-9, "another number of nights has its own false alarms"


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(1e-300, 1e-2), max_size=6),
    st.floats(0, 1e5),
    st.floats(1e-12, 0.01),
    st.floats(1e-300, 1),
)
def test_what_is_needed_is_what_calibrates_to_the_target(
    seen: list[float], judged: float, target: float, p: float
) -> None:
    alarms = FalseAlarms(judged)
    for one in seen:
        alarms.note({2: one})
    needed = alarms.needed(2, target)
    if needed > 0:
        assert alarms.calibrated(2, needed) <= target * (1 + 1e-9)
    if p > needed * (1 + 1e-9):
        assert alarms.calibrated(2, p) > target * (1 - 1e-9)
    assert alarms.calibrated(2, p) >= p


def test_a_runs_standard_error_is_honest_for_correlated_iterations() -> None:
    rng = np.random.default_rng(6)
    locations, errors = [], []
    for _ in range(REPEATS):
        x = np.zeros(50)
        for i in range(1, 50):
            x[i] = 0.25 * x[i - 1] + rng.normal(0, 0.2)
        found = run_location(np.exp(x).tolist())
        assert found is not None
        locations.append(found.log)
        errors.append(found.error)
    assert np.std(locations) == pytest.approx(np.mean(errors), rel=0.15)


def test_the_three_levels_are_told_apart() -> None:
    rng = np.random.default_rng(7)
    deployments = []
    for _ in range(400):
        level = rng.normal(0, 0.03)
        deployments.append([(level + rng.normal(0, 0.02) + rng.normal(0, 0.01), 0.01) for _ in range(4)])
    found = variance_levels(deployments)
    assert found.deployment**0.5 == pytest.approx(0.03, rel=0.1)
    assert found.run**0.5 == pytest.approx(0.02, rel=0.1)
    assert found.of_mean(4, 2) == pytest.approx((found.deployment + (found.run + found.within) / 2) / 4)
    assert found.best_runs(1, 1) == 1
    assert found.best_runs(150, 1) == 9
