"""What the analysis said of each run, in the controller's database.

One row for each run: compressed JSON. `perfci analyse RUN` makes a row again from the archive.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

import sqlalchemy as sa
from pydantic import TypeAdapter, ValidationError

# Needed at run time: judgements are read back from JSON by their types.
from perfci.analysis.types import Judgement, Outcome
from perfci.database.schema import judgement as table
from perfci.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from perfci.database.engine import Database

_JUDGEMENTS = TypeAdapter(tuple[Judgement, ...])


class JudgementDamaged(LabError):
    """What was said of a run can't be read from the database."""

    template = "the judgements of run {run_id} can't be read: {reason}"
    help = (
        "Judge the run again: `perfci analyse {run_id}`; or all that are damaged: `perfci results rebuild`."
    )


def keep_judgements(database: Database, run_id: str, judgements: Sequence[Judgement]) -> None:
    """Keep what was said of a run, in the place of what was said before."""
    document = zlib.compress(json.dumps([asdict(one) for one in judgements]).encode())
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
        return _JUDGEMENTS.validate_python(json.loads(zlib.decompress(document)))
    except (zlib.error, ValueError, ValidationError) as error:
        raise JudgementDamaged(run_id=run_id, reason=str(error).splitlines()[0]) from error


def read_outcomes(database: Database, run_ids: Collection[str]) -> dict[str, Counter[Outcome]]:
    """Return how many series of each run have each outcome, for those of the runs that were judged.

    Raises JudgementDamaged.
    """
    wanted = sa.select(table.c.run_id, table.c.document).where(table.c.run_id.in_(run_ids))
    with database.reading() as connection:
        rows = connection.execute(wanted).all()
    return {row.run_id: _outcomes(row.run_id, row.document) for row in rows}


def _outcomes(run_id: str, document: bytes) -> Counter[Outcome]:
    try:
        return Counter(Outcome(one["outcome"]) for one in json.loads(zlib.decompress(document)))
    except (zlib.error, ValueError, KeyError, TypeError) as error:
        raise JudgementDamaged(run_id=run_id, reason=str(error)) from error


def unreadable(database: Database, run_ids: Iterable[str]) -> tuple[str, ...]:
    """Return which of these runs have no judgements that can be read, in their order."""

    def is_readable(run_id: str) -> bool:
        try:
            return bool(read_judgements(database, run_id))
        except JudgementDamaged:
            return False

    return tuple(run_id for run_id in run_ids if not is_readable(run_id))
