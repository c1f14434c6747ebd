"""Where a lab's nights have led, as plain JSON: `dump` and `load` of a `verdict.Replay`.

Feeding the nights after it to a loaded replay gives the same answers as replaying all of them. Settings and
confirmations are not in it: whoever keeps the state keeps what it was made with, too.

```json
{"version": 4, "latest": "20261121T...", "found": [0, 2], "runs": ["..."], "codes": ["..."],
 "alarms": [{"metric": "seconds", "tail": false, "judged": 812.5, "seen": [[2, 1e-05, 0.9]]}],
 "tracks": [{"key": ["lab", "job", "scenario", "arguments", "action", "seconds"], "environment": "...",
             "tail": false, "runs": [[0, 0, -0.94, 0.01, null, -1.1, -1.0, -0.9, -0.8, -0.7]], "change": null,
             "visits": [], "settled": false, "pending": null}],
 "canaries": []}
```
A run is [number in `runs`, number in `codes`, log of its location, standard error, what was measured where
that is another value, five log quantiles or none]; of a failure rate [number in `runs`, failures, attempts].
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perfci.analysis.evidence import RunValue
from perfci.analysis.facts import TrackKey
from perfci.analysis.failures import FailureTally, FailureTrack
from perfci.analysis.level_track import CANARY_RULE, LevelTrack, OpenChange, PendingChange
from perfci.analysis.p_calibration import Alarm, FalseAlarms
from perfci.analysis.replay import Replay
from perfci.analysis.tracks import new_track
from perfci.results.model import Metric, SeriesKey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfci.analysis.settings import AnalysisSettings

VERSION = 4
"""Changes whenever a state written before would give other answers: also with the rules of the verdict."""


@dataclass(slots=True)
class _Names:
    """Strings by number, so that each stands in the file once."""

    known: dict[str, int] = field(default_factory=dict)

    def number(self, name: str) -> int:
        return self.known.setdefault(name, len(self.known))


def dump(replay: Replay, *, since: str = "") -> dict[str, Any]:
    """Return the state as JSON; series that were last measured before the run `since` are left out."""
    runs, codes = _Names(), _Names()
    return {
        "version": VERSION,
        "latest": replay.latest,
        "found": replay.found,
        "alarms": [
            {"metric": metric, "tail": tail, "judged": alarms.judged, "seen": [list(a) for a in alarms.seen]}
            for (metric, tail), alarms in replay.alarms.items()
        ],
        "tracks": [
            _part(part) | _track(track, runs, codes)
            for part, track in replay.tracks.items()
            if _last(track) >= since
        ],
        "canaries": [
            _part(part) | _track(track, runs, codes)
            for part, track in replay.canaries.items()
            if _last(track) >= since
        ],
        "runs": list(runs.known),
        "codes": list(codes.known),
    }


def load(state: object, settings: AnalysisSettings) -> Replay:
    """Return the replay that was written down; raises ValueError for another version or anything else."""
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise ValueError("not a state of this version")
    try:
        return _replay(state, settings)
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise ValueError(f"a damaged state: {error!r}") from error


def _replay(state: dict[str, Any], settings: AnalysisSettings) -> Replay:
    runs, codes = state["runs"], state["codes"]
    replay = Replay(settings, found=[int(n) for n in state["found"]], latest=str(state["latest"]))
    for one in state["alarms"]:
        seen = [Alarm(int(window), float(p), float(weight)) for window, p, weight in one["seen"]]
        replay.alarms[Metric(one["metric"]), bool(one["tail"])] = FalseAlarms(float(one["judged"]), seen)
    for one in state["tracks"]:
        part = _read_part(one)
        track = new_track(part, settings)
        if isinstance(track, FailureTrack):
            _fill_failures(track, one, runs)
        else:
            _fill_level(track, one, runs, codes)
        replay.tracks[part] = track
    for one in state["canaries"]:
        canary = LevelTrack(CANARY_RULE, settings)
        _fill_level(canary, one, runs, codes)
        replay.canaries[_read_part(one)] = canary
    return replay


def _part(part: TrackKey) -> dict[str, Any]:
    key = part.key
    return {
        "key": [key.lab, key.job, key.scenario, key.arguments, key.action, str(key.metric)],
        "environment": part.environment,
        "tail": part.tail,
    }


def _read_part(one: dict[str, Any]) -> TrackKey:
    lab, job, scenario, arguments, action, metric = one["key"]
    key = SeriesKey(lab, job, scenario, arguments, action, Metric(metric))
    return TrackKey(key, str(one["environment"]), bool(one["tail"]))


def _last(track: LevelTrack | FailureTrack) -> str:
    """Return the id of the last run that a track has."""
    after: Sequence[RunValue | FailureTally]
    after = track.after if isinstance(track, FailureTrack) else track.change.after if track.change else ()
    known = after or track.runs
    return known[-1].run_id if known else ""


def _track(track: LevelTrack | FailureTrack, runs: _Names, codes: _Names) -> dict[str, Any]:
    if isinstance(track, FailureTrack):
        return {
            "runs": [_tally(one, runs) for one in track.runs],
            "after": [_tally(one, runs) for one in track.after],
            "worse": track.worse,
            "settled": track.settled,
            "q": track.q_value,
        }
    change, pending = track.change, track.pending
    return {
        "runs": [_value(one, runs, codes) for one in track.runs],
        "change": change
        and {
            "worse": change.worse,
            "after": [_value(one, runs, codes) for one in change.after],
            "q": change.q_value,
            "refuted": change.refuted,
            "confirmed": change.confirmed,
            "doubted": change.doubted,
        },
        "visits": track.visits,
        "settled": track.settled,
        "pending": pending
        and {
            "proofs": sorted(pending.proofs.items()),
            "left": pending.left,
            "same_code": pending.same_code,
        },
    }


def _fill_failures(track: FailureTrack, one: dict[str, Any], runs: Sequence[str]) -> None:
    track.runs = [
        FailureTally(runs[n], int(failures), int(attempts)) for n, failures, attempts in one["runs"]
    ]
    track.after = [
        FailureTally(runs[n], int(failures), int(attempts)) for n, failures, attempts in one["after"]
    ]
    track.worse, track.settled, track.q_value = bool(one["worse"]), bool(one["settled"]), float(one["q"])


def _fill_level(track: LevelTrack, one: dict[str, Any], runs: Sequence[str], codes: Sequence[str]) -> None:
    def value(row: Sequence[Any]) -> RunValue:
        run, code, log, error, measured, *shape = row
        seen = None if measured is None else float(measured)
        quantiles = tuple(float(x) for x in shape)
        return RunValue(runs[run], float(log), float(error), quantiles, codes[code], seen)

    track.runs = [value(row) for row in one["runs"]]
    if change := one["change"]:
        after = [value(row) for row in change["after"]]
        track.change = OpenChange(
            bool(change["worse"]),
            after,
            float(change["q"]),
            refuted=bool(change["refuted"]),
            confirmed=bool(change["confirmed"]),
            doubted=bool(change["doubted"]),
        )
    track.visits = [float(level) for level in one["visits"]]
    track.settled = bool(one["settled"])
    if pending := one["pending"]:
        proofs = {int(window): float(p) for window, p in pending["proofs"]}
        track.pending = PendingChange(proofs, int(pending["left"]), bool(pending["same_code"]))


def _value(one: RunValue, runs: _Names, codes: _Names) -> list[float | None]:
    return [runs.number(one.run_id), codes.number(one.code), one.log, one.error, one.measured, *one.shape]


def _tally(one: FailureTally, runs: _Names) -> list[int]:
    return [runs.number(one.run_id), one.failures, one.attempts]
