"""The nightly entry: histories in, one judgement per series out.

The nights are replayed from the oldest run to the latest, with the decisions that would have been
taken then. So everything that a verdict depends on (which runs are the baseline, which change is
open, since when) follows from the histories and from what people accepted; no state is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from perfci.analysis.failures import FailureTrack
from perfci.analysis.levels import LevelTrack, rule_of
from perfci.analysis.multiple import q_values
from perfci.analysis.settings import AnalysisSettings
from perfci.analysis.types import ChangeKind, Judgement, Outcome
from perfci.analysis.variance import VariancePrior, fit_prior
from perfci.results.model import COUNTERS, Metric

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perfci.analysis.evidence import Evidence
    from perfci.analysis.types import RunPoint, SeriesHistory
    from perfci.results.model import SeriesKey


class _Replay:
    """One series on its way through the nights: a track per environment."""

    def __init__(self, history: SeriesHistory, settings: AnalysisSettings, accepted: str | None) -> None:
        self.key = history.key
        self.settings = settings
        self.points = [p for p in history.points if accepted is None or p.run_id >= accepted]
        self.last = history.points[-1] if history.points else None
        self.tracks: dict[str, LevelTrack | FailureTrack] = {}

    def track(self, environment: str) -> LevelTrack | FailureTrack:
        if environment not in self.tracks:
            self.tracks[environment] = (
                FailureTrack(self.settings)
                if self.key.metric is Metric.FAILURE_RATE
                else LevelTrack(rule_of(self.key.metric, self.settings), self.settings)
            )
        return self.tracks[environment]

    def add(self, point: RunPoint) -> bool:
        """Add a run to its track; False where it gave nothing usable."""
        track = self.track(point.environment)
        if isinstance(track, FailureTrack):
            tally = track.value_of(point)
            if tally is not None:
                track.add(tally)
            return tally is not None
        value = track.value_of(point)
        if value is not None:
            track.add(value)
        return value is not None


def judge(
    histories: Sequence[SeriesHistory],
    settings: AnalysisSettings = AnalysisSettings(),  # noqa: B008 - immutable
    accepted: Mapping[SeriesKey, str] | None = None,
) -> tuple[Judgement, ...]:
    """Judge the last run of every series; the answers are in the order of the histories.

    `histories` are all series of the night, so that false discoveries can be controlled over them:
    a series judged alone may get another answer than among its night. Run ids must sort by time.
    `accepted` names, per series, the first run of a change that somebody accepted: the runs before
    it are no longer part of the baseline.

    The order of the series does not matter, nor does the unit of a timing. Invalid runs, runs in
    another environment and failed iterations are never compared with.
    """
    accepted = accepted or {}
    replays = [_Replay(h, settings, accepted.get(h.key)) for h in histories]
    nights: dict[str, list[tuple[int, RunPoint]]] = {}
    for index, replay in enumerate(replays):
        for point in replay.points:
            if point.valid:
                nights.setdefault(point.run_id, []).append((index, point))
    answers: dict[tuple[int, str], Judgement] = {}
    for run_id in sorted(nights):
        for index, judgement in _night(replays, nights[run_id], settings):
            answers[index, run_id] = judgement
    return tuple(
        answers.get((i, r.last.run_id if r.last else "")) or _without_evidence(r)
        for i, r in enumerate(replays)
    )


def _night(
    replays: list[_Replay], points: list[tuple[int, RunPoint]], settings: AnalysisSettings
) -> list[tuple[int, Judgement]]:
    """Look at every series of one night, then decide for all of them together."""
    added = [(replays[i], i, p) for i, p in points if replays[i].add(p)]
    priors = _priors([(r.key.metric, r.track(p.environment)) for r, _, p in added])
    seen = []
    for replay, index, point in added:
        track = replay.track(point.environment)
        evidence = track.look() if isinstance(track, FailureTrack) else track.look(priors[replay.key.metric])
        if evidence is not None:
            seen.append((index, point, track, evidence))
    fresh = [n for n, (_, _, track, _) in enumerate(seen) if not _is_open(track)]
    adjusted = np.array([evidence.p_value for *_, evidence in seen])
    if fresh:
        adjusted[fresh] = q_values(adjusted[fresh])
    out = []
    for (index, point, track, evidence), q_value in zip(seen, adjusted, strict=True):
        rejected = q_value <= settings.false_discovery_rate and evidence.p_value <= settings.largest_p
        track.decide(evidence, rejected=bool(rejected))
        out.append((index, _judgement(replays[index], point, evidence, float(q_value))))
    return out


def _priors(tracks: list[tuple[Metric, LevelTrack | FailureTrack]]) -> dict[Metric, VariancePrior]:
    """Learn from the night's series of a metric how much runs of such a series differ."""
    priors = {}
    for metric in {m for m, _ in tracks}:
        alike = [t for m, t in tracks if m is metric and isinstance(t, LevelTrack)]
        known = np.array([v for t in alike if (v := t.variance()) is not None]).reshape(-1, 2)
        priors[metric] = fit_prior(known[:, 0], known[:, 1])
    return priors


def _is_open(track: LevelTrack | FailureTrack) -> bool:
    """Say whether a change was open before tonight; such a series is not a new discovery."""
    if isinstance(track, FailureTrack):
        return len(track.after) > 1
    return track.change is not None


def _judgement(replay: _Replay, point: RunPoint, evidence: Evidence, q_value: float) -> Judgement:
    track = replay.track(point.environment)
    worse, since, kind = _open_change(track, replay.key.metric)
    if worse is not None:
        outcome = Outcome.REGRESSION if worse else Outcome.IMPROVEMENT
    elif isinstance(track, LevelTrack) and evidence.mde > replay.settings.useful_mde and not track.settled:
        outcome = Outcome.TOO_NOISY
    else:
        outcome = Outcome.NO_CHANGE
    return Judgement(
        key=replay.key,
        run_id=point.run_id,
        outcome=outcome,
        reason=_reason(outcome, evidence, since, settled=track.settled),
        baseline=evidence.baseline,
        location=evidence.location,
        baseline_location=evidence.baseline_location,
        effect=evidence.effect,
        low=evidence.low,
        high=evidence.high,
        mde=evidence.mde,
        p_value=evidence.p_value,
        q_value=q_value,
        since=since,
        kind=kind,
        suspect=evidence.suspect and worse is None,
    )


def _open_change(
    track: LevelTrack | FailureTrack, metric: Metric
) -> tuple[bool | None, str | None, ChangeKind | None]:
    """Return (worse, first run, kind) of the change that is open after tonight's decision."""
    if isinstance(track, FailureTrack):
        return (
            (track.worse, track.after[0].run_id, ChangeKind.FAILURES) if track.after else (None, None, None)
        )
    if track.change is None:
        return None, None, None
    kind = ChangeKind.COUNTER if metric in COUNTERS else ChangeKind.SHIFT
    return track.change.worse, track.change.after[0].run_id, kind


def _reason(outcome: Outcome, evidence: Evidence, since: str | None, *, settled: bool) -> str:
    """Say in a sentence how the answer was found."""
    interval = f"{evidence.effect:+.1%} [{evidence.low:+.1%}, {evidence.high:+.1%}]"
    against = f"against {len(evidence.baseline)} baseline runs"
    if outcome in (Outcome.REGRESSION, Outcome.IMPROVEMENT):
        return f"{interval} {against}, since {since}"
    if settled:
        return f"the improvement of {interval} has lasted; its level is the baseline from now on"
    if evidence.suspect:
        return f"the latest run alone stands out; {interval} {against} is not proof yet"
    if outcome is Outcome.TOO_NOISY:
        return f"{interval} {against}; only changes above {evidence.mde:.0%} could be shown"
    return f"{interval} {against}; changes above {evidence.mde:.1%} would have been shown"


def _without_evidence(replay: _Replay) -> Judgement:
    """Answer for a series whose last run could not be held against anything."""
    last = replay.last
    if last is None:
        return Judgement(replay.key, "", Outcome.NO_DATA, "the series has no runs")
    if not last.valid:
        return Judgement(replay.key, last.run_id, Outcome.INVALID, "the lab was not fit to measure")
    if replay.track(last.environment).value_of(last) is None:
        reason = f"{last.failures} of {last.attempts} iterations failed; none gave a value"
        return Judgement(replay.key, last.run_id, Outcome.NO_DATA, reason)
    same = sum(p.valid and p.environment == last.environment for p in replay.points)
    others = any(p.environment != last.environment for p in replay.points)
    start = "the environment is new: " if others else ""
    reason = f"{start}run {same} of the {replay.settings.min_baseline} that a baseline needs"
    return Judgement(replay.key, last.run_id, Outcome.NO_BASELINE, reason)
