"""What would have been found? Steps are put into the lab's own history, and its nights are judged again.

A trial puts a step into one series in ten from one night on, with all other series as they were, and judges
the nights after it with the rules of the nightly verdict alone: nothing is run again here. So a series that
re-runs would have confirmed on its first night counts as found a night later, or not at all. Changes that
the history itself has are neither put in nor taken out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from perfci.analysis.facts import TrackKey
from perfci.analysis.level_track import LevelTrack
from perfci.analysis.replay import Replay
from perfci.analysis.types import Outcome
from perfci.analysis.verdict import by_night
from perfci.results.model import Metric

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perfci.analysis.settings import AnalysisSettings
    from perfci.analysis.types import RunPoint, SeriesHistory
    from perfci.results.model import SeriesKey

GROUPS = 10
DATES = 12
REACH = 10
"""Nights after a step on which it may still be found."""
NEAR = 2
"""Runs by which the first run of a change may be missed."""
SEED = 5


@dataclass(frozen=True, slots=True)
class StepSize:
    """A step: `relative` (0.05 is 5 % more), or `seconds` more, which only timings can have."""

    relative: float | None = None
    seconds: float | None = None

    def outcome(self, metric: Metric) -> Outcome:
        """Return what it makes of a series of this metric."""
        rises = (self.relative or 0.0) + (self.seconds or 0.0) > 0
        return Outcome.REGRESSION if rises != metric.higher_is_better else Outcome.IMPROVEMENT

    def fits(self, metric: Metric) -> bool:
        """Whether a series of this metric can have such a step."""
        return metric is Metric.SECONDS or (self.seconds is None and metric is not Metric.FAILURE_RATE)

    def applied(self, point: RunPoint) -> RunPoint:
        """Return a run with the step in it."""
        if self.relative is not None:
            return replace(point, values=tuple(value * (1 + self.relative) for value in point.values))
        more = self.seconds or 0.0
        return replace(point, values=tuple(max(value + more, 0.0) for value in point.values))


@dataclass(frozen=True, slots=True)
class InjectedStep:
    """A step from night number `night` on, into every tenth series beginning with number `group`."""

    night: int
    group: int


@dataclass(slots=True)
class Found:
    """How often steps in one series were tried and found, and on which night after each (the first is 1)."""

    key: SeriesKey
    trials: int = 0
    nights: list[int] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Share of the steps that was found."""
        return len(self.nights) / self.trials

    @property
    def median_nights(self) -> float | None:
        """Nights until half of those that were found were found; None where none was."""
        return float(median(self.nights)) if self.nights else None


@dataclass(slots=True)
class WhatIf:
    """The trials on one lab's history; `start` first, then `run` for some or all of `trials`."""

    histories: Sequence[SeriesHistory]
    canaries: Sequence[SeriesHistory]
    settings: AnalysisSettings
    accepted: Mapping[SeriesKey, str]
    step: StepSize
    alerts: int = 0
    """Regressions that were told of in the untouched history, real ones included."""
    judged: int = 0
    """Nights of series of the untouched history that were judged."""
    found: dict[SeriesKey, Found] = field(default_factory=dict)
    _ids: list[str] = field(default_factory=list)
    _nights: dict[str, dict[SeriesKey, RunPoint]] = field(default_factory=dict)
    _lab: dict[str, dict[SeriesKey, RunPoint]] = field(default_factory=dict)
    _before: dict[int, Replay] = field(default_factory=dict)

    def start(self) -> tuple[InjectedStep, ...]:
        """Judge the untouched history, and return all trials, in an order of which any part is fair."""
        self._nights = by_night(self.histories, self.accepted)
        self._lab = by_night(self.canaries, {}, valid=False)
        self._ids = sorted(self._nights)
        first, last = self.settings.min_baseline + NEAR, len(self._ids) - max(NEAR, 1)
        dates = sorted({int(n) for n in np.linspace(first, last - 1, DATES)}) if last > first else []
        replay, told = Replay(self.settings), set()
        for number, run_id in enumerate(self._ids):
            if number in dates:
                self._before[number] = replay.fork()
            answers = replay.night(self._nights[run_id], self._lab.get(run_id))
            self.judged += len(answers)
            told |= {(key, one.since) for key, one in answers.items() if one.outcome is Outcome.REGRESSION}
        self.alerts = len(told)
        trials = [
            InjectedStep(night, group) for night in dates for group in range(min(GROUPS, len(self._keys())))
        ]
        order = np.random.default_rng(SEED).permutation(len(trials))
        return tuple(trials[i] for i in order)

    def run(self, trial: InjectedStep) -> None:
        """Put steps in and note which of them are found."""
        before = self._before[trial.night]
        changed = {key for key in self._keys()[trial.group :: GROUPS] if self._is_quiet(before, key, trial)}
        for key in changed:
            self.found.setdefault(key, Found(key)).trials += 1
        replay, missing = before.fork(), set(changed)
        earliest = self._ids[max(trial.night - NEAR, 0)]
        for number, run_id in enumerate(self._ids[trial.night : trial.night + REACH], start=1):
            points = {
                key: self.step.applied(point) if key in changed else point
                for key, point in self._nights[run_id].items()
            }
            answers = replay.night(points, self._lab.get(run_id))
            for key in sorted(missing & answers.keys()):
                answer = answers[key]
                wanted = self.step.outcome(key.metric)
                if answer.outcome is wanted and answer.since is not None and answer.since >= earliest:
                    self.found[key].nights.append(number)
                    missing.discard(key)
            if not missing:
                break

    def _keys(self) -> list[SeriesKey]:
        return sorted(h.key for h in self.histories if self.step.fits(h.key.metric))

    def _is_quiet(self, before: Replay, key: SeriesKey, trial: InjectedStep) -> bool:
        """Say whether a series has a baseline, no open change, and a run on the night of the step."""
        point = self._nights[self._ids[trial.night]].get(key)
        if point is None:
            return False
        track = before.tracks.get(TrackKey(key, point.environment, tail=False))
        if not isinstance(track, LevelTrack) or track.change is not None:
            return False
        return len(track.runs) >= self.settings.min_baseline
