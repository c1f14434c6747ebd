"""What every order in the calendar is made of: one transaction, states that follow each other, limits."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from perfci.database import schema
from perfci.lab.errors import ReservationLimit, ReservationNotFound, ReservationOver, StateOrder
from perfci.lab.reservations.calendar import most_at_once
from perfci.lab.reservations.checks import check_may
from perfci.lab.reservations.model import Priority
from perfci.lab.reservations.queue import Queue
from perfci.lab.reservations.states import OPEN, may_follow
from perfci.lab.reservations.store import ReservationRows, ticks
from perfci.lab.reservations.views import Views

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from perfci.lab.reservations.model import Actor, Booking, BookingState


class Orders(Views):
    """What asking, changing, ending and the passing of time have in common."""

    @contextmanager
    def order(self) -> Iterator[tuple[ReservationRows, datetime]]:
        """Give the only writer's view of the lab, and the time as of the moment when its turn has come."""
        with self._database.transaction() as connection:
            yield ReservationRows(connection, self.lab), self._clock()

    def again(self, store: ReservationRows, reservation_id: str) -> Booking:
        """Return a reservation as it is now. Raises ReservationNotFound."""
        found = store.booking(reservation_id)
        if found is None:
            raise ReservationNotFound(id=reservation_id, lab=self.lab)
        return found

    def _mine(self, store: ReservationRows, reservation_id: str, actor: Actor, order: str) -> Booking:
        """Return a reservation that this actor may change, and that is not over."""
        found = self._found(store, reservation_id)
        check_may(actor, found)
        if found.state not in OPEN:
            raise ReservationOver(id=found.id, state=str(found.state), order=order)
        return found

    def to(
        self,
        store: ReservationRows,
        found: Booking,
        state: BookingState,
        now: datetime,
        *,
        actor: str = "perfci",
        action: str = "",
        **columns: object,
    ) -> None:
        """Go to another state, and write down that it did."""
        if not may_follow(found.state, state):
            raise StateOrder(id=found.id, before=found.state, after=state, why="")
        store.change(found.id, state=str(state), **columns)
        store.note(found.id, now, actor, action or str(state))

    def queue(self, store: ReservationRows, now: datetime) -> Queue:
        """Return the queue of the lab in this transaction."""
        return Queue(store, self.fits(store), now, self.policy, late=self.late(store))

    def _advance(self, store: ReservationRows, now: datetime) -> None:
        """Let the queue move up into time that came free."""
        self.queue(store, now).move_up()

    def _check_limits(self, store: ReservationRows, actor: Actor, wanted: Booking, now: datetime) -> None:
        """Raise ReservationLimit where somebody would have too much; admins and nights have no limits."""
        if actor.admin or wanted.priority is not Priority.PEOPLE:
            return
        if self.policy.open_per_person is None and self.policy.nodes_per_person is None:
            return
        table = schema.reservation.c
        # Whether one was released is not asked of the database: it has an index of who, and one of that.
        others = [
            one
            for one in store.bookings((table.holder == wanted.holder) & (table.ends_at > now))
            if one.id != wanted.id and one.released_at is None and one.priority is Priority.PEOPLE
        ]
        if (most := self.policy.open_per_person) is not None and len(others) + 1 > most:
            raise ReservationLimit(
                who=wanted.holder, limit=f"{most} open reservations", would=len(others) + 1
            )
        if (nodes := self.policy.nodes_per_person) is not None:
            mine = [(ticks(one.starts_at), ticks(one.ends_at), len(one.nodes)) for one in (*others, wanted)]
            would = most_at_once(mine, ticks(wanted.starts_at), ticks(wanted.ends_at))
            if would > nodes:
                raise ReservationLimit(who=wanted.holder, limit=f"{nodes} nodes at one time", would=would)
