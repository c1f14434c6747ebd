"""A job's nights as the verdict knows them, kept from run to run: only new nights are judged again.

The file is a cache. It holds the state as of the run before the last one that was judged, so that a run can
be judged again at once, when re-runs have answered something about it. It is used only where it was made by
this version, with these settings and accepted changes, from these very runs and answers; else all nights are
replayed, with the same result.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perfci.analysis.state import dump, load
from perfci.analysis.verdict import Replay, feed, follow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from perfci.analysis.settings import AnalysisSettings
    from perfci.analysis.types import Confirmation, Judgement, SeriesHistory
    from perfci.results.model import RunRecord, SeriesKey

    Loader = Callable[[Sequence[RunRecord]], Sequence[SeriesHistory]]


@dataclass(frozen=True, slots=True)
class Rules:
    """What a verdict depends on beside the runs."""

    settings: AnalysisSettings
    accepted: Mapping[SeriesKey, str]
    confirmations: Mapping[tuple[SeriesKey, str], Confirmation]
    places: Mapping[str, tuple[str, bool]]
    """What each run can be compared within, and whether it counts (`validity.comparable`)."""

    @property
    def digest(self) -> str:
        """A digest of the settings and of what was accepted."""
        return _digest(self.settings, sorted(self.accepted.items()))


def judge_last(
    file: Path, records: Sequence[RunRecord], rules: Rules, *, series: Loader, canaries: Loader
) -> tuple[Judgement, ...]:
    """Judge every series of the last of a job's runs against the runs before it.

    `records` are the runs, oldest first; `series` and `canaries` fetch the histories through some of them.
    """
    tonight = records[-1].run_id
    kept = _read(file, records, rules)
    replay, known = kept or (Replay(rules.settings), ())
    replay.confirmations = rules.confirmations
    new = [record for record in records if record.run_id > (known[-1] if known else "")]
    histories, lab = series(new), canaries(new)
    feed(replay, histories, rules.accepted, lab, before=tonight)
    if kept is not None or not _is_newer(file, tonight):
        _write(file, records[:-1], rules, replay)
    measured = [history for history in histories if history.points[-1].run_id == tonight]
    return follow(replay, measured, rules.accepted, lab)


def _read(file: Path, records: Sequence[RunRecord], rules: Rules) -> tuple[Replay, tuple[str, ...]] | None:
    """Return the state before the last run with the runs that it knows; None where it can't be used."""
    found = _content(file)
    try:
        nights = {str(run_id): str(digest) for run_id, digest in found["nights"]}
        if found["rules"] != rules.digest or not nights or max(nights) >= records[-1].run_id:
            return None
        present = {one.run_id: _night(one, rules) for one in records if one.run_id <= max(nights)}
        if present != {run_id: digest for run_id, digest in nights.items() if run_id >= records[0].run_id}:
            return None
        return load(found["replay"], rules.settings), tuple(sorted(nights))
    except (KeyError, TypeError, ValueError):
        return None


def _is_newer(file: Path, run_id: str) -> bool:
    """Say whether the file knows this run or later ones: judging an old run again must not turn it back."""
    try:
        return bool(max(night[0] for night in _content(file)["nights"]) >= run_id)
    except (KeyError, TypeError, ValueError, IndexError):
        return False


def _content(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(file: Path, records: Sequence[RunRecord], rules: Rules, replay: Replay) -> None:
    """Keep the state after these runs; a full disk costs time next night, and nothing else."""
    if not records:
        return
    content = {
        "rules": rules.digest,
        "nights": [[one.run_id, _night(one, rules)] for one in records],
        "replay": dump(replay, since=records[0].run_id),
    }
    scratch = file.with_name(f".{file.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")
        scratch.replace(file)


def _night(record: RunRecord, rules: Rules) -> str:
    """Return a digest of all that the verdict takes from a run's record, and of what re-runs said of it."""
    answers = sorted(
        (key, answer) for (key, run_id), answer in rules.confirmations.items() if run_id == record.run_id
    )
    return _digest(rules.places[record.run_id], record.code.digest, record.status, answers)


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
