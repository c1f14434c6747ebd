"""What a job measures: Rally's tasks, the migrations of databases, or an upgrade; and what each needs.

A procedure says which playbooks the stages `deploy` and `hammer` run. `hammer` writes tasks.json and Rally's
reports, the others write phases.json; from there on all runs are alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from perfci.results.model import Metric  # noqa: TC001 - pydantic reads annotations
from perfci.runs.jobs.fields import Part

if TYPE_CHECKING:
    from perfci.results.model import SeriesKey

Name = Literal["hammer", "dbmigration", "upgrade"]
Database = Literal["keystone", "placement", "glance", "nova_api", "nova_cell1", "neutron"]
Table = Annotated[str, Field(pattern=r"^\w+$")]
Multiple = Annotated[float, Field(gt=0, le=1000)]
Rows = Annotated[int, Field(strict=True, ge=1, le=10_000_000)]


class Seeded(Part):
    """One database: the schema it starts with, and what is in it before it is migrated."""

    start: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")], ...] = ()
    """Alembic revisions of the schema to begin with; left out: the first one that the service has."""
    tables: dict[Table, Multiple] = Field(default={})
    """Rows of each table, as a multiple of the size. What these refer to is filled as needed."""
    dump: Annotated[str, Field(min_length=1)] | None = None
    """An SQL dump (`.sql`, `.sql.gz`) in place of generated rows, relative to the project's folder."""


class DbMigration(Part):
    """Databases that are filled and then migrated, revision by revision."""

    databases: Annotated[dict[Database, Seeded], Field(min_length=1)]
    """In the order in which they are migrated."""
    sizes: Annotated[tuple[Rows, ...], Field(min_length=1, max_length=5)] = (500, 2000, 8000)
    """Rows of a table whose multiple is 1; every database is migrated once with each size."""
    deleted: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Share of soft-deleted rows, in tables that have such."""
    seed: Annotated[int, Field(strict=True, ge=0)] = 1
    """The same seed makes the same rows."""
    timeout_seconds: Annotated[int, Field(strict=True, ge=1, le=86_400)] = 1800
    """How long one database of one size may take, in seconds."""


class KnownChange(Part):
    """Series that may be slower than they were, as somebody knows and works on it."""

    action: Annotated[str, Field(min_length=1)]
    """The action, `*` for any part of it: `nova.960aac0e09ea*`."""
    metric: Metric | None = None
    """Only this metric; left out: all of them."""
    bug: Annotated[str, Field(pattern=r"^https?://\S+$")]
    """Where it is worked on; stands in what is said of the series."""

    def covers(self, key: SeriesKey) -> bool:
        """Say whether a series is one of these."""
        return fnmatchcase(key.action, self.action) and self.metric in (None, key.metric)


@dataclass(frozen=True, slots=True)
class Procedure:
    """The playbooks of the two stages in which procedures differ."""

    deploy: tuple[str, ...]
    hammer: str


PROCEDURES: dict[Name, Procedure] = {
    "hammer": Procedure(("deploy",), "hammer"),
    "dbmigration": Procedure(("databases",), "dbmigration"),
    "upgrade": Procedure(("upgrade_code", "deploy"), "upgrade"),
}
