"""Timings and counters through the nights: one series, its baseline, and the change that is open.

A `LevelTrack` is fed run by run, oldest first, and knows at each point which runs are the baseline.
The baseline of an open change is what came before it, for as long as the change lasts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from perfci.analysis.change_shape import kind_of
from perfci.analysis.decision import Decision
from perfci.analysis.evidence import (
    Contrast,
    Evidence,
    RunValue,
    Spread,
    baseline_scale,
    contrast,
    describe,
    relative,
)
from perfci.analysis.p_calibration import FalseAlarms
from perfci.analysis.robust import median
from perfci.analysis.run_values import run_value
from perfci.analysis.types import ChangeKind
from perfci.analysis.variance import VariancePrior

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perfci.analysis.facts import OpenedChange
    from perfci.analysis.level_rule import LevelRule
    from perfci.analysis.noise import Array
    from perfci.analysis.settings import AnalysisSettings
    from perfci.analysis.types import Confirmation, RunPoint

BACK = 0.4
"""Share of a step, from the baseline, below which runs are back at it."""
MODE_VISITS = 2
"""A level that a series has visited and left so often is one of its own modes, not news."""
SUSPICION = 0.01
REMEMBERED = 20
"""Runs that a track keeps beyond its baseline."""


@dataclass(slots=True)
class OpenChange:
    """A change that was proven and is neither accepted nor gone. `after` are the runs since.

    `q_value` is that of the night on which it was found. `refuted` says that re-runs have shown it to be
    the lab's, not the code's: it is followed, and not told. `confirmed` says that re-runs have opened it,
    `doubted` that it was refuted once, and lasted so long that it is asked about again.
    """

    worse: bool
    after: list[RunValue]
    q_value: float = 1.0
    refuted: bool = False
    confirmed: bool = False
    doubted: bool = False


@dataclass(slots=True)
class PendingChange:
    """What looked like a change, until it is known whether it lasts.

    `proofs` are the smallest p-values so far, by the number of runs that spoke; `left` runs are still
    waited for. `same_code`: the same code ran before it, so it can't be the code.
    """

    proofs: dict[int, float]
    left: int
    same_code: bool


@dataclass(slots=True)
class LevelTrack:
    """State of one series in one environment."""

    rule: LevelRule
    settings: AnalysisSettings
    runs: list[RunValue] = field(default_factory=list)
    change: OpenChange | None = None
    visits: list[float] = field(default_factory=list)
    """Levels, in logarithms, of changes that went away again."""
    settled: bool = False
    """True on the night on which an improvement became the baseline."""
    pending: PendingChange | None = None
    scales: dict[int, Spread] = field(default_factory=dict)
    """Level and deviation of the first so many runs, as they are needed again the next night."""

    def value_of(self, point: RunPoint) -> RunValue | None:
        """Return a run's location, or None where nothing usable was measured."""
        return run_value(self.rule, point)

    def fork(self) -> LevelTrack:
        """Return a track that goes on from here without touching this one."""
        change, pending = self.change, self.pending
        return replace(
            self,
            runs=list(self.runs),
            change=change and replace(change, after=list(change.after)),
            visits=list(self.visits),
            pending=pending and replace(pending, proofs=dict(pending.proofs)),
            scales=dict(self.scales),
        )

    def kind(self) -> ChangeKind:
        """Return what the open change looks like."""
        if self.rule.may_be_steady:
            return ChangeKind.COUNTER
        return _kind(self._kept(), self._changed() if self.change is not None else [])

    def add(self, run: RunValue) -> None:
        """Add the latest run, and forget what is too old to be looked at."""
        (self.runs if self.change is None else self.change.after).append(run)
        if len(self.runs) > 2 * self.remembered:
            # A change that opens takes its own runs with it: what was before it must be whole then, too.
            self._replace(self.runs[-self.needed_later :])
        if self.pending is not None:
            self.pending.left -= 1

    @property
    def least_baseline(self) -> int:
        """How many runs there must be before one can be judged."""
        return self.settings.min_baseline

    @property
    def remembered(self) -> int:
        """How many runs of a baseline are ever looked at."""
        return self.settings.longest_baseline + REMEMBERED

    @property
    def needed_later(self) -> int:
        """How many of `runs` later nights can need, whatever opens then: the others may be forgotten."""
        return self.remembered + max(self.settings.windows)

    def false_alarm(self) -> Mapping[int, float]:
        """Return the proofs of what looked like a change long enough ago and was none; empty if nothing did.

        It went away by itself within as many runs as the longest window has, or began between two runs of
        the same code.
        """
        if self.pending is None or self.pending.left > 0:
            return {}
        found, self.pending = self.pending, None
        return found.proofs if self.change is None or found.same_code else {}

    def variance(self) -> tuple[float, float] | None:
        """Return the baseline's run-to-run variance and its degrees of freedom; None without a baseline."""
        latest = 1 if self.change is None else 0
        if len(self._kept(latest)) < self.settings.min_baseline:
            return None
        found = self._scale(latest)
        return found.scale**2, found.df

    def look(
        self, prior: VariancePrior, lab: float = 0.0, alarms: FalseAlarms | None = None
    ) -> Evidence | None:
        """Return what the latest runs show; None while there is no baseline.

        `lab` as in `contrast`; `alarms` is what is known of false alarms of such series.
        """
        lab = lab if self.rule.follows_lab else 0.0
        longest = max(self.settings.windows)
        if self.change is not None:
            candidates = [self._contrast(0, self.change.after[-longest:], prior, lab)]
        else:
            fitting = [k for k in self._windows() if len(self.runs) - k >= self.least_baseline]
            candidates = [self._contrast(k, self.runs[-k:], prior, lab) for k in fitting or self._first()]
        if not candidates:
            return None
        evidence = describe(
            candidates,
            self.settings,
            floor=max(self.rule.floor, self.rule.unit / math.exp(candidates[0].level)),
            needed=self.needed(),
            suspect=self._suspect(prior),
            alarms=alarms or FalseAlarms(),
            modes=self.visits if len(self.visits) >= MODE_VISITS else (),
        )
        if self.change is None and evidence.proofs:
            self.watch(evidence.window, evidence.proofs)
        return evidence

    def watch(self, window: int, proofs: Mapping[int, float]) -> None:
        """Remember what looks like a change of `window` runs, to learn later whether it was one."""
        if self.pending is None:
            first = max(len(self.runs) - window, 1)
            before, after = self.runs[first - 1].code, self.runs[first].code
            same = bool(before) and before == after
            self.pending = PendingChange({}, max(self.settings.windows), same)
        for number, p in proofs.items():
            self.pending.proofs[number] = min(p, self.pending.proofs.get(number, 1.0))

    def could_report(self, evidence: Evidence) -> bool:
        """Say whether this may be reported at all, however small its p-value is."""
        if self.change is not None or not evidence.proves or abs(evidence.effect) < evidence.reach.at(1.0):
            return False
        # A tail that has moved with all the other requests is not a change of the tail.
        if not self.rule.tail:
            return True
        start = self._start(evidence.window)
        baseline = self.runs[:start][-self.settings.longest_baseline :]
        return _kind(baseline, self.runs[start:]) is not ChangeKind.SHIFT

    def decide(self, evidence: Evidence, *, q_value: float, rejected: bool) -> None:
        """Follow the night's decision: `rejected` says that "nothing changed" was given up."""
        self.settled = False
        if self.change is None:
            if rejected:
                start = self._start(evidence.window)
                self.change = OpenChange(self.rule.is_worse(evidence.effect), self.runs[start:], q_value)
                self._replace(self.runs[:start])
        elif self._is_back(self.change):
            needed = self.needed()
            level = median([run.log for run in self._changed()[:-needed]])
            self.end(settled=False, kept=needed, visits=[*self.visits, level])
        elif self.change.refuted and not self.change.doubted:
            # No level becomes the baseline on the word of one night's re-runs alone.
            if len(self.change.after) >= self.settings.settle:
                self.doubt()
        elif (self.change.refuted and len(self.change.after) >= 2 * self.settings.settle) or (
            not self.change.worse
            and not self.change.refuted
            and len(self.change.after) >= self.settings.settle
        ):
            self.end(settled=True, kept=0, visits=[])

    def doubt(self) -> None:
        """Take back that re-runs have refuted the open change: it has lasted, so they are asked again."""
        if self.change is not None:
            self.change.refuted, self.change.doubted = False, True

    def end(self, *, settled: bool, kept: int, visits: Sequence[float]) -> None:
        """End the open change: its runs are the baseline (`settled`), or its latest `kept` are back at it."""
        if self.change is None:
            return
        after = self.change.after
        self._replace(after if settled else [*self.runs, *after[len(after) - kept :]])
        self.change, self.visits, self.settled = None, list(visits), settled
        if settled:
            self.pending = None

    def follow_opened(self, opened: OpenedChange) -> None:
        """Follow a change that a night has found before."""
        before = [run for run in opened.before if isinstance(run, RunValue)]
        after = [run for run in opened.after if isinstance(run, RunValue)]
        self.change = OpenChange(opened.worse, after, opened.q_value, confirmed=opened.confirmed)
        self._replace(before)
        if opened.confirmed:
            self.pending = None

    def follow_reruns(self, answer: Confirmation) -> None:
        """Follow what re-runs have shown of a change.

        One that they confirmed is open, however few nights show it. One that they refuted is the lab's:
        until it is gone it is no news, and once it has lasted it is the baseline.
        """
        if answer.decision is Decision.DIFFERENT:
            known = self.runs if self.change is None else [*self.runs, *self.change.after]
            after = [run for run in known if run.run_id >= answer.since]
            if after and len(known) - len(after) >= self.least_baseline:
                self.change = OpenChange(answer.worse, after, confirmed=True)
                self.pending = None
                self._replace(known[: len(known) - len(after)])
        elif answer.decision is Decision.SAME and self.change is not None:
            self.change.refuted = True

    def movement(self) -> float:
        """Return how far the latest two runs are certainly off the baseline, in logarithms; 0 if unknown."""
        if len(self.runs) < self.settings.min_baseline + self.rule.least_runs:
            return 0.0
        latest = self.rule.least_runs
        found = self._contrast(latest, self.runs[-latest:], VariancePrior())
        return max(abs(found.agreed) - found.error, 0.0)

    def restart(self, latest: int) -> None:
        """Forget all but the latest runs: the lab has changed under the series."""
        known = self.runs if self.change is None else [*self.runs, *self.change.after]
        self._replace(known[len(known) - latest :])
        self.change = self.pending = None
        self.visits = []

    def forget(self, since: str) -> None:
        """Forget the runs from a run on: another track accounts for them."""
        self._replace([run for run in self.runs if run.run_id < since])
        self.change = self.pending = None

    def _kept(self, latest: int = 0) -> list[RunValue]:
        """Return the baseline without the latest runs."""
        return self.runs[: len(self.runs) - latest][-self.settings.longest_baseline :]

    def _changed(self) -> list[RunValue]:
        """Return the latest runs of the open change."""
        return [] if self.change is None else self.change.after[-self.settings.longest_baseline :]

    def _steady(self) -> bool:
        latest = 1 if self.change is None else 0
        if not self.rule.may_be_steady or len(self._kept(latest)) < self.settings.min_baseline:
            return False
        return self._scale(latest).scale <= self.settings.steady_scale

    def _first(self) -> tuple[int, ...]:
        """Return the window of the first run after a young baseline, which can't prove yet."""
        return (1,) if len(self.runs) > self.settings.min_baseline else ()

    def needed(self) -> int:
        """Return how many runs may prove a change, or its end."""
        return 1 if self._steady() else self.rule.least_runs

    def _windows(self) -> tuple[int, ...]:
        return (1, *self.settings.windows) if self._steady() else self.settings.windows

    def _suspect(self, prior: VariancePrior) -> bool:
        """Say whether the latest run alone stands out from all before it."""
        if self.change is not None:
            return False
        alone = self._contrast(1, self.runs[-1:], prior)
        return alone.p_value <= SUSPICION and abs(relative(alone.difference)) >= self.rule.floor

    def _start(self, window: int) -> int:
        """Return the index of the first changed run: where the contrast near the window is largest."""
        least = min(window, self.needed())
        longest = min(max(self.settings.windows) + window, len(self.runs) - self.settings.min_baseline)
        logs = np.array([run.log for run in self._kept()])
        sizes = range(least, max(min(longest, logs.size - 1), least) + 1)
        gains = [
            abs(logs[-k:].mean() - np.median(logs[:-k])) * np.sqrt(k * (1 - k / logs.size)) for k in sizes
        ]
        return len(self.runs) - sizes[int(np.argmax(gains))]

    def _is_back(self, change: OpenChange) -> bool:
        """Say whether the latest runs are clearly nearer to the baseline than to the changed level.

        Their mean decides, each run counting at most half a step beyond either level. One run at each
        level is not back.
        """
        needed = self.needed()
        if len(change.after) <= needed:
            return False
        shares, worse = self._shares(change, needed)
        return worse != change.worse or bool(np.clip(shares, -0.5, 1.5).mean() < BACK)

    def seems_back(self) -> bool:
        """Say whether the latest run alone is back at the baseline, while the change counts as open."""
        if self.change is None or len(self.change.after) < 2:  # noqa: PLR2004
            return False
        return bool(self._shares(self.change, 1)[0][0] < BACK)

    def _shares(self, change: OpenChange, latest: int) -> tuple[Array, bool]:
        """Return how far the latest runs are off the baseline, in steps of the changed runs before them.

        And whether those went to the worse. A step of nothing is one that is over.
        """
        level = self._scale(0).level
        changed = change.after[:-latest][-self.settings.longest_baseline :]
        step = float(np.median([run.log for run in changed])) - level
        away = np.array([run.log - level for run in change.after[-latest:]])
        return (away / step if step else np.zeros(latest)), self.rule.is_worse(step)

    def _replace(self, runs: list[RunValue]) -> None:
        self.runs, self.scales = runs, {}

    def _scale(self, latest: int) -> Spread:
        """Return level and deviation of the baseline without the latest runs."""
        number = len(self.runs) - latest
        if number not in self.scales:
            self.scales[number] = baseline_scale(self._kept(latest), self.rule.scale_floor)
        return self.scales[number]

    def _contrast(
        self, number: int, latest: list[RunValue], prior: VariancePrior, lab: float = 0.0
    ) -> Contrast:
        """Hold runs against the baseline without the `number` latest runs."""
        return contrast(
            self._kept(number),
            latest,
            scale_floor=self.rule.scale_floor,
            wander=self.settings.wander,
            prior=prior,
            lab=lab,
            known=self._scale(number),
        )


def _kind(before: list[RunValue], after: list[RunValue]) -> ChangeKind:
    return kind_of([run.shape for run in before], [run.shape for run in after])
