"""What the analysis said of each run, in the controller's database.

One row for each run, for good: `perfci analyse RUN` makes it again from the archive. A lab with 10,000 series
needs 1 to 2 MB a night. A row is compressed with zlib: a line of JSON with the number of series of each
outcome and a digest of what follows, then the judgements. Lists of runs read this line alone, whatever the
number of series. What many judgements share stands once, and what does not apply is left out:

```json
{"format": 2, "outcomes": {"no change": 211, "too noisy to tell": 4}, "digest": "0f3c..."}
{"runs": ["20261120T...", "20261121T..."], "baselines": [[0, 1]],
 "judgements": [{"key": ["lab", "job", "scenario", "arguments", "action", "seconds"], "run_id": 1,
                 "outcome": "no change", "reason": "...", "baseline": 0, "location": 0.61, "effect": 0.012}]}
```
Older rows have no digest, or are a list of judgements with all that is in them; they can be read, too.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import Counter
from dataclasses import MISSING, asdict, astuple, fields
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from pydantic import TypeAdapter, ValidationError

# Needed at run time: judgements are read back from JSON by their types.
from perfci.analysis.types import Judgement, Outcome
from perfci.database.schema import judgement as table
from perfci.errors import LabError
from perfci.parsing import json_value
from perfci.results.model import SeriesKey

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from perfci.database.engine import Database

_JUDGEMENTS = TypeAdapter(tuple[Judgement, ...])
_FORMAT = 2
_COMPACT = (",", ":")
_HEAD = 4096
"""The head of a row is shorter than this, compressed or not."""
_FIELDS = tuple(field.name for field in fields(Judgement))
_DEFAULTS = {field.name: field.default for field in fields(Judgement) if field.default is not MISSING}
_KEY_FIELDS = tuple(field.name for field in fields(SeriesKey))


class JudgementDamaged(LabError):
    """The judgements of a run can't be read from the database."""

    template = "the judgements of run {run_id} can't be read: {reason}"
    help = "`perfci analyse {run_id}` judges the run again; `perfci results rebuild` judges all damaged ones."


def keep_judgements(database: Database, run_id: str, judgements: Sequence[Judgement]) -> None:
    """Keep what was said of a run, in the place of what was said before."""
    count = Counter(str(one.outcome) for one in judgements)
    body = json.dumps(_packed(judgements), separators=_COMPACT).encode()
    head = json.dumps({"format": _FORMAT, "outcomes": count, "digest": _digest(body)})
    document = zlib.compress(head.encode() + b"\n" + body)
    with database.transaction() as connection:
        connection.execute(table.delete().where(table.c.run_id == run_id))
        connection.execute(table.insert().values(run_id=run_id, document=document))


def read_judgements(database: Database, run_id: str) -> tuple[Judgement, ...]:
    """Return what was said of a run; nothing where it was not judged. Raises JudgementDamaged."""
    with database.reading() as connection:
        document = connection.scalar(sa.select(table.c.document).where(table.c.run_id == run_id))
    if document is None:
        return ()
    try:
        head, _, body = zlib.decompress(document).partition(b"\n")
        found = json_value(head)
        return _JUDGEMENTS.validate_python(found if isinstance(found, list) else _unpacked(json_value(body)))
    except (zlib.error, ValueError, ValidationError, LookupError, TypeError, AttributeError) as error:
        raise JudgementDamaged(run_id=run_id, reason=str(error).splitlines()[0]) from error


def read_outcomes(database: Database, run_ids: Collection[str]) -> dict[str, Counter[Outcome]]:
    """Return how many series of each run have each outcome, for those of the runs that were judged.

    Raises JudgementDamaged.
    """
    return {
        run_id: _counted(run_id, head) if head else _counted_whole(run_id, document)
        for run_id, head, document in _heads(database, run_ids)
    }


def judged_runs(database: Database, run_ids: Collection[str]) -> frozenset[str]:
    """Return those of these runs that were judged; nothing else is read."""
    with database.reading() as connection:
        return frozenset(connection.scalars(sa.select(table.c.run_id).where(table.c.run_id.in_(run_ids))))


def judgement_digests(database: Database, run_ids: Collection[str]) -> dict[str, str]:
    """Return a digest over what was said of each of these runs that was judged; nothing is parsed."""
    return {
        run_id: str(head["digest"]) if "digest" in head else _digest(document)
        for run_id, head, document in _heads(database, run_ids, needed="digest")
    }


def _heads(
    database: Database, run_ids: Collection[str], *, needed: str = "outcomes"
) -> Iterator[tuple[str, dict[str, Any], bytes]]:
    """Yield the heads of rows with their runs, without the rest of the row.

    A row whose head does not have what is `needed` comes with an empty head and as a whole.
    """
    begin = sa.func.substr(table.c.document, 1, _HEAD, type_=sa.LargeBinary)
    wanted = sa.select(table.c.run_id, begin.label("begin")).where(table.c.run_id.in_(run_ids))
    with database.reading() as connection:
        rows = connection.execute(wanted).all()
    older = []
    for row in rows:
        head = _head(row.begin)
        if needed in head:
            yield row.run_id, head, b""
        else:
            older.append(row.run_id)
    for run_id in older:
        with database.reading() as connection:
            document = connection.scalar(sa.select(table.c.document).where(table.c.run_id == run_id))
        if document is not None:
            yield run_id, {}, document


def _head(begin: bytes) -> dict[str, Any]:
    """Return the head of a row, given how the row begins; empty where it has none or is damaged."""
    try:
        line, line_end, _ = zlib.decompressobj().decompress(begin, _HEAD).partition(b"\n")
        found = json_value(line) if line_end else {}
    except (zlib.error, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _counted(run_id: str, head: Mapping[str, Any]) -> Counter[Outcome]:
    try:
        return Counter({Outcome(outcome): int(number) for outcome, number in head["outcomes"].items()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise JudgementDamaged(run_id=run_id, reason=str(error)) from error


def _counted_whole(run_id: str, document: bytes) -> Counter[Outcome]:
    """Count the outcomes of a row without a head."""
    try:
        return Counter(Outcome(one["outcome"]) for one in _listed(zlib.decompress(document)))
    except (zlib.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise JudgementDamaged(run_id=run_id, reason=str(error)) from error


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=12).hexdigest()


def _listed(whole: bytes) -> list[Any]:
    found = json_value(whole)
    if b"\n" in whole or not isinstance(found, list):
        raise TypeError("neither judgements nor their head")
    return found


def _packed(judgements: Sequence[Judgement]) -> dict[str, Any]:
    """Return judgements as JSON; runs and baselines are numbers in lists of them."""
    runs: dict[str, int] = {}
    baselines: dict[tuple[str, ...], int] = {}
    found = []
    for one in judgements:
        said = {name: value for name in _FIELDS if (value := getattr(one, name)) != _DEFAULTS.get(name)}
        said["key"] = list(astuple(one.key))
        said["run_id"] = runs.setdefault(one.run_id, len(runs))
        if one.baseline:
            said["baseline"] = baselines.setdefault(one.baseline, len(baselines))
        if one.confirmation is not None:
            said["confirmation"] = asdict(one.confirmation)
        found.append(said)
    numbered = [[runs.setdefault(run, len(runs)) for run in baseline] for baseline in baselines]
    return {"runs": list(runs), "baselines": numbered, "judgements": found}


def _unpacked(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return judgements with all that `_packed` has put elsewhere."""
    runs = document["runs"]
    baselines = [tuple(runs[number] for number in baseline) for baseline in document["baselines"]]
    found = []
    for one in document["judgements"]:
        key = dict(zip(_KEY_FIELDS, one["key"], strict=True))
        baseline = baselines[one["baseline"]] if "baseline" in one else ()
        found.append({**one, "key": key, "run_id": runs[one["run_id"]], "baseline": baseline})
    return found


def unreadable(database: Database, run_ids: Iterable[str]) -> tuple[str, ...]:
    """Return which of these runs have no judgements that can be read, in their order."""

    def is_readable(run_id: str) -> bool:
        try:
            return bool(read_judgements(database, run_id))
        except JudgementDamaged:
            return False

    return tuple(run_id for run_id in run_ids if not is_readable(run_id))
