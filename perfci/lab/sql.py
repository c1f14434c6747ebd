"""The book of reservations in the controller's database."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from perfci.database import schema
from perfci.database.engine import open_database
from perfci.lab.ledger import Book, Ledger
from perfci.lab.model import Quarantine, Reservation
from perfci.lab.node_cache import nodes_of
from perfci.lab.reservations.model import Booking, BookingState, NodeWish, Place, Priority
from perfci.lab.reservations.nights import adopt
from perfci.lab.reservations.store import ReservationRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import sqlalchemy as sa

    from perfci.config import Settings
    from perfci.database.engine import Database
    from perfci.lab.model import Node, Owner


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
    return SqlLedger(database, settings.lab, nodes_of(settings))


class _SqlBook:
    def __init__(self, connection: sa.Connection, lab: str) -> None:
        self._connection = connection
        self._lab = lab
        self._store = ReservationRows(connection, lab)

    def unreleased(self, until: datetime | None = None) -> list[Reservation]:
        open_ones: sa.ColumnElement[bool] = schema.reservation.c.released_at.is_(None)
        if until is not None:
            open_ones &= schema.reservation.c.starts_at < until
        return [_reservation(one) for one in self._store.bookings(open_ones) if one.nodes]

    def find(self, reservation_id: str) -> Reservation | None:
        found = self._store.booking(reservation_id)
        return None if found is None else _reservation(found)

    def add(self, reservation: Reservation) -> None:
        starts_at, ends_at = reservation.starts_at, reservation.ends_at
        self._store.add(
            Booking(
                id=reservation.id,
                lab=reservation.lab,
                holder=reservation.holder,
                purpose=reservation.purpose,
                state=BookingState.READY,
                priority=Priority.PEOPLE if reservation.owner is None else Priority.NIGHT,
                firm=True,
                asked_at=starts_at,
                earliest_at=starts_at,
                starts_at=starts_at,
                ends_at=ends_at,
                ready_at=starts_at,
                wish=NodeWish(len(reservation.nodes), frozenset(reservation.nodes)),
                places=tuple(Place(node, starts_at, ends_at) for node in reservation.nodes),
                owner=reservation.owner,
            )
        )
        self._store.note(reservation.id, starts_at, reservation.holder, "taken", reservation.purpose)

    def mark_released(self, reservation_id: str, when: datetime, *, reclaim: bool, killed: bool) -> None:
        found = self._store.booking(reservation_id)
        touched = found is not None and found.state in {BookingState.PREPARING, BookingState.READY}
        # A night that lives cleans up after itself. A person may have left anything, also with `lab run`.
        people = found is not None and found.priority is Priority.PEOPLE and (reclaim or bool(found.cloud))
        left = people or (killed and reclaim)
        state = BookingState.ENDING if touched and left else BookingState.OVER
        self._store.change(
            reservation_id, released_at=when, state=str(state), claimed_by=None, claimed_until=None
        )
        self._store.end_places(reservation_id, when)
        missed = found is not None and found.job is not None and found.ready_at is None
        self._store.note(reservation_id, when, "perfci", "missed" if missed else "released")

    def mark_extended(self, reservation_id: str, until: datetime) -> None:
        self._store.change(reservation_id, ends_at=until)
        self._store.move_end(reservation_id, until)

    def adopt(self, reservation_id: str, owner: Owner, purpose: str, now: datetime) -> None:
        adopt(self._store, reservation_id, owner, now)
        self._store.change(reservation_id, purpose=purpose)

    def quarantined(self) -> list[Quarantine]:
        return list(self._store.quarantined().values())

    def quarantine(self, entry: Quarantine) -> None:
        self._connection.execute(
            schema.quarantine.insert().values(
                lab=self._lab, node=entry.node, reason=entry.reason, since=entry.since
            )
        )

    def restore(self, node: str) -> None:
        mine = (schema.quarantine.c.lab == self._lab) & (schema.quarantine.c.node == node)
        self._connection.execute(schema.quarantine.delete().where(mine))


def _reservation(one: Booking) -> Reservation:
    """Return what the book of leases knows of a reservation."""
    return Reservation(
        id=one.id,
        lab=one.lab,
        nodes=one.nodes,
        holder=one.holder,
        purpose=one.purpose,
        starts_at=one.starts_at,
        ends_at=one.ends_at,
        owner=one.owner,
        released_at=one.released_at,
    )
