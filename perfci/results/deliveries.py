"""Which archived runs a store has, in the controller's database."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import sqlalchemy as sa

from perfci.database.engine import LockHeld
from perfci.database.schema import delivery
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

    def add(self, store: str, run_id: str) -> None:
        """Enter a run; on return it is on the disk. No effect where it is entered already."""
        mine = (delivery.c.store == store) & (delivery.c.run_id == run_id)
        with self._database.transaction() as connection:
            if connection.scalar(sa.select(delivery.c.run_id).where(mine)) is None:
                connection.execute(delivery.insert().values(store=store, run_id=run_id))

    def forget(self, store: str, run_id: str | None = None) -> int:
        """Take a run out, or all of them, to be delivered again; return how many there were."""
        mine = delivery.c.store == store
        if run_id is not None:
            mine &= delivery.c.run_id == run_id
        with self._database.transaction() as connection:
            return connection.execute(delivery.delete().where(mine)).rowcount

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
