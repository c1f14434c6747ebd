"""The book of reservations in the controller's database."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from perfci.database import schema
from perfci.database.engine import open_database
from perfci.lab import inventory
from perfci.lab.ledger import Book, Ledger
from perfci.lab.model import Owner, Quarantine, Reservation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from perfci.config import Settings
    from perfci.database.engine import Database
    from perfci.lab.model import Node


class SqlLedger(Ledger):
    """A book in a database. Every method raises DatabaseUnavailable where the database does not answer."""

    def __init__(
        self,
        database: Database,
        lab: str,
        nodes: Iterable[Node],
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(lab, nodes, clock=clock)
        self._database = database

    @contextmanager
    def _transaction(self) -> Iterator[Book]:
        with self._database.transaction() as connection:
            yield _SqlBook(connection, self.lab)


def open_ledger(settings: Settings) -> SqlLedger:
    """Open the book of the lab that the settings name.

    Raises DatabaseUnavailable, DatabaseTooNew, InventoryInvalid, SecretUnreadable.
    """
    database = open_database(settings)
    return SqlLedger(database, settings.lab, inventory.nodes(settings.inventory_dir))


class _SqlBook:
    def __init__(self, connection: sa.Connection, lab: str) -> None:
        self._connection = connection
        self._lab = lab

    def unreleased(self) -> list[Reservation]:
        return self._read(schema.reservation.c.released_at.is_(None))

    def find(self, reservation_id: str) -> Reservation | None:
        return next(iter(self._read(schema.reservation.c.id == reservation_id)), None)

    def add(self, reservation: Reservation) -> None:
        owner = reservation.owner
        self._connection.execute(
            schema.reservation.insert().values(
                id=reservation.id,
                lab=reservation.lab,
                nodes=list(reservation.nodes),
                holder=reservation.holder,
                purpose=reservation.purpose,
                starts_at=reservation.starts_at,
                ends_at=reservation.ends_at,
                released_at=reservation.released_at,
                owner_host=owner.host if owner else None,
                owner_boot=owner.boot if owner else None,
                owner_pid=owner.pid if owner else None,
                owner_started_ticks=owner.started_ticks if owner else None,
            )
        )

    def mark_released(self, reservation_id: str, when: datetime) -> None:
        mine = (schema.reservation.c.id == reservation_id) & (schema.reservation.c.lab == self._lab)
        self._connection.execute(schema.reservation.update().where(mine).values(released_at=when))

    def mark_extended(self, reservation_id: str, until: datetime) -> None:
        mine = (schema.reservation.c.id == reservation_id) & (schema.reservation.c.lab == self._lab)
        self._connection.execute(schema.reservation.update().where(mine).values(ends_at=until))

    def quarantined(self) -> list[Quarantine]:
        mine = sa.select(schema.quarantine).where(schema.quarantine.c.lab == self._lab)
        rows = self._connection.execute(mine).mappings()
        return [Quarantine(row["node"], row["reason"], row["since"]) for row in rows]

    def quarantine(self, entry: Quarantine) -> None:
        self._connection.execute(
            schema.quarantine.insert().values(
                lab=self._lab, node=entry.node, reason=entry.reason, since=entry.since
            )
        )

    def restore(self, node: str) -> None:
        mine = (schema.quarantine.c.lab == self._lab) & (schema.quarantine.c.node == node)
        self._connection.execute(schema.quarantine.delete().where(mine))

    def _read(self, condition: sa.ColumnElement[bool]) -> list[Reservation]:
        mine = sa.select(schema.reservation).where(schema.reservation.c.lab == self._lab, condition)
        return [_from_row(row) for row in self._connection.execute(mine).mappings()]


def _from_row(row: sa.RowMapping) -> Reservation:
    owner = None
    if row["owner_pid"] is not None:
        owner = Owner(row["owner_host"], row["owner_boot"], row["owner_pid"], row["owner_started_ticks"])
    names = ("id", "lab", "holder", "purpose", "starts_at", "ends_at", "released_at")
    return Reservation(**{name: row[name] for name in names}, nodes=tuple(row["nodes"]), owner=owner)
