"""p-values and intervals against nominal, by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from perfci.analysis.evidence import RunValue, contrast
from perfci.analysis.failures import difference_interval, exact_p_value
from perfci.analysis.multiple import q_values
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
