"""The nightly entry: histories in, one judgement per series out.

The nights are replayed from the oldest run to the latest, with the decisions that would have been
taken then. So everything that a verdict depends on (which runs are the baseline, which change is
open, since when) follows from the histories and from what people accepted; no state is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from perfci.analysis.failures import FailureTrack
from perfci.analysis.levels import CANARY_RULE, LevelTrack, rule_of, tail_rule
from perfci.analysis.multiple import q_values
from perfci.analysis.robust import median
from perfci.analysis.settings import AnalysisSettings
from perfci.analysis.types import ChangeKind, Judgement, Outcome
from perfci.analysis.variance import VariancePrior, fit_prior
from perfci.results.model import Metric

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perfci.analysis.evidence import Evidence
    from perfci.analysis.types import RunPoint, SeriesHistory
    from perfci.results.model import SeriesKey


Track = LevelTrack | FailureTrack


class Part(NamedTuple):
    """What is tracked on its own: a series in an environment, of a timing also its tail."""

    key: SeriesKey
    environment: str
    tail: bool


@dataclass(slots=True)
class Replay:
    """The nights of a lab, fed one by one, oldest first; `judge` is this on whole histories."""

    settings: AnalysisSettings
    tracks: dict[Part, Track] = field(default_factory=dict)
    canaries: dict[Part, LevelTrack] = field(default_factory=dict)
    """The lab's own series, likewise."""

    def track(self, part: Part) -> Track:
        """Return the state of a part."""
        if part not in self.tracks:
            self.tracks[part] = _new_track(part, self.settings)
        return self.tracks[part]

    def night(
        self, points: Mapping[SeriesKey, RunPoint], canaries: Mapping[SeriesKey, RunPoint] | None = None
    ) -> dict[SeriesKey, Judgement]:
        """Add a night of valid runs and judge it; what can't be held against a baseline is left out.

        Looks at every series first, then decides for all of them together. When the canaries show
        that the lab itself has changed, every series starts anew: such a night never alarms.
        """
        moved, movement = self._lab_moved(canaries or {})
        tracks = {
            part: self.track(part)
            for key, point in points.items()
            for part in _parts(key, point.environment)
            if _add(self.track(part), point)
        }
        if moved:
            for track in tracks.values():
                if isinstance(track, LevelTrack) and track.rule.follows_lab:
                    track.restart(moved)
        priors = _priors(tracks)
        seen = {
            part: evidence
            for part, track in tracks.items()
            if (evidence := _look(track, priors[part.key.metric, part.tail], movement)) is not None
        }
        adjusted = self._decide(seen)
        out = {}
        for key, point in points.items():
            parts = _parts(key, point.environment)
            if parts[0] in seen:
                self._follow_middle(*parts)
                speaking = self._speaking(parts, seen)
                out[key] = _judgement(
                    point, speaking, self.track(speaking), seen[speaking], adjusted[speaking]
                )
        return out

    def _decide(self, seen: Mapping[Part, Evidence]) -> dict[Part, float]:
        """Decide for every part, and return the q-values. An open change is no new discovery."""
        fresh = [part for part in seen if not _is_open(self.track(part))]
        adjusted = {part: evidence.p_value for part, evidence in seen.items()}
        fresh_q = q_values(np.array([adjusted[part] for part in fresh]))
        adjusted |= dict(zip(fresh, fresh_q.tolist(), strict=True))
        for part, evidence in seen.items():
            enough = adjusted[part] <= self.settings.false_discovery_rate
            rejected = enough and evidence.p_value <= self.settings.largest_p
            self.track(part).decide(evidence, rejected=rejected)
        return adjusted

    def _follow_middle(self, middle: Part, *tail: Part) -> None:
        """While the middle of a timing has changed, its tail is not judged: it changes with it."""
        leading = self.track(middle)
        for part in tail:
            following = self.track(part)
            if isinstance(leading, LevelTrack) and isinstance(following, LevelTrack):
                if leading.change is not None:
                    following.forget(leading.change.after[0].run_id)
                elif leading.settled:
                    following.restart(0)

    def _speaking(self, parts: Sequence[Part], seen: Mapping[Part, Evidence]) -> Part:
        """Return the part that has something to say: the tail only if it alone has changed."""
        changed = (p for p in parts if p in seen and _open_change(self.track(p))[0] is not None)
        return next(changed, parts[0])

    def _lab_moved(self, canaries: Mapping[SeriesKey, RunPoint]) -> tuple[int, float]:
        """Return how many nights ago half of the canaries or more moved for good, and how far they are off.

        0 if they did not. The second number is the median of the canaries' certain movements, as a
        logarithm, whether it is for good or not.
        """
        tracks = [t for key, p in canaries.items() if _add(t := self._canary(key, p.environment), p)]
        if not tracks:
            return 0, 0.0
        movement = median([track.movement() for track in tracks])
        steps = []
        for track in tracks:
            evidence = track.look(VariancePrior())
            if evidence is not None and evidence.proves and evidence.p_value <= self.settings.largest_p:
                steps.append(evidence.window)
        if not steps or 2 * len(steps) < len(tracks):
            return 0, movement
        for track in tracks:
            track.restart(min(steps))
        return min(steps), 0.0

    def _canary(self, key: SeriesKey, environment: str) -> LevelTrack:
        part = Part(key, environment, tail=False)
        return self.canaries.setdefault(part, LevelTrack(CANARY_RULE, self.settings))


def _new_track(part: Part, settings: AnalysisSettings) -> Track:
    if part.key.metric is Metric.FAILURE_RATE:
        return FailureTrack(settings)
    rule = tail_rule(settings) if part.tail else rule_of(part.key.metric, settings)
    return LevelTrack(rule, settings)


def _parts(key: SeriesKey, environment: str) -> tuple[Part, ...]:
    middle = Part(key, environment, tail=False)
    return (middle, Part(key, environment, tail=True)) if key.metric is Metric.SECONDS else (middle,)


def _add(track: Track, point: RunPoint) -> bool:
    """Add a run to its track; False where it gave nothing usable."""
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
    canaries: Sequence[SeriesHistory] = (),
) -> tuple[Judgement, ...]:
    """Judge the last run of every series; the answers are in the order of the histories.

    `histories` are all series of the night, so that false discoveries can be controlled over them:
    a series judged alone may get another answer than among its night. Run ids must sort by time.
    `accepted` names, per series, the first run of a change that somebody accepted: the runs before
    it are no longer part of the baseline. `canaries` are the histories of the lab's own fixed
    workloads (a node and a workload each, metric seconds). A lasting step in half of them starts every
    baseline anew, as a new environment digest does; what they move tonight is added to the uncertainty
    of all timings and CPU seconds.

    The order of the series does not matter, nor does the unit of a timing. Invalid runs, runs in
    another environment and failed iterations are never compared with.
    """
    accepted = accepted or {}
    replay = Replay(settings)
    nights: dict[str, dict[SeriesKey, RunPoint]] = {}
    for history in histories:
        for point in _kept_points(history, accepted):
            if point.valid:
                nights.setdefault(point.run_id, {})[history.key] = point
    lab: dict[str, dict[SeriesKey, RunPoint]] = {}
    for history in canaries:
        for point in history.points:
            lab.setdefault(point.run_id, {})[history.key] = point
    answers: dict[tuple[SeriesKey, str], Judgement] = {}
    for run_id in sorted(nights):
        answers |= {(key, run_id): j for key, j in replay.night(nights[run_id], lab.get(run_id)).items()}
    return tuple(
        (h.points and answers.get((h.key, h.points[-1].run_id)))
        or _without_evidence(h, _kept_points(h, accepted), replay)
        for h in histories
    )


def _kept_points(history: SeriesHistory, accepted: Mapping[SeriesKey, str]) -> list[RunPoint]:
    first = accepted.get(history.key, "")
    return [p for p in history.points if p.run_id >= first]


def _look(track: Track, prior: VariancePrior, lab: float) -> Evidence | None:
    return track.look() if isinstance(track, FailureTrack) else track.look(prior, lab)


def _priors(tracks: Mapping[Part, Track]) -> dict[tuple[Metric, bool], VariancePrior]:
    """Learn from the night's series of a kind how much runs of such a series differ."""
    priors = {}
    for kind in {(part.key.metric, part.tail) for part in tracks}:
        alike = [t for p, t in tracks.items() if (p.key.metric, p.tail) == kind and isinstance(t, LevelTrack)]
        known = np.array([v for t in alike if (v := t.variance()) is not None]).reshape(-1, 2)
        priors[kind] = fit_prior(known[:, 0], known[:, 1])
    return priors


def _is_open(track: Track) -> bool:
    """Say whether a change was open before tonight; such a series is not a new discovery."""
    if isinstance(track, FailureTrack):
        return len(track.after) > 1
    return track.change is not None


def _judgement(point: RunPoint, part: Part, track: Track, evidence: Evidence, q_value: float) -> Judgement:
    worse, since, kind = _open_change(track)
    if worse is not None:
        outcome = Outcome.REGRESSION if worse else Outcome.IMPROVEMENT
    elif isinstance(track, LevelTrack) and evidence.mde > track.settings.useful_mde and not track.settled:
        outcome = Outcome.TOO_NOISY
    else:
        outcome = Outcome.NO_CHANGE
    return Judgement(
        key=part.key,
        run_id=point.run_id,
        outcome=outcome,
        reason=_reason(outcome, evidence, since, settled=track.settled, tail=part.tail),
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


def _open_change(track: Track) -> tuple[bool | None, str | None, ChangeKind | None]:
    """Return (worse, first run, kind) of the change that is open after tonight's decision."""
    if isinstance(track, FailureTrack):
        return (
            (track.worse, track.after[0].run_id, ChangeKind.FAILURES) if track.after else (None, None, None)
        )
    if track.change is None:
        return None, None, None
    return track.change.worse, track.change.after[0].run_id, track.kind()


def _reason(outcome: Outcome, evidence: Evidence, since: str | None, *, settled: bool, tail: bool) -> str:
    """Say in a sentence how the answer was found."""
    interval = f"{evidence.effect:+.1%} [{evidence.low:+.1%}, {evidence.high:+.1%}]"
    against = f"against {len(evidence.baseline)} baseline runs"
    if outcome in (Outcome.REGRESSION, Outcome.IMPROVEMENT):
        what = "the slow requests alone: " if tail else ""
        return f"{what}{interval} {against}, since {since}"
    if settled:
        return f"the improvement of {interval} has lasted; its level is the baseline from now on"
    if evidence.suspect:
        return f"the latest run alone stands out; {interval} {against} is not proof yet"
    if outcome is Outcome.TOO_NOISY:
        return f"{interval} {against}; only changes above {evidence.mde:.0%} could be shown"
    return f"{interval} {against}; changes above {evidence.mde:.1%} would have been shown"


def _without_evidence(history: SeriesHistory, kept: Sequence[RunPoint], replay: Replay) -> Judgement:
    """Answer for a series whose last run could not be held against anything."""
    if not history.points:
        return Judgement(history.key, "", Outcome.NO_DATA, "the series has no runs")
    last = history.points[-1]
    if not last.valid:
        return Judgement(history.key, last.run_id, Outcome.INVALID, "the lab was not fit to measure")
    if replay.track(_parts(history.key, last.environment)[0]).value_of(last) is None:
        reason = f"{last.failures} of {last.attempts} iterations failed; none gave a value"
        return Judgement(history.key, last.run_id, Outcome.NO_DATA, reason)
    same = sum(p.valid and p.environment == last.environment for p in kept)
    start = "the environment is new: " if any(p.environment != last.environment for p in kept) else ""
    reason = f"{start}run {same} of the {replay.settings.min_baseline} that a baseline needs"
    return Judgement(history.key, last.run_id, Outcome.NO_BASELINE, reason)
