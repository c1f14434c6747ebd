"""Where a lab's nights have led: the nights of all series, fed one by one, each decided as it comes.

`perfci.analysis.state` writes a replay down, so that not every night is replayed again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from perfci.analysis.facts import EndedChange, Facts, NightFacts, OpenedChange, TrackKey, Watched
from perfci.analysis.failures import FailureTrack
from perfci.analysis.false_discovery import q_values, threshold
from perfci.analysis.judgement import judgement
from perfci.analysis.level_rule import CANARY_RULE
from perfci.analysis.level_track import LevelTrack
from perfci.analysis.p_calibration import FalseAlarms
from perfci.analysis.paired_track import PairedTrack
from perfci.analysis.robust import median
from perfci.analysis.service_suspicion import services_off
from perfci.analysis.tracks import (
    add_point,
    add_value,
    change_of,
    kind_of,
    new_track,
    open_change,
    parts_of,
    priors_of,
    q_value_of,
    values_of,
    was_open,
)
from perfci.analysis.variance import VariancePrior

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from perfci.analysis.evidence import Evidence
    from perfci.analysis.service_suspicion import ServiceShift
    from perfci.analysis.settings import AnalysisSettings
    from perfci.analysis.tracks import ChangeSeen, Kind, Track
    from perfci.analysis.types import Confirmation, Judgement, RunPoint
    from perfci.results.model import Metric, SeriesKey


class DecisionThresholds(NamedTuple):
    """What decided tonight: the q-value of each part, and the p-value up to which changes were reported."""

    q_values: Mapping[TrackKey, float]
    p_value: float


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
        known = self.tracks.get(part)
        if known is None:
            known = self.tracks[part] = new_track(part, self.settings)
        return known

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
        priors = priors_of(tracks)
        seen = {
            part: evidence
            for part, track in tracks.items()
            if (evidence := self._look(part, track, priors[kind_of(part)], movement)) is not None
        }
        opened = {part for part in seen if was_open(self.track(part))}
        before = {part: change_of(self.track(part), decided=False) for part in tracks}
        limits = self._decide(seen, opened)
        ended = tuple(end for part in tracks if (end := self._ended(part, before[part])))
        doubted = tuple(
            part
            for part, track in tracks.items()
            if (old := before[part]) and old.refuted and (now := change_of(track)) and not now.refuted
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
                    and (part in doubted or before[part] != change_of(track))
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
        together = self._services_off(seen)
        for key, point in points.items():
            parts = parts_of(key, point.environment)
            if parts[0] in seen:
                self._follow_middle(*parts)
                part = self._speaking(parts, seen)
                evidence = seen[part]
                if part in together and not evidence.suspect:
                    evidence = replace(evidence, suspect=True, suspect_with=together[part].in_words)
                mde = self._mde(part, evidence, limits, known=part in opened)
                out[key] = judgement(point, part, self.track(part), evidence, (limits.q_values[part], mde))
        return out

    def follow_night(
        self,
        known: NightFacts,
        points: Mapping[SeriesKey, RunPoint],
        canaries: Mapping[SeriesKey, RunPoint] | None = None,
    ) -> None:
        """Add a night that has been decided before, as its facts say; `points` may be none at all."""
        for key, point in (canaries or {}).items():
            if add_point(canary := self._canary(key, point.environment), point) and known.lab_moved:
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
            parts = parts_of(key, point.environment)
            if len(parts) > 1 and parts[0] in tracks:
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
        told = {*opened, *ended, *(part for part in (*known.doubted, *known.refuted) if part in tracks)}
        told |= {part for part, track in tracks.items() if isinstance(track, FailureTrack)}
        for part in told:
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
        parts = [
            (part, self.track(part), point)
            for key, point in points.items()
            for part in parts_of(key, point.environment)
        ]
        values = values_of([(track, point) for _, track, point in parts])
        tracks = {}
        for (part, track, _), value in zip(parts, values, strict=True):
            if value is not None:
                add_value(track, value)
                tracks[part] = track
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
            if not track.after or before == change_of(track):
                return None
            return OpenedChange(part, track.worse, track.q_value, tuple(track.runs), tuple(track.after))
        change, now = track.change, change_of(track)
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
        for kind in sorted({kind_of(part) for part in tracks}):
            alike = [t for p, t in tracks.items() if kind_of(p) == kind and isinstance(t, LevelTrack)]
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
        return track.look(prior, movement, self.alarms[kind_of(part)])

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
                adjusted[part] = q_value_of(track)
                rejected = track.could_report(evidence) and evidence.p_value <= settings.largest_p
            else:
                rejected = adjusted[part] <= rate and evidence.p_value <= settings.largest_p
                found += rejected
            track.decide(evidence, q_value=adjusted[part], rejected=rejected)
        self._remember(found)
        return DecisionThresholds(adjusted, min(enough, settings.largest_p))

    def _services_off(self, seen: Iterable[TrackKey]) -> dict[TrackKey, ServiceShift]:
        """Return the ratios to be asked about because the scenarios of their service stand out together."""
        tonight = {
            part: track.runs[-1]
            for part in seen
            if isinstance(track := self.track(part), PairedTrack) and track.change is None and track.runs
        }
        return services_off(tonight, self.settings.latency_floor)

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
        if open_change(self.track(part))[0] is not None:
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
        changed = (p for p in parts if p in seen and open_change(self.track(p))[0] is not None)
        return next(changed, parts[0])

    def _lab_moved(self, canaries: Mapping[SeriesKey, RunPoint]) -> tuple[int, float]:
        """Return how many nights ago half of the canaries or more moved for good, and how far they are off.

        0 if they did not. The second number is the median of the canaries' certain movements, as a
        logarithm, whether it is for good or not.
        """
        tracks = [t for key, p in canaries.items() if add_point(t := self._canary(key, p.environment), p)]
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
