"""A job's nights as the verdict knows them, kept from run to run: only new nights are judged again.

The row in the database is a cache. It holds the state as of the run before the last one that was judged, so
that a run can be judged again at once, when re-runs have answered something about it. It is used only where
it was made by this version, with these settings and accepted changes, from these very runs and answers; else
the nights are replayed. They follow what was decided in them (`analysis.facts`), so the result is the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from perfci.analysis.replay import Replay
from perfci.analysis.state import dump, load
from perfci.analysis.verdict import feed, follow
from perfci.database.errors import DatabaseUnavailable
from perfci.database.schema import verdict_cache as table
from perfci.parsing import json_value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from perfci.analysis.facts import Facts, NightFacts
    from perfci.analysis.settings import AnalysisSettings
    from perfci.analysis.types import Confirmation, Judgement, SeriesHistory
    from perfci.database.engine import Database
    from perfci.results.model import RunRecord, SeriesKey

    Loader = Callable[[Sequence[RunRecord]], Sequence[SeriesHistory]]


_NIGHTS_AT_ONCE = 10
"""How many nights of all series are held at a time."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a verdict depends on beside the runs."""

    settings: AnalysisSettings
    accepted: Mapping[SeriesKey, str]
    confirmations: Mapping[tuple[SeriesKey, str], Confirmation]
    places: Mapping[str, tuple[str, bool]]
    """What each run can be compared within, and whether it counts (`validity.comparable`)."""
    facts: Facts
    """What earlier nights have decided, and what people accepted since."""

    @property
    def digest(self) -> str:
        """A digest of the settings and of what was accepted."""
        return _digest(self.settings, sorted(self.accepted.items()), sorted(self.facts.accepted.items()))


@dataclass(frozen=True, slots=True)
class CacheRow:
    """The cache of one job on one lab."""

    database: Database
    lab: str
    job: str

    def content(self) -> dict[str, Any]:
        """Return what is kept; empty where there is nothing, or it can't be read."""
        with self.database.reading() as connection:
            document = connection.scalar(sa.select(table.c.document).where(*self._mine))
        try:
            found = json_value(zlib.decompress(document or b""))
        except (zlib.error, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def keep(self, content: dict[str, Any]) -> None:
        """Keep something else; a full disk costs time next night, and nothing else."""
        packed = zlib.compress(json.dumps(content, separators=(",", ":")).encode(), level=1)
        row = {"lab": self.lab, "job": self.job, "document": packed}
        with contextlib.suppress(DatabaseUnavailable), self.database.transaction() as connection:
            connection.execute(table.delete().where(*self._mine))
            connection.execute(table.insert().values(row))

    @property
    def _mine(self) -> tuple[sa.ColumnElement[bool], ...]:
        return (table.c.lab == self.lab, table.c.job == self.job)


def forget_all(database: Database) -> None:
    """Throw every cache away: the next verdict of each job replays its nights, with the same result."""
    with database.transaction() as connection:
        connection.execute(table.delete())


def judge_last(
    row: CacheRow, records: Sequence[RunRecord], rules: Rules, *, series: Loader, canaries: Loader
) -> tuple[tuple[Judgement, ...], tuple[NightFacts, ...]]:
    """Judge every series of the last of a job's runs against the runs before it.

    `records` are the runs, oldest first; `series` and `canaries` fetch the histories through some of them.
    Returned beside the judgements is what was decided: of the last run, and of nights without facts.
    """
    tonight = records[-1].run_id
    kept = _read(row, records, rules)
    replay, known = kept or (Replay(rules.settings), ())
    replay.confirmations, replay.facts = rules.confirmations, rules.facts
    new = [record for record in records if record.run_id > (known[-1] if known else "")]
    for start in range(0, len(new) - 1, _NIGHTS_AT_ONCE):
        nights = new[:-1][start : start + _NIGHTS_AT_ONCE]
        until = nights[-1].run_id
        feed(replay, series(nights), rules.accepted, canaries(nights), tonight=tonight, until=until)
    # A night that is judged again, as after its re-runs, finds the state before it as it is.
    is_behind = len(new) > 1 if kept is not None else not _is_newer(row, tonight)
    if is_behind:
        _write(row, records[:-1], rules, replay)
    judgements = follow(replay, series(records[-1:]), rules.accepted, canaries(records[-1:]))
    return judgements, tuple(replay.decided)


def _read(row: CacheRow, records: Sequence[RunRecord], rules: Rules) -> tuple[Replay, tuple[str, ...]] | None:
    """Return the state before the last run with the runs that it knows; None where it can't be used."""
    found = row.content()
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


def _is_newer(row: CacheRow, run_id: str) -> bool:
    """Tell whether the cache knows this run or later ones: judging an old run again must not turn it back."""
    try:
        return bool(max(night[0] for night in row.content()["nights"]) >= run_id)
    except (KeyError, TypeError, ValueError, IndexError):
        return False


def _write(row: CacheRow, records: Sequence[RunRecord], rules: Rules, replay: Replay) -> None:
    """Keep the state after these runs."""
    if not records:
        return
    content = {
        "rules": rules.digest,
        "nights": [[one.run_id, _night(one, rules)] for one in records],
        "replay": dump(replay, since=records[0].run_id),
    }
    row.keep(content)


def _night(record: RunRecord, rules: Rules) -> str:
    """Return a digest of all that the verdict takes from a run's record, and of what re-runs said of it."""
    answers = sorted(
        (key, answer) for (key, run_id), answer in rules.confirmations.items() if run_id == record.run_id
    )
    return _digest(rules.places[record.run_id], record.code.digest, record.status, answers)


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
