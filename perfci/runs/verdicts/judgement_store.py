"""What the analysis said of each run, in the controller's database.

One row for each run, for good: `perfci analyse RUN` makes it again from the archive. A lab with 10,000 series
needs 1 to 2 MB a night. A row is compressed with zlib: a line of JSON with the number of series of each
outcome, then the judgements. What many of them share stands once, and what does not apply is left out:

```json
{"format": 2, "outcomes": {"no change": 211, "too noisy to tell": 4}}
{"runs": ["20261120T...", "20261121T..."], "baselines": [[0, 1]],
 "judgements": [{"key": ["lab", "job", "scenario", "arguments", "action", "seconds"], "run_id": 1,
                 "outcome": "no change", "reason": "...", "baseline": 0, "location": 0.61, "effect": 0.012}]}
```
Older rows are a list of judgements with all that is in them; they can be read, too.
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
    from collections.abc import Collection, Iterable, Sequence

    from perfci.database.engine import Database

_JUDGEMENTS = TypeAdapter(tuple[Judgement, ...])
_FORMAT = 2
_COMPACT = (",", ":")
_HEAD = 4096
"""The head of a row is shorter than this."""
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
    head = json.dumps({"format": _FORMAT, "outcomes": count})
    document = zlib.compress(f"{head}\n{json.dumps(_packed(judgements), separators=_COMPACT)}".encode())
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
    wanted = sa.select(table.c.run_id, table.c.document).where(table.c.run_id.in_(run_ids))
    with database.reading() as connection:
        rows = connection.execute(wanted).all()
    return {row.run_id: _outcomes(row.run_id, row.document) for row in rows}


def judgement_digests(database: Database, run_ids: Collection[str]) -> dict[str, str]:
    """Return a digest over what was said of each of these runs that was judged; nothing is parsed."""
    wanted = sa.select(table.c.run_id, table.c.document).where(table.c.run_id.in_(run_ids))
    with database.reading() as connection:
        rows = connection.execution_options(yield_per=1).execute(wanted)
        return {row.run_id: hashlib.blake2b(row.document, digest_size=12).hexdigest() for row in rows}


def _outcomes(run_id: str, document: bytes) -> Counter[Outcome]:
    try:
        head, line_end, _ = zlib.decompressobj().decompress(document, _HEAD).partition(b"\n")
        if line_end:
            counts = json_value(head)["outcomes"]
            return Counter({Outcome(outcome): int(number) for outcome, number in counts.items()})
        return Counter(Outcome(one["outcome"]) for one in _listed(json_value(zlib.decompress(document))))
    except (zlib.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise JudgementDamaged(run_id=run_id, reason=str(error)) from error


def _listed(found: object) -> list[Any]:
    if not isinstance(found, list):
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
