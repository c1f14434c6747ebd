"""Which archived runs a store has, in the controller's database."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import sqlalchemy as sa

from perfci.database.engine import LockHeld
from perfci.database.schema import delivery, delivery_refusal
from perfci.results.errors import DeliveriesUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfci.database.engine import Database

_LOCK = "deliveries"


class DeliveryLedger:
    """The deliveries that were completed. A run is entered after the store took it, never before.

    A run that is missing here is delivered again, which changes nothing in a store. Every method raises
    DatabaseUnavailable.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def delivered(self, store: str) -> frozenset[str]:
        """Return the ids of the runs that a store (its `identity`) has."""
        with self._database.reading() as connection:
            return frozenset(
                connection.scalars(sa.select(delivery.c.run_id).where(delivery.c.store == store))
            )

    def refused(self, store: str) -> dict[str, str]:
        """Return the runs that a store refuses for good, with what it said of each."""
        wanted = sa.select(delivery_refusal.c.run_id, delivery_refusal.c.reason)
        with self._database.reading() as connection:
            rows = connection.execute(wanted.where(delivery_refusal.c.store == store)).all()
        return {row.run_id: row.reason for row in rows}

    def refuse(self, store: str, run_id: str, reason: str) -> None:
        """Note that a store refuses a run for good, in its words; it is not tried again until `forget`."""
        with self._database.transaction() as connection:
            connection.execute(delivery_refusal.delete().where(_of(delivery_refusal, store, run_id)))
            connection.execute(delivery_refusal.insert().values(store=store, run_id=run_id, reason=reason))

    def add(self, store: str, run_id: str) -> None:
        """Enter a run; on return it is on the disk. No effect where it is entered already."""
        mine = _of(delivery, store, run_id)
        with self._database.transaction() as connection:
            if connection.scalar(sa.select(delivery.c.run_id).where(mine)) is None:
                connection.execute(delivery.insert().values(store=store, run_id=run_id))

    def forget(self, store: str, run_id: str | None = None) -> int:
        """Take a run out, or all of them, to be delivered again; return how many there were.

        Runs that were refused are tried again, too.
        """
        with self._database.transaction() as connection:
            return sum(
                connection.execute(table.delete().where(_of(table, store, run_id))).rowcount
                for table in (delivery, delivery_refusal)
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from delivering at the same time; the lock ends with the process.

        Raises DeliveriesUnavailable where another one delivers.
        """
        try:
            with self._database.lock(_LOCK, wait=False):
                yield
        except LockHeld as error:
            raise DeliveriesUnavailable from error


def _of(table: sa.Table, store: str, run_id: str | None) -> sa.ColumnElement[bool]:
    mine: sa.ColumnElement[bool] = table.c.store == store
    return mine if run_id is None else mine & (table.c.run_id == run_id)
