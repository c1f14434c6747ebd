"""What is known of one part of a series, whatever its kind: a level, or a rate of failures."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from perfci.analysis.evidence import RunValue
from perfci.analysis.facts import TrackKey
from perfci.analysis.failures import FailureTally, FailureTrack
from perfci.analysis.level_rule import LevelRule, rule_of, tail_rule
from perfci.analysis.level_track import LevelTrack
from perfci.analysis.paired_track import PairedTrack
from perfci.analysis.run_values import run_values
from perfci.analysis.types import ChangeKind
from perfci.analysis.variance import VariancePrior, fit_prior
from perfci.results.model import Metric

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perfci.analysis.settings import AnalysisSettings
    from perfci.analysis.types import RunPoint
    from perfci.results.model import SeriesKey

Track = LevelTrack | FailureTrack

Kind = tuple[Metric, bool]
"""Series of one kind are alike: those of a metric, the tails of timings apart."""


class ChangeSeen(NamedTuple):
    """A change that is open, as far as another one can be told from it."""

    since: str
    worse: bool
    refuted: bool = False


def new_track(part: TrackKey, settings: AnalysisSettings) -> Track:
    """Return the state of a part that has not had a run yet."""
    if part.key.metric is Metric.FAILURE_RATE:
        return FailureTrack(settings)
    if part.key.metric is Metric.RATIO:
        return PairedTrack(rule_of(part.key.metric, settings), settings)
    rule = tail_rule(settings) if part.tail else rule_of(part.key.metric, settings)
    return LevelTrack(rule, settings)


def parts_of(key: SeriesKey, environment: str) -> tuple[TrackKey, ...]:
    middle = TrackKey(key, environment, tail=False)
    return (middle, TrackKey(key, environment, tail=True)) if key.metric is Metric.SECONDS else (middle,)


def add_point(track: Track, point: RunPoint) -> bool:
    """Add a run to its track; False where it gave nothing usable."""
    value = track.value_of(point)
    if value is not None:
        add_value(track, value)
    return value is not None


def add_value(track: Track, value: RunValue | FailureTally) -> None:
    """Add what `value_of` made of a run to its track."""
    if isinstance(track, FailureTrack):
        if isinstance(value, FailureTally):
            track.add(value)
    elif isinstance(value, RunValue):
        track.add(value)


def values_of(points: Sequence[tuple[Track, RunPoint]]) -> list[RunValue | FailureTally | None]:
    """Return what each track makes of a run, as `value_of`, None where nothing usable was measured."""
    alike: dict[LevelRule, list[int]] = {}
    values: list[RunValue | FailureTally | None] = [None] * len(points)
    for place, (track, point) in enumerate(points):
        if type(track) is LevelTrack:
            alike.setdefault(track.rule, []).append(place)
        else:
            values[place] = track.value_of(point)
    for rule, places in alike.items():
        found = run_values(rule, [points[place][1] for place in places])
        for place, value in zip(places, found, strict=True):
            values[place] = value
    return values


def kind_of(part: TrackKey) -> Kind:
    return part.key.metric, part.tail


def priors_of(tracks: Mapping[TrackKey, Track]) -> dict[Kind, VariancePrior]:
    """Learn from the night's series of a kind how much runs of such a series differ."""
    priors = {}
    for kind in {kind_of(part) for part in tracks}:
        alike = [t for p, t in tracks.items() if kind_of(p) == kind and isinstance(t, LevelTrack)]
        known = np.array([v for t in alike if (v := t.variance()) is not None]).reshape(-1, 2)
        priors[kind] = fit_prior(known[:, 0], known[:, 1])
    return priors


def change_of(track: Track, *, decided: bool = True) -> ChangeSeen | None:
    """Return the change that is open in a track; `decided` says whether tonight has been decided."""
    if isinstance(track, FailureTrack):
        return ChangeSeen(track.after[0].run_id, track.worse) if len(track.after) > (not decided) else None
    change = track.change
    return None if change is None else ChangeSeen(change.after[0].run_id, change.worse, change.refuted)


def was_open(track: Track) -> bool:
    """Say whether a change was open before tonight; such a series is not a new discovery."""
    if isinstance(track, FailureTrack):
        return len(track.after) > 1
    return track.change is not None


def q_value_of(track: Track) -> float:
    """Return the q-value with which an open change was found."""
    if isinstance(track, FailureTrack):
        return track.q_value
    return 1.0 if track.change is None else track.change.q_value


def open_change(track: Track) -> tuple[bool | None, str | None, ChangeKind | None]:
    """Return (worse, first run, kind) of the change that is open after tonight's decision."""
    if isinstance(track, FailureTrack):
        return (
            (track.worse, track.after[0].run_id, ChangeKind.FAILURES) if track.after else (None, None, None)
        )
    if track.change is None or track.change.refuted:
        return None, None, None
    return track.change.worse, track.change.after[0].run_id, track.kind()
