"""Screening of many series at once."""

from __future__ import annotations

import numpy as np
import pytest

from perfci.analysis.robust import level_and_scale
from perfci.analysis.screen import KEPT, SHORT, Screen, Suspicion, levels
from perfci.analysis.sequential_test import STEPS, ConfirmSettings, Side, read


def nights(rng: np.random.Generator, series: int, length: int, scale: float = 0.03) -> np.ndarray:
    return rng.normal(0, scale, (length, series))


def feed(screen: Screen, values: np.ndarray) -> list[list[Suspicion]]:
    out = []
    for night in values:
        screen.add(night, np.full(night.size, 0.001))
        out.append(screen.suspect(ConfirmSettings()))
    return out


def test_levels_are_those_of_one_series_at_a_time() -> None:
    rng = np.random.default_rng(1)
    values = nights(rng, 40, 5).T.copy().reshape(5, 40)
    values[0, 3] = 9.0
    values[1, 10:15] = np.nan
    found = levels(values)
    for row, level, scale, count in zip(values, *found, strict=True):
        present = row[np.isfinite(row)]
        assert count == present.size
        mean, deviation = level_and_scale(present.tolist())
        assert level == pytest.approx(mean, abs=1e-9)
        assert scale * (1 + 0.8 / present.size) == pytest.approx(deviation, rel=1e-9)


def test_a_step_is_suspected_on_its_first_night_and_located() -> None:
    rng = np.random.default_rng(2)
    values = nights(rng, 30, 60)
    values[55:, 7] += np.log(1.25)
    screen = Screen(30)
    told = feed(screen, values)
    assert told[55][0].series == 7
    suspicion = next(s for s in told[59] if s.series == 7)
    assert screen.locate(7, suspicion.trial, 0.25, 20) == 5


def test_few_unchanged_series_are_suspected() -> None:
    told = feed(Screen(100), nights(np.random.default_rng(3), 100, 80))
    assert sum(len(t) for t in told[20:]) / (60 * 100) < 0.2


def test_a_series_with_two_modes_does_not_surprise_by_its_second() -> None:
    rng = np.random.default_rng(4)
    values = nights(rng, 20, 70, scale=0.01)
    values[:, 3] += 0.1 * (rng.random(70) < 0.3)
    values[69, 3] = 0.1
    values[69, 5] = 0.1
    screen = Screen(20)
    feed(screen, values)
    base = screen._baselines(SHORT)
    surprise = screen._surprise(screen.nights[:, -1] - base.level, base, 1)
    assert surprise[3] < np.log(4)
    assert surprise[5] > np.log(30)


def test_an_improvement_is_followed_without_re_runs() -> None:
    values = nights(np.random.default_rng(5), 20, 60)
    values[40:, 2] -= 0.3
    screen = Screen(20)
    feed(screen, values)
    assert np.nanmedian(screen.nights[2, :KEPT]) == pytest.approx(-0.3, abs=0.03)


def test_what_re_runs_have_shown_is_not_asked_again() -> None:
    rng = np.random.default_rng(6)
    values = nights(rng, 20, 60)
    values[59, 4] += 0.15
    screen = Screen(20)
    suspicion = next(s for s in feed(screen, values)[59] if s.series == 4)
    trial = suspicion.trial
    for _ in range(5):
        trial = trial.observe(Side.NEW, [1.0]).observe(Side.OLD, [1.0])
    screen.remember(4, trial, read(trial))
    after = {s.series: s.log_odds for s in screen.suspect(ConfirmSettings())}
    assert after.get(4, -np.inf) < suspicion.log_odds - 2


def test_series_without_results_are_left_alone() -> None:
    screen = Screen(3)
    values = nights(np.random.default_rng(7), 3, 40)
    values[:, 1] = np.nan
    values[20:, 2] = np.nan
    assert {s.series for told in feed(screen, values)[30:] for s in told} <= {0}
    assert screen.known.shape == (3, STEPS.size)
