from __future__ import annotations

import numpy as np
import pytest

from perfci.analysis.quantiles import LEAST, quantiles

DECILES = tuple(n / 10 for n in range(1, 10))


def test_quantiles_of_many_values_are_those_of_their_distribution():
    values = np.random.default_rng(1).permutation(np.arange(1, 2001) / 2001)
    estimates, errors = quantiles(values, DECILES)
    assert estimates == pytest.approx(DECILES, abs=2e-3)
    assert (np.diff(estimates) > 0).all()
    assert (errors > 0).all()


def test_runs_of_one_length_are_estimated_together():
    chance = np.random.default_rng(2)
    values = chance.lognormal(0, 0.2, size=(5, 30))
    together = quantiles(values, DECILES)
    for n in range(5):
        alone = quantiles(values[n], DECILES)
        assert together[0][n] == pytest.approx(alone[0])
        assert together[1][n] == pytest.approx(alone[1])


def test_extremes_have_no_error_and_few_values_none_at_all():
    estimates, errors = quantiles([3.0, 1.0, 2.0] * 4, (0.0, 0.5, 1.0))
    assert estimates.tolist() == [1.0, pytest.approx(2.0), 3.0]
    assert np.isnan(errors).tolist() == [True, False, True]
    assert np.isnan(quantiles(range(LEAST - 1), (0.5,))[1]).all()


def test_values_that_are_all_the_same_have_no_spread():
    estimates, errors = quantiles([0.7] * 30, DECILES)
    assert estimates == pytest.approx([0.7] * 9)
    assert errors == pytest.approx([0.0] * 9, abs=1e-12)


def test_shifts_of_unchanged_code_are_within_their_interval_as_often_as_they_say():
    # Independent iterations: the errors are widened for correlated ones, so more than 95 % are.
    chance = np.random.default_rng(3)
    old, new = (quantiles(chance.lognormal(0, 0.2, size=(2000, 30)), DECILES) for _ in range(2))
    inside = np.abs(new[0] - old[0]) < 1.96 * np.hypot(old[1], new[1])
    assert (inside.mean(axis=0)[1:-1] > 0.95).all()
    assert (inside.mean(axis=0) > 0.93).all()
    assert inside.mean() < 0.999


def test_a_real_shift_is_outside_its_interval():
    chance = np.random.default_rng(4)
    old = quantiles(chance.lognormal(0, 0.1, size=(200, 60)), (0.5,))
    new = quantiles(1.2 * chance.lognormal(0, 0.1, size=(200, 60)), (0.5,))
    assert ((new[0] - old[0]) > 1.96 * np.hypot(old[1], new[1])).mean() > 0.95
