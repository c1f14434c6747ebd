"""What each night has decided, kept for good in the controller's database: one JSON document for each run.

Later verdicts follow these documents. They are no cache and are not made again from the archive: the night's
settings and the histories of that night are in them.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from perfci.analysis.facts import facts_from_dict
from perfci.database.schema import night_facts as table
from perfci.errors import LabError
from perfci.parsing import json_value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perfci.analysis.facts import NightFacts
    from perfci.database.engine import Database
    from perfci.results.model import RunRecord


class FactsUnreadable(LabError):
    """The decisions of a night are damaged in the database."""

    template = "the decisions of the night {run_id} can't be read: {reason}"
    help = 'Bring the database back from its backup: see "The database" in docs/operator.md.'


def keep_facts(database: Database, record: RunRecord, document: Mapping[str, Any]) -> None:
    """Keep what a run's night has decided, in the place of what it decided before."""
    row = {
        "run_id": record.run_id,
        "lab": record.lab,
        "job": record.job,
        "document": zlib.compress(json.dumps(document, separators=(",", ":")).encode()),
    }
    with database.transaction() as connection:
        connection.execute(table.delete().where(table.c.run_id == record.run_id))
        connection.execute(table.insert().values(row))


def read_facts(database: Database, lab: str, job: str) -> dict[str, Any]:
    """Return what the nights of a job decided, as JSON by run id, oldest first. Raises FactsUnreadable."""
    wanted = (
        sa.select(table.c.run_id, table.c.document)
        .where(table.c.lab == lab, table.c.job == job)
        .order_by(table.c.run_id)
    )
    with database.reading() as connection:
        rows = connection.execute(wanted).all()
    return {row.run_id: _document(row.run_id, row.document) for row in rows}


class KnownFacts(NamedTuple):
    """What is known when a run is judged: the nights before it, and whether none after it was decided."""

    before: dict[str, NightFacts]
    newest: bool


def known_facts(database: Database, record: RunRecord) -> KnownFacts:
    """Return what the nights of a run's job before it have decided. Raises FactsUnreadable."""
    found = read_facts(database, record.lab, record.job)
    before = {run_id: _facts(run_id, one) for run_id, one in found.items() if run_id < record.run_id}
    return KnownFacts(before, newest=max(found, default="") <= record.run_id)


def _facts(run_id: str, document: object) -> NightFacts:
    try:
        return facts_from_dict(document)
    except ValueError as error:  # pydantic's errors are some, too
        raise FactsUnreadable(run_id=run_id, reason=str(error).splitlines()[0]) from error


def _document(run_id: str, packed: bytes) -> Any:
    try:
        return json_value(zlib.decompress(packed))
    except (zlib.error, ValueError) as error:
        raise FactsUnreadable(run_id=run_id, reason=error) from error
