"""The detector as a scoring harness drives it, on a small lab of its own."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

SOURCE = Path(__file__).parent.parent.parent / "benchmarks" / "detector.py"
SERIES, NIGHTS, STEP, STEPPED = 20, 66, 60, 4


@pytest.fixture(scope="module")
def detector() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("scored_detector", SOURCE)
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]
    sys.path[:] = path


class SmallLab:
    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.reruns = 0

    def run(self, series: int, night: int) -> np.ndarray:
        level = 1.25 if series == STEPPED and night >= STEP else 1.0
        return level * np.exp(self.rng.normal(0, 0.03) + self.rng.normal(0, 0.1, 30))

    def rerun(self, series: int, night: int, runs: int) -> list[np.ndarray]:
        self.reruns += runs
        return [self.run(series, night) for _ in range(runs)]

    def night(self, night: int) -> tuple[list[np.ndarray | None], np.ndarray]:
        runs = [None if night == 7 else self.run(s, night) for s in range(SERIES)]
        return runs, np.exp(self.rng.normal(0, 0.005, 3))


@pytest.mark.parametrize("confirming", [True, False])
def test_a_step_is_found_once_and_nothing_else(detector: ModuleType, *, confirming: bool) -> None:
    lab, scored, alerts = SmallLab(1), detector.make_detector(SERIES, 0), []
    for t in range(NIGHTS):
        runs, canary = lab.night(t)
        told = scored.night(t, runs, canary, lab.rerun if confirming else None, "")
        alerts += [(t, *alert) for alert in told]
    assert [series for _, series, _, _ in alerts] == [STEPPED]
    night, _, change, effect = alerts[0]
    assert change == STEP
    assert night <= STEP + 3
    assert effect == pytest.approx(0.25, abs=0.08)
    assert (lab.reruns > 0) == confirming
    assert lab.reruns / (SERIES * NIGHTS) < 0.5


def test_a_bad_night_is_left_out(detector: ModuleType) -> None:
    """On the step's first two nights the canaries are off by a tenth: too bad to measure."""
    lab, scored, alerts = SmallLab(2), detector.make_detector(SERIES, 0), []
    for t in range(STEP + 2):
        runs, canary = lab.night(t)
        slow = 1.1 if t >= STEP else 1.0
        alerts += scored.night(t, runs, canary * slow, lab.rerun, "")
    assert alerts == []
