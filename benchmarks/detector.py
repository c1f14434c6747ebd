"""perfci's detector behind the interface of a night-by-night scoring harness.

    make_detector(series, seed).night(t, runs, canary, rerun, environment) -> [(series, change night, effect)]

With re-runs it is the screening and the sequential trials (`perfci.analysis.screen`, `confirm`), without
them the passive rules of the nightly verdict (`perfci.analysis.verdict`), at a floor of 1 %. `make_passive`
has the passive rules even where re-runs are offered.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from perfci.analysis.decision import Decision
from perfci.analysis.replay import Replay
from perfci.analysis.robust import run_location
from perfci.analysis.screen import SHORT, Screen, ScreenSettings, Suspicion
from perfci.analysis.sequential_test import ConfirmSettings, Side, decide, next_side, read
from perfci.analysis.settings import AnalysisSettings
from perfci.analysis.types import Outcome, RunPoint
from perfci.results.model import Metric, SeriesKey

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Rerun = Callable[[int, int, int], list[np.ndarray]]
    Alert = tuple[int, int, float]

LOADING = 0.7
"""How much of the canaries' movement a series shares; the same for all, and shrunk towards 0."""
BAD_NIGHT = 0.035
"""A night on which the canaries are off by more than this, in logarithms, is invalid."""
REFERENCE, RECENT, FIRST = 30, 10, 20


def key(number: int, scenario: str = "scenario") -> SeriesKey:
    return SeriesKey("lab", "job", scenario, f"{number:08d}", "total", Metric.SECONDS)


class Canaries:
    """What the canaries know of the lab."""

    def __init__(self) -> None:
        self.nights: list[np.ndarray] = []

    def night(self, canary: np.ndarray) -> tuple[float, bool]:
        """Return how far the lab has moved since it began, and whether tonight is invalid."""
        self.nights.append(np.log(canary))
        reference = np.nanmedian(np.array(self.nights[:REFERENCE]), axis=0)
        recent = [float(np.nanmean(c - reference)) for c in self.nights[-RECENT:]]
        return LOADING * recent[-1], abs(recent[-1] - float(np.median(recent))) > BAD_NIGHT


class Passive:
    """The nightly verdict, told once per change."""

    def __init__(self) -> None:
        self.replay = Replay(AnalysisSettings(latency_floor=0.01))
        self.told: dict[SeriesKey, str | None] = {}
        self.canaries = Canaries()
        self.promised: list[float] = []
        """The q-values of the slow-downs that were told."""

    def night(
        self, t: int, runs: Sequence[np.ndarray | None], canary: np.ndarray, environment: str
    ) -> list[Alert]:
        def point(values: np.ndarray) -> RunPoint:
            numbers = tuple(values.tolist())
            return RunPoint(f"{t:06d}", environment, "", numbers, len(numbers), 0, valid=True)

        if self.canaries.night(canary)[1]:
            return []
        lab = {key(i, "canary"): point(canary[i : i + 1]) for i in range(len(canary))}
        points = {key(s): point(v) for s, v in enumerate(runs) if v is not None}
        alerts = []
        for series, judgement in self.replay.night(points, lab).items():
            changed = judgement.outcome in {Outcome.REGRESSION, Outcome.IMPROVEMENT}
            since = judgement.since if changed else None
            if since is not None and self.told.get(series) != since:
                alerts.append((int(series.arguments), int(since), judgement.effect or 0.0))
                if judgement.outcome is Outcome.REGRESSION:
                    self.promised.append(judgement.q_value or 0.0)
            self.told[series] = since
        return alerts


@dataclass
class Confirming:
    """Screening, then trials. `log` keeps every trial for the documentation's pictures."""

    series: int
    screening: ScreenSettings = field(default_factory=ScreenSettings)
    confirming: ConfirmSettings = field(default_factory=ConfirmSettings)
    log: list[tuple[int, Suspicion, Decision]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.screen = Screen(self.series, self.screening)
        self.canaries = Canaries()

    def night(
        self, t: int, runs: Sequence[np.ndarray | None], canary: np.ndarray, rerun: Rerun
    ) -> list[Alert]:
        moved, bad = self.canaries.night(canary)
        if bad:
            return []
        found = [None if v is None else run_location(v) for v in runs]
        values = np.array([np.nan if f is None else f.log for f in found])
        errors = np.array([np.nan if f is None else f.error for f in found])
        self.screen.add(values - moved, errors)
        if t < FIRST:
            return []
        alerts = [self._try(t, suspicion, rerun) for suspicion in self.screen.suspect(self.confirming, moved)]
        return [alert for alert in alerts if alert is not None]

    def _try(self, t: int, suspicion: Suspicion, rerun: Rerun) -> Alert | None:
        """Run a trial to its end. The old revision is some nights older than the suspected change."""
        series, trial = suspicion.series, suspicion.trial
        margin = 2 if suspicion.window <= SHORT else 4
        old = max(0, t - suspicion.window - margin)
        reading = read(trial)
        while (side := next_side(trial, reading, self.confirming)) is not None:
            trial = trial.observe(side, rerun(series, t if side is Side.NEW else old, 1)[0].tolist())
            reading = read(trial)
        if not trial.runs:
            return None
        decision = decide(trial, reading, self.confirming)
        self.log.append((t, suspicion._replace(trial=trial), decision))
        self.screen.remember(series, trial, reading)
        if decision is not Decision.DIFFERENT:
            return None
        nights = self.screen.locate(series, trial, reading.effect, t - old)
        self.screen.relevel(series, nights, math.log1p(reading.effect))
        return series, t - nights + 1, reading.effect


class Detector:
    def __init__(self, series: int, *, reruns: bool = True) -> None:
        self.passive, self.confirming, self.reruns = Passive(), Confirming(series), reruns

    def night(
        self,
        t: int,
        runs: Sequence[np.ndarray | None],
        canary: np.ndarray,
        rerun: Rerun | None,
        environment: str,
    ) -> list[Alert]:
        if rerun is None or not self.reruns:
            return self.passive.night(t, runs, canary, environment)
        return self.confirming.night(t, runs, canary, rerun)


def make_detector(series: int, seed: int) -> Detector:  # noqa: ARG001 - nothing in it is random
    return Detector(series)


def make_passive(series: int, seed: int) -> Detector:  # noqa: ARG001 - as above
    return Detector(series, reruns=False)
