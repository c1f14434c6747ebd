"""The nightly entry: histories in, one judgement per series out.

The nights are replayed from the oldest run to the latest, with the decisions that would have been
taken then. So everything that a verdict depends on (which runs are the baseline, which change is
open, since when) follows from the histories, from what re-runs have shown and from what people
accepted. `Replay` is where a lab's nights have led; `perfci.analysis.state` writes it down, so that
not every night is replayed again.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from perfci.analysis.facts import EndedChange, Facts, NightFacts, OpenedChange, TrackKey, Watched
from perfci.analysis.failures import FailureTrack
from perfci.analysis.false_discovery import q_values, threshold
from perfci.analysis.level_track import CANARY_RULE, LevelTrack, rule_of, tail_rule
from perfci.analysis.p_calibration import FalseAlarms
from perfci.analysis.robust import median
from perfci.analysis.settings import AnalysisSettings
from perfci.analysis.types import ChangeKind, Judgement, Outcome
from perfci.analysis.variance import VariancePrior, fit_prior
from perfci.results.model import Metric

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perfci.analysis.evidence import Evidence
    from perfci.analysis.types import Confirmation, RunPoint, SeriesHistory
    from perfci.results.model import SeriesKey


Track = LevelTrack | FailureTrack


Kind = tuple[Metric, bool]
"""Series of one kind are alike: those of a metric, the tails of timings apart."""


class DecisionThresholds(NamedTuple):
    """What decided tonight: the q-value of each part, and the p-value up to which changes were reported."""

    q_values: Mapping[TrackKey, float]
    p_value: float


class ChangeSeen(NamedTuple):
    """A change that is open, as far as another one can be told from it."""

    since: str
    worse: bool
    refuted: bool = False


@dataclass(slots=True)
class Replay:
    """The nights of a lab, fed one by one, oldest first; `judge` is this on whole histories."""

    settings: AnalysisSettings
    tracks: dict[TrackKey, Track] = field(default_factory=dict)
    canaries: dict[TrackKey, LevelTrack] = field(default_factory=dict)
    """The lab's own series, likewise."""
    alarms: dict[Kind, FalseAlarms] = field(default_factory=dict)
    """What is known of false alarms."""
    found: list[int] = field(default_factory=list)
    """How many changes were found on each of the latest nights."""
    latest: str = ""
    """The last night that was fed."""
    confirmations: Mapping[tuple[SeriesKey, str], Confirmation] = field(default_factory=dict)
    """What re-runs have shown, by series and the run that raised the question."""
    facts: Facts = field(default_factory=Facts)
    """What earlier nights have decided: these nights are followed, not decided again."""
    decided: list[NightFacts] = field(default_factory=list)
    """What was decided here, oldest first: facts for later replays."""

    def track(self, part: TrackKey) -> Track:
        """Return the state of a part."""
        if part not in self.tracks:
            self.tracks[part] = new_track(part, self.settings)
        return self.tracks[part]

    def night(
        self,
        points: Mapping[SeriesKey, RunPoint],
        canaries: Mapping[SeriesKey, RunPoint] | None = None,
        run_id: str = "",
    ) -> dict[SeriesKey, Judgement]:
        """Add a night of valid runs and judge it; what can't be held against a baseline is left out.

        Looks at every series first, then decides for all of them together. When the canaries show
        that the lab itself has changed, every series starts from the beginning: such a night never alarms.
        What was decided is added to `decided`, as the facts of the run `run_id`.
        """
        moved, movement = self._lab_moved(canaries or {})
        tracks = self._added(points, moved)
        judged, alarms = self._learn(tracks)
        priors = _priors(tracks)
        seen = {
            part: evidence
            for part, track in tracks.items()
            if (evidence := self._look(part, track, priors[_kind(part)], movement)) is not None
        }
        opened = {part for part in seen if _is_open(self.track(part))}
        before = {part: _change_of(self.track(part), decided=False) for part in tracks}
        limits = self._decide(seen, opened)
        ended = tuple(end for part in tracks if (end := self._ended(part, before[part])))
        doubted = tuple(
            part
            for part, track in tracks.items()
            if (old := before[part]) and old.refuted and (now := _change_of(track)) and not now.refuted
        )
        self._follow_reruns(points)
        self.decided.append(
            NightFacts(
                run_id,
                found=self.found[-1] if self.found else 0,
                lab_moved=moved,
                judged=judged,
                alarms=alarms,
                opened=tuple(one for part in tracks if (one := self._opened(part, before[part]))),
                ended=ended,
                refuted=tuple(
                    part
                    for part, track in tracks.items()
                    if isinstance(track, LevelTrack)
                    and (change := track.change) is not None
                    and change.refuted
                    and (part in doubted or before[part] != _change_of(track))
                ),
                doubted=doubted,
                watched=tuple(
                    Watched(part, one.window, tuple(sorted(one.proofs.items())))
                    for part, one in seen.items()
                    if one.proofs and part not in opened
                ),
            )
        )
        out = {}
        for key, point in points.items():
            parts = _parts(key, point.environment)
            if parts[0] in seen:
                self._follow_middle(*parts)
                part = self._speaking(parts, seen)
                evidence = seen[part]
                mde = self._mde(part, evidence, limits, known=part in opened)
                out[key] = _judgement(point, part, self.track(part), evidence, (limits.q_values[part], mde))
        return out

    def follow_night(
        self,
        known: NightFacts,
        points: Mapping[SeriesKey, RunPoint],
        canaries: Mapping[SeriesKey, RunPoint] | None = None,
    ) -> None:
        """Add a night that has been decided before, as its facts say; `points` may be none at all."""
        for key, point in (canaries or {}).items():
            if _add(canary := self._canary(key, point.environment), point) and known.lab_moved:
                canary.restart(known.lab_moved)
        tracks = self._added(points, known.lab_moved)
        for metric, tail, number in known.judged:
            self.alarms.setdefault((metric, tail), FalseAlarms()).night(number)
        for metric, tail, window, p in known.alarms:
            self.alarms[metric, tail].note({window: p})
        for track in tracks.values():
            track.settled = False
            if isinstance(track, LevelTrack):
                track.false_alarm()
        self._follow_watched(known, tracks)
        self._follow_changes(known, tracks)
        for key, point in points.items():
            parts = _parts(key, point.environment)
            if parts[0] in tracks:
                self._follow_middle(*parts)
        self._remember(known.found)

    def _follow_watched(self, known: NightFacts, tracks: Mapping[TrackKey, Track]) -> None:
        """Watch what looked like a change to a night."""
        for one in known.watched:
            track = tracks.get(one.part)
            counts = self.facts.counts(one.part, known.run_id)
            if counts and isinstance(track, LevelTrack) and len(track.runs) > 1:
                track.watch(one.window, dict(one.proofs))

    def _follow_changes(self, known: NightFacts, tracks: Mapping[TrackKey, Track]) -> None:
        """Open and end the changes that a night has opened and ended."""
        opened = {one.part: one for one in known.opened if self.facts.counts(one.part, known.run_id)}
        ended = {one.part: one for one in known.ended if self.facts.counts(one.part, known.run_id)}
        for part in {**tracks, **opened, **ended}:
            track = self.track(part)
            start, end = opened.get(part), ended.get(part)
            if isinstance(track, LevelTrack):
                if end is not None:
                    track.end(settled=end.settled, kept=end.kept, visits=end.visits)
                if start is not None:
                    track.follow_opened(start)
                if part in known.doubted:
                    track.doubt()
                if part in known.refuted and track.change is not None:
                    track.change.refuted = True
                continue
            if start is not None:
                track.follow_opened(start)
            if track.after and (end is not None or (start is None and len(track.after) == 1)):
                track.end(settled=end is not None and end.settled)

    def _added(self, points: Mapping[SeriesKey, RunPoint], moved: int) -> dict[TrackKey, Track]:
        """Add a night to its tracks and return these; forget what was before the lab moved."""
        tracks = {
            part: self.track(part)
            for key, point in points.items()
            for part in _parts(key, point.environment)
            if _add(self.track(part), point)
        }
        if moved:
            # What was not measured that night has a baseline from before, too, and begins with its next run.
            for part, track in self.tracks.items():
                if isinstance(track, LevelTrack) and track.rule.follows_lab:
                    track.restart(moved if part in tracks else 0)
        return tracks

    def _opened(self, part: TrackKey, before: ChangeSeen | None) -> OpenedChange | None:
        """Return the change that tonight has opened in a part; None where it opened none."""
        track = self.track(part)
        if isinstance(track, FailureTrack):
            if track.settled and before is None:
                return OpenedChange(part, track.worse, track.q_value, (), tuple(track.runs))
            if not track.after or before == _change_of(track):
                return None
            return OpenedChange(part, track.worse, track.q_value, tuple(track.runs), tuple(track.after))
        change, now = track.change, _change_of(track)
        if change is None or (before is not None and now == before._replace(refuted=change.refuted)):
            return None
        return OpenedChange(
            part,
            change.worse,
            change.q_value,
            tuple(track.runs[-track.remembered :]),
            tuple(change.after),
            change.confirmed,
        )

    def _ended(self, part: TrackKey, before: ChangeSeen | None) -> EndedChange | None:
        """Return the end that tonight's decision put to the change of a part; None where it did not."""
        track = self.track(part)
        if isinstance(track, FailureTrack):
            over = not track.after and (before is not None or track.settled)
            return EndedChange(part, track.settled, 1, ()) if over else None
        if before is None or track.change is not None:
            return None
        kept = 0 if track.settled else track.needed()
        return EndedChange(part, track.settled, kept, tuple(track.visits))

    def fork(self) -> Replay:
        """Return a replay that goes on from here without touching this one."""
        return replace(
            self,
            decided=[],
            tracks={part: track.fork() for part, track in self.tracks.items()},
            canaries={part: track.fork() for part, track in self.canaries.items()},
            alarms={kind: replace(alarms, seen=list(alarms.seen)) for kind, alarms in self.alarms.items()},
            found=list(self.found),
        )

    def _learn(
        self, tracks: Mapping[TrackKey, Track]
    ) -> tuple[tuple[tuple[Metric, bool, int], ...], tuple[tuple[Metric, bool, int, float], ...]]:
        """Note which of what looked like changes some nights ago were none; return what was learned."""
        judged, noted = [], []
        for kind in sorted({_kind(part) for part in tracks}):
            alike = [t for p, t in tracks.items() if _kind(p) == kind and isinstance(t, LevelTrack)]
            alarms = self.alarms.setdefault(kind, FalseAlarms())
            number = sum(track.change is None for track in alike)
            alarms.night(number)
            judged.append((*kind, number))
            for track in alike:
                proofs = track.false_alarm()
                alarms.note(proofs)
                noted += [(*kind, window, p) for window, p in sorted(proofs.items())]
        return tuple(judged), tuple(noted)

    def _look(self, part: TrackKey, track: Track, prior: VariancePrior, movement: float) -> Evidence | None:
        if isinstance(track, FailureTrack):
            return track.look()
        return track.look(prior, movement, self.alarms[_kind(part)])

    def _decide(self, seen: Mapping[TrackKey, Evidence], opened: set[TrackKey]) -> DecisionThresholds:
        """Decide for every part. An open change is no new discovery, and keeps the q-value it had.

        Evidence that may not be reported, whatever its p-value, counts as a test with a p-value of 1.
        """
        settings, before = self.settings, sum(self.found)
        fresh = [part for part in seen if part not in opened]
        able = [self.track(part).could_report(seen[part]) for part in fresh]
        p = [seen[part].p_value if can else 1.0 for part, can in zip(fresh, able, strict=True)]
        adjusted = dict(
            zip(fresh, q_values(np.array(p), before=before, nights=settings.memory).tolist(), strict=True)
        )
        rate = settings.false_discovery_rate
        number = sum(q <= rate for q in adjusted.values())
        enough = threshold(rate, found=number, tests=len(fresh), before=before, nights=settings.memory)
        found = 0
        for part, evidence in seen.items():
            track = self.track(part)
            if part in opened:
                adjusted[part] = _q_value(track)
                rejected = track.could_report(evidence) and evidence.p_value <= settings.largest_p
            else:
                rejected = adjusted[part] <= rate and evidence.p_value <= settings.largest_p
                found += rejected
            track.decide(evidence, q_value=adjusted[part], rejected=rejected)
        self._remember(found)
        return DecisionThresholds(adjusted, min(enough, settings.largest_p))

    def _remember(self, found: int) -> None:
        """Keep how many changes the latest nights found."""
        memory = self.settings.memory
        self.found = [*self.found, found][-max(memory - 1, 0) :] if memory > 1 else []

    def _mde(self, part: TrackKey, evidence: Evidence, limits: DecisionThresholds, *, known: bool) -> float:
        """Return the smallest effect that tonight's decision could report of this part.

        Of a change that is known from nights before, what proves that it is still there.
        """
        if known:
            return evidence.reach.at(self.settings.largest_p)
        if _open_change(self.track(part))[0] is not None:
            return evidence.reach.at(limits.p_value)
        return evidence.shortest.at(limits.p_value)

    def _follow_reruns(self, points: Mapping[SeriesKey, RunPoint]) -> None:
        """Let what re-runs have shown of tonight's suspects count from tonight on."""
        for key, point in points.items():
            answer = self.confirmations.get((key, point.run_id))
            if answer is not None:
                track = self.track(TrackKey(key, point.environment, answer.tail))
                if isinstance(track, LevelTrack):
                    track.follow_reruns(answer)

    def _follow_middle(self, middle: TrackKey, *tail: TrackKey) -> None:
        """While the middle of a timing has changed, its tail is not judged: it changes with it."""
        leading = self.track(middle)
        for part in tail:
            following = self.track(part)
            if isinstance(leading, LevelTrack) and isinstance(following, LevelTrack):
                if leading.change is not None:
                    following.forget(leading.change.after[0].run_id)
                elif leading.settled:
                    following.restart(0)

    def _speaking(self, parts: Sequence[TrackKey], seen: Mapping[TrackKey, Evidence]) -> TrackKey:
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
            if evidence is None or evidence.p_value > self.settings.largest_p:
                continue
            if track.could_report(evidence):
                steps.append(evidence.window)
        if not steps or 2 * len(steps) < len(tracks):
            return 0, movement
        for track in tracks:
            track.restart(min(steps))
        return min(steps), 0.0

    def _canary(self, key: SeriesKey, environment: str) -> LevelTrack:
        part = TrackKey(key, environment, tail=False)
        return self.canaries.setdefault(part, LevelTrack(CANARY_RULE, self.settings))


def new_track(part: TrackKey, settings: AnalysisSettings) -> Track:
    """Return the state of a part that has not had a run yet."""
    if part.key.metric is Metric.FAILURE_RATE:
        return FailureTrack(settings)
    rule = tail_rule(settings) if part.tail else rule_of(part.key.metric, settings)
    return LevelTrack(rule, settings)


def _parts(key: SeriesKey, environment: str) -> tuple[TrackKey, ...]:
    middle = TrackKey(key, environment, tail=False)
    return (middle, TrackKey(key, environment, tail=True)) if key.metric is Metric.SECONDS else (middle,)


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


def judge(  # noqa: PLR0917 - all of them are what a verdict follows from
    histories: Sequence[SeriesHistory],
    settings: AnalysisSettings = AnalysisSettings(),  # noqa: B008 - immutable
    accepted: Mapping[SeriesKey, str] | None = None,
    canaries: Sequence[SeriesHistory] = (),
    confirmations: Mapping[tuple[SeriesKey, str], Confirmation] | None = None,
    facts: Facts = Facts(),  # noqa: B008 - immutable
) -> tuple[Judgement, ...]:
    """Judge the last run of every series; the answers are in the order of the histories.

    `histories` are all series of the night, so that false discoveries can be controlled over them:
    a series judged alone may get another answer than among its night. Run ids must sort by time.
    `accepted` names, per series, the first run of a change that somebody accepted: the runs before
    it are no longer part of the baseline. `canaries` are the histories of the lab's own fixed
    workloads (a node and a workload each, metric seconds). A lasting step in half of them starts every
    baseline anew, as a new environment digest does; what they move tonight is added to the uncertainty
    of all timings and CPU seconds. `confirmations` are what re-runs have shown, by series and the run
    that raised the question: from that run on a change is what they say, real or noise. `facts` are what
    earlier nights have decided: those nights are followed, so the histories need not go back to where a
    change that is still open began.

    The order of the series does not matter, nor does the unit of a timing. Invalid runs, runs in
    another environment and failed iterations are never compared with.
    """
    replay = Replay(settings, confirmations=confirmations or {}, facts=facts)
    return follow(replay, histories, accepted, canaries)


def follow(
    replay: Replay,
    histories: Sequence[SeriesHistory],
    accepted: Mapping[SeriesKey, str] | None = None,
    canaries: Sequence[SeriesHistory] = (),
) -> tuple[Judgement, ...]:
    """Feed the nights that a replay has not seen yet, and judge the last run of every series.

    As `judge`, for a replay that knows the nights up to `replay.latest`: `histories` need not hold them.
    """
    answers = feed(replay, histories, accepted, canaries)
    environments: dict[SeriesKey, set[str]] = defaultdict(set)
    for part in replay.tracks:
        environments[part.key].add(part.environment)
    return tuple(
        (h.points and answers.get((h.key, h.points[-1].run_id))) or _without_evidence(h, replay, environments)
        for h in histories
    )


def feed(
    replay: Replay,
    histories: Sequence[SeriesHistory],
    accepted: Mapping[SeriesKey, str] | None = None,
    canaries: Sequence[SeriesHistory] = (),
    before: str | None = None,
) -> dict[tuple[SeriesKey, str], Judgement]:
    """Feed the nights that a replay has not seen yet, up to the run `before`, which is left out."""
    nights, lab = by_night(histories, accepted or {}), by_night(canaries, {}, valid=False)
    answers: dict[tuple[SeriesKey, str], Judgement] = {}
    last = max(nights, default="")
    known = {run_id: facts for run_id, facts in replay.facts.nights.items() if run_id < last}
    for run_id in sorted({*nights, *known}):
        if run_id > replay.latest and (before is None or run_id < before):
            if run_id in known:
                replay.follow_night(known[run_id], nights.get(run_id, {}), lab.get(run_id))
            else:
                found = replay.night(nights[run_id], lab.get(run_id), run_id)
                answers |= {(key, run_id): one for key, one in found.items()}
            replay.latest = run_id
    return answers


def by_night(
    histories: Sequence[SeriesHistory], accepted: Mapping[SeriesKey, str], *, valid: bool = True
) -> dict[str, dict[SeriesKey, RunPoint]]:
    """Return the runs of many series by run, those before an accepted change left out.

    With `valid` also those in which the lab was not fit to measure.
    """
    nights: dict[str, dict[SeriesKey, RunPoint]] = {}
    for history in histories:
        for point in _kept_points(history, accepted):
            if point.valid or not valid:
                nights.setdefault(point.run_id, {})[history.key] = point
    return nights


def _kept_points(history: SeriesHistory, accepted: Mapping[SeriesKey, str]) -> list[RunPoint]:
    first = accepted.get(history.key, "")
    return [p for p in history.points if p.run_id >= first]


def _kind(part: TrackKey) -> Kind:
    return part.key.metric, part.tail


def _priors(tracks: Mapping[TrackKey, Track]) -> dict[Kind, VariancePrior]:
    """Learn from the night's series of a kind how much runs of such a series differ."""
    priors = {}
    for kind in {_kind(part) for part in tracks}:
        alike = [t for p, t in tracks.items() if _kind(p) == kind and isinstance(t, LevelTrack)]
        known = np.array([v for t in alike if (v := t.variance()) is not None]).reshape(-1, 2)
        priors[kind] = fit_prior(known[:, 0], known[:, 1])
    return priors


def _change_of(track: Track, *, decided: bool = True) -> ChangeSeen | None:
    """Return the change that is open in a track; `decided` says whether tonight has been decided."""
    if isinstance(track, FailureTrack):
        return ChangeSeen(track.after[0].run_id, track.worse) if len(track.after) > (not decided) else None
    change = track.change
    return None if change is None else ChangeSeen(change.after[0].run_id, change.worse, change.refuted)


def _is_open(track: Track) -> bool:
    """Say whether a change was open before tonight; such a series is not a new discovery."""
    if isinstance(track, FailureTrack):
        return len(track.after) > 1
    return track.change is not None


def _q_value(track: Track) -> float:
    """Return the q-value with which an open change was found."""
    if isinstance(track, FailureTrack):
        return track.q_value
    return 1.0 if track.change is None else track.change.q_value


def _judgement(
    point: RunPoint, part: TrackKey, track: Track, evidence: Evidence, limits: tuple[float, float]
) -> Judgement:
    """Say what came out; `limits` are the part's q-value and its MDE."""
    q_value, mde = limits
    worse, since, kind = _open_change(track)
    if worse is not None:
        outcome = Outcome.REGRESSION if worse else Outcome.IMPROVEMENT
    elif (
        isinstance(track, LevelTrack)
        # Of a counter near zero, changes below its unit don't matter: that is no noise.
        and mde > max(track.settings.useful_mde, evidence.reach.floor)
        and not track.settled
    ):
        outcome = Outcome.TOO_NOISY
    else:
        outcome = Outcome.NO_CHANGE
    return Judgement(
        key=part.key,
        run_id=point.run_id,
        outcome=outcome,
        reason=_reason(outcome, evidence, since, mde, track=track, tail=part.tail) + _aside(track),
        baseline=evidence.baseline,
        location=evidence.location,
        baseline_location=evidence.baseline_location,
        effect=evidence.effect,
        low=evidence.low,
        high=evidence.high,
        mde=mde,
        p_value=evidence.p_value,
        q_value=q_value,
        since=since,
        kind=kind,
        suspect=evidence.suspect and worse is None,
        level=evidence.level,
    )


def _open_change(track: Track) -> tuple[bool | None, str | None, ChangeKind | None]:
    """Return (worse, first run, kind) of the change that is open after tonight's decision."""
    if isinstance(track, FailureTrack):
        return (
            (track.worse, track.after[0].run_id, ChangeKind.FAILURES) if track.after else (None, None, None)
        )
    if track.change is None or track.change.refuted:
        return None, None, None
    return track.change.worse, track.change.after[0].run_id, track.kind()


def _aside(track: Track) -> str:
    """Say of a change that re-runs have refuted it, or that the latest run no longer shows it."""
    if isinstance(track, FailureTrack) or track.change is None:
        return ""
    if track.change.refuted:
        return f"; re-runs have refuted the change since {track.change.after[0].run_id}"
    return "; the latest run alone was back at the baseline" if track.seems_back() else ""


def _reason(
    outcome: Outcome, evidence: Evidence, since: str | None, mde: float, *, track: Track, tail: bool
) -> str:
    """Say in a sentence how the answer was found."""
    interval = f"{evidence.effect:+.1%} [{evidence.low:+.1%}, {evidence.high:+.1%}]"
    against = f"against {len(evidence.baseline)} baseline runs"
    if outcome in (Outcome.REGRESSION, Outcome.IMPROVEMENT):
        what = "the slow requests alone: " if tail else ""
        return f"{what}{interval} {against}, since {since}"
    if track.settled:
        return f"the change of {interval} has lasted; its level is the baseline from now on"
    if evidence.suspect:
        return f"the latest run alone stands out; {interval} {against} is not proof yet"
    if outcome is Outcome.TOO_NOISY:
        return f"{interval} {against}; only changes above {mde:.0%} could be shown"
    small = mde > track.settings.useful_mde and isinstance(track, LevelTrack)
    rest = "; smaller ones are too small to matter" if small else ""
    return f"{interval} {against}; changes above {mde:.1%} would have been shown{rest}"


def _without_evidence(
    history: SeriesHistory, replay: Replay, environments: Mapping[SeriesKey, set[str]]
) -> Judgement:
    """Answer for a series whose last run could not be held against anything.

    `environments` are those in which each series has run.
    """
    if not history.points:
        return Judgement(history.key, "", Outcome.NO_DATA, "the series has no runs")
    last = history.points[-1]
    if not last.valid:
        return Judgement(history.key, last.run_id, Outcome.INVALID, "the lab was not fit to measure")
    track = replay.track(_parts(history.key, last.environment)[0])
    if track.value_of(last) is None:
        reason = f"{last.failures} of {last.attempts} iterations failed; none gave a value"
        return Judgement(history.key, last.run_id, Outcome.NO_DATA, reason)
    start = "the environment is new: " if environments[history.key] > {last.environment} else ""
    reason = f"{start}run {len(track.runs)} of the {replay.settings.min_baseline} that a baseline needs"
    return Judgement(history.key, last.run_id, Outcome.NO_BASELINE, reason)
