"""Where a lab's nights have led, as plain JSON: `dump` and `load` of a `verdict.Replay`.

Feeding the nights after it to a loaded replay gives the same answers as replaying all of them. Settings and
confirmations are not in it: whoever keeps the state keeps what it was made with, too.

```json
{"version": 5, "latest": "20261121T...", "found": [0, 2], "runs": ["..."], "codes": ["..."],
 "alarms": [{"metric": "seconds", "tail": false, "judged": 812.5, "seen": [[2, 1e-05, 0.9]]}],
 "tracks": [{"key": ["lab", "job", "scenario", "arguments", "action", "seconds"], "environment": "...",
             "tail": false, "runs": 12, "change": null,
             "visits": [], "settled": false, "pending": null}],
 "canaries": [],
 "values": {"run": "...", "code": "...", "log": "...", "error": "...", "quantiles": "...", "shapes": "...",
            "measured": [[17, 0.0]]}}
```
The `runs` of a track, and those `after` its change, are so many rows of `values`, track after track. Its
columns are numbers side by side in memory, in base64: a lab has a million of them. `run` and `code` are
numbers in `runs` and `codes`, `log` and `error` those of the location; `quantiles` says how many of `shapes`
are the run's; `measured` holds [row, what was measured] where that is another value than the location. Of a
failure rate a run is [number in `runs`, failures, attempts].
"""

from __future__ import annotations

import gc
import sys
from array import array
from base64 import b64decode, b64encode
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from perfci.analysis.evidence import RunValue
from perfci.analysis.facts import TrackKey
from perfci.analysis.failures import FailureTally, FailureTrack
from perfci.analysis.level_rule import CANARY_RULE
from perfci.analysis.level_track import LevelTrack, OpenChange, PendingChange
from perfci.analysis.p_calibration import Alarm, FalseAlarms
from perfci.analysis.replay import Replay
from perfci.analysis.tracks import new_track
from perfci.results.model import Metric, SeriesKey

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from perfci.analysis.settings import AnalysisSettings

VERSION = 5
"""Changes whenever a state written before would give other answers: also with the rules of the verdict."""


_COLUMNS = {"run": "i", "code": "i", "log": "d", "error": "d", "quantiles": "B", "shapes": "d"}
"""The columns of `values`, with the type of their numbers as `array` calls it."""


@dataclass(slots=True)
class _Names:
    """Strings by number, so that each stands in the file once."""

    known: dict[str, int] = field(default_factory=dict)

    def number(self, name: str) -> int:
        return self.known.setdefault(name, len(self.known))


@dataclass(slots=True)
class _Columns:
    """The run values of all tracks, one after the other."""

    runs: _Names
    codes: _Names
    columns: dict[str, array[Any]] = field(
        default_factory=lambda: {name: array(kind) for name, kind in _COLUMNS.items()}
    )
    measured: list[tuple[int, float]] = field(default_factory=list)

    def take(self, values: Sequence[RunValue]) -> int:
        """Add some values; return how many they were."""
        columns = self.columns
        for one in values:
            if one.measured is not None:
                self.measured.append((len(columns["log"]), one.measured))
            columns["run"].append(self.runs.number(one.run_id))
            columns["code"].append(self.codes.number(one.code))
            columns["log"].append(one.log)
            columns["error"].append(one.error)
            columns["quantiles"].append(len(one.shape))
            columns["shapes"].extend(one.shape)
        return len(values)

    def as_dict(self) -> dict[str, Any]:
        """Return the columns as JSON."""
        texts = {name: b64encode(_little(column).tobytes()).decode() for name, column in self.columns.items()}
        return {**texts, "measured": self.measured}


def _little(column: array[Any]) -> array[Any]:
    """Return numbers with the least significant byte first, whatever the machine."""
    if sys.byteorder == "big":
        column = array(column.typecode, column)
        column.byteswap()
    return column


def _values(document: dict[str, Any], runs: Sequence[str], codes: Sequence[str]) -> Iterator[RunValue]:
    """Return the run values that `_Columns` wrote, one by one."""
    found = {name: array(kind) for name, kind in _COLUMNS.items()}
    for name, column in found.items():
        column.frombytes(b64decode(document[name], validate=True))
    measured = {int(row): float(value) for row, value in document["measured"]}
    shapes = iter(_little(found.pop("shapes")))
    columns = [_little(column) for column in found.values()]
    for row, (run, code, log, error, quantiles) in enumerate(zip(*columns, strict=True)):
        shape = tuple(islice(shapes, quantiles)) if quantiles else ()
        yield RunValue(runs[run], log, error, shape, codes[code], measured.get(row))


def dump(replay: Replay, *, since: str = "") -> dict[str, Any]:
    """Return the state as JSON; series that were last measured before the run `since` are left out.

    So are the runs of a series that no later night needs: a lab of any age has a state of the same size.
    """
    runs = _Names()
    values = _Columns(runs, _Names())
    return {
        "version": VERSION,
        "latest": replay.latest,
        "found": replay.found,
        "alarms": [
            {"metric": metric, "tail": tail, "judged": alarms.judged, "seen": [list(a) for a in alarms.seen]}
            for (metric, tail), alarms in replay.alarms.items()
        ],
        "tracks": [
            _part(part) | _track(track, runs, values)
            for part, track in replay.tracks.items()
            if _last(track) >= since
        ],
        "canaries": [
            _part(part) | _track(track, runs, values)
            for part, track in replay.canaries.items()
            if _last(track) >= since
        ],
        "runs": list(runs.known),
        "codes": list(values.codes.known),
        "values": values.as_dict(),
    }


def load(state: object, settings: AnalysisSettings) -> Replay:
    """Return the replay that was written down; raises ValueError for another version or anything else."""
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise ValueError("not a state of this version")
    try:
        with _without_collection():
            return _replay(state, settings)
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise ValueError(f"a damaged state: {error!r}") from error


@contextmanager
def _without_collection() -> Iterator[None]:
    """Make many objects, none of which is garbage, without looking through all of them again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _replay(state: dict[str, Any], settings: AnalysisSettings) -> Replay:
    runs = state["runs"]
    values = _values(state["values"], runs, state["codes"])
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
            _fill_level(track, one, values)
        replay.tracks[part] = track
    for one in state["canaries"]:
        canary = LevelTrack(CANARY_RULE, settings)
        _fill_level(canary, one, values)
        replay.canaries[_read_part(one)] = canary
    if next(values, None) is not None:
        raise ValueError("more values than the tracks have")
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


def _track(track: LevelTrack | FailureTrack, runs: _Names, values: _Columns) -> dict[str, Any]:
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
        "runs": values.take(track.runs[-track.needed_later :]),
        "change": change
        and {
            "worse": change.worse,
            "after": values.take(change.after),
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


def _fill_level(track: LevelTrack, one: dict[str, Any], values: Iterator[RunValue]) -> None:
    track.runs = _next(values, one["runs"])
    if change := one["change"]:
        after = _next(values, change["after"])
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


def _next(values: Iterator[RunValue], number: int) -> list[RunValue]:
    found = list(islice(values, number))
    if len(found) < number:
        raise ValueError("fewer values than the tracks have")
    return found


def _tally(one: FailureTally, runs: _Names) -> list[int]:
    return [runs.number(one.run_id), one.failures, one.attempts]
