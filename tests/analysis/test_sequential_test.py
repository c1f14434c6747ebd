"""Sequential trials: the error they promise, what they find, what they cost."""

from __future__ import annotations

import math

import numpy as np
import pytest

from perfci.analysis.sequential_test import (
    ConfirmSettings,
    Decision,
    Side,
    Trial,
    TrialReading,
    decide,
    next_side,
    read,
    start_trial,
)

SETTINGS = ConfirmSettings(proof=20.0, odds=1.0, price=1e9, most_runs=24)


def play(
    rng: np.random.Generator,
    step: float,
    *,
    scale: float = 0.03,
    morning: float = 0.0,
    settings: ConfirmSettings = SETTINGS,
    gap: float = 0.0,
) -> tuple[Trial, TrialReading, Decision]:
    """Run a trial to its end on a lab with known truth; `gap` is a second mode in three runs of ten."""

    def run(level: float) -> list[float]:
        mode = gap * (rng.random() < 0.3)
        return [math.exp(level + mode + rng.normal(0, scale))]

    trial = start_trial([run(0.0) for _ in range(40)], odds=1.0)
    reading = read(trial)
    while (side := next_side(trial, reading, settings)) is not None:
        trial = trial.observe(side, run(morning + (math.log1p(step) if side is Side.NEW else 0.0)))
        reading = read(trial)
    return trial, reading, decide(trial, reading, settings)


@pytest.mark.parametrize(
    ("morning", "gap"), [(0.0, 0.0), (0.2, 0.0), (0.0, 0.1)], ids=["plain", "slow morning", "two modes"]
)
def test_unchanged_code_is_called_different_at_most_as_often_as_promised(morning: float, gap: float) -> None:
    """1 / proof = 5 %; 120 trials, so at most 12 (binomial, 99.5 %)."""
    rng = np.random.default_rng(1)
    decisions = [play(rng, 0.0, morning=morning, gap=gap)[2] for _ in range(120)]
    assert decisions.count(Decision.DIFFERENT) <= 12


@pytest.mark.parametrize("deploy", [0.5, 1.0])
def test_the_redeploy_variance_does_not_break_the_promise(deploy: float) -> None:
    """Nights and re-runs each have a deployment of their own, which scatters as much as runs do."""
    rng = np.random.default_rng(7)
    scale = 0.03 * math.hypot(1, deploy)
    decisions = [play(rng, 0.0, scale=scale)[2] for _ in range(120)]
    assert decisions.count(Decision.DIFFERENT) <= 12


def test_the_size_of_a_proven_step_lies_in_its_interval() -> None:
    """On a grid of sizes, so the interval may miss a size between two of them by half a step."""
    rng = np.random.default_rng(8)
    held = proven = 0
    for _ in range(60):
        size = float(rng.choice([0.1, 0.14, 0.2]))
        _, reading, decision = play(rng, size, settings=ConfirmSettings())
        if decision is Decision.DIFFERENT:
            proven += 1
            held += reading.low <= size + 1e-9 and size - 1e-9 <= reading.high
    assert proven >= 40
    assert held >= 0.85 * proven


def test_a_clear_step_is_found_with_few_runs() -> None:
    rng = np.random.default_rng(2)
    played = [play(rng, 0.2, settings=ConfirmSettings()) for _ in range(40)]
    assert all(decision is Decision.DIFFERENT for _, _, decision in played)
    assert np.mean([trial.runs for trial, _, _ in played]) < 10
    effects = [reading.effect for _, reading, _ in played]
    assert np.median(effects) == pytest.approx(0.2, abs=0.04)
    assert sum(reading.low <= 0.2 <= reading.high for _, reading, _ in played) >= 36


def test_a_slow_morning_proves_nothing_without_the_old_revision() -> None:
    trial = start_trial([[math.exp(x)] for x in np.random.default_rng(3).normal(0, 0.02, 40)])
    for _ in range(12):
        trial = trial.observe(Side.NEW, [1.3])
    reading = read(trial)
    assert reading.log_proof < math.log(ConfirmSettings().proof)
    assert next_side(trial, reading, ConfirmSettings()) is Side.OLD
    assert decide(trial, reading, ConfirmSettings()) is not Decision.DIFFERENT


def test_a_trial_that_can_not_pay_ends_at_once() -> None:
    noisy = np.exp(np.random.default_rng(4).normal(0, 0.5, (40, 1)))
    trial = start_trial(noisy.tolist(), odds=0.001)
    assert next_side(trial, read(trial), ConfirmSettings()) is None


def test_equal_runs_say_same() -> None:
    trial = start_trial([[math.exp(x)] for x in np.random.default_rng(5).normal(0, 0.01, 40)])
    for _ in range(6):
        trial = trial.observe(Side.NEW, [1.0]).observe(Side.OLD, [1.0])
    assert decide(trial, read(trial), ConfirmSettings()) is Decision.SAME


def test_a_run_without_iterations_changes_nothing() -> None:
    trial = start_trial([[1.0], [1.01], [0.99]])
    assert trial.observe(Side.NEW, []) is trial


@pytest.mark.parametrize("factor", [1e-3, 1e4])
def test_the_unit_does_not_matter(factor: float) -> None:
    rng = np.random.default_rng(6)
    base = np.exp(rng.normal(0, 0.03, 30))
    new = np.exp(rng.normal(0.1, 0.03, 5))
    readings = []
    for unit in (1.0, factor):
        trial = start_trial([[v * unit] for v in base])
        for value in new:
            trial = trial.observe(Side.NEW, [value * unit])
        readings.append(read(trial))
    assert readings[0].log_proof == pytest.approx(readings[1].log_proof, abs=1e-6)


@pytest.mark.parametrize("values", [[1.0] * 30, [1.0, 2.0] * 15, [1e-300, 1e300] * 10])
def test_strange_baselines_give_finite_answers(values: list[float]) -> None:
    trial = start_trial([[v] for v in values])
    for side in (Side.NEW, Side.OLD, Side.NEW):
        trial = trial.observe(side, [values[0]])
    assert math.isfinite(read(trial).log_proof)
