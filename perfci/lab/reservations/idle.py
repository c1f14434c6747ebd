"""Reservations that nobody works on: who looks at which, since when it is idle, and when it ends for that."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from perfci.database.schema import reservation
from perfci.lab.reservations.model import BookingState

if TYPE_CHECKING:
    from datetime import datetime

    from perfci.lab.reservations.model import Booking
    from perfci.lab.reservations.service import Reservations

LOOK_EVERY = timedelta(minutes=10)
UNSEEN = timedelta(hours=1)
"""Where nobody looked for so long, somebody may have worked meanwhile: idle time begins again."""


@dataclass(frozen=True, slots=True)
class IdlePolicy:
    """After how long the holder is warned, and after how long the nodes are taken back; None: never."""

    warn: timedelta | None = None
    end: timedelta | None = None


def idle_since(booking: Booking) -> datetime | None:
    """Return since when nobody works on a reservation, as far as it was seen; None where somebody does."""
    begun = booking.active_at or booking.ready_at
    if booking.state is not BookingState.READY or begun is None or booking.looked_at is None:
        return None
    return begun if booking.looked_at > begun else None


def idle_for(booking: Booking) -> timedelta:
    """Return for how long nobody was seen at work; only what was looked at counts."""
    since = idle_since(booking)
    return timedelta() if since is None or booking.looked_at is None else booking.looked_at - since


class Looks:
    """The looks at one lab's reservations: of people who have machines."""

    def __init__(self, reservations: Reservations, worker: str) -> None:
        self._service = reservations
        self._worker = worker

    def due(self, limit: int) -> tuple[str, ...]:
        """Take the looks that are due, for this controller alone; return the ids of the reservations."""
        with self._service.order() as (store, now):
            table = reservation.c
            ready = store.bookings(
                (table.state == str(BookingState.READY))
                & table.owner_pid.is_(None)
                & table.job.is_(None)
                & (table.claimed_until.is_(None) | (table.claimed_until <= now)),
            )
            found = [one.id for one in ready if self._service.machines(one.nodes)][:limit]
            for one in found:
                store.change(one, claimed_by=self._worker, claimed_until=now + LOOK_EVERY)
            return tuple(found)

    def seen(self, reservation_id: str, *, active: bool) -> None:
        """Write down what a look has shown; after UNSEEN without one it begins again as one at work."""
        with self._service.order() as (store, now):
            found = store.booking(reservation_id)
            if found is None or found.state is not BookingState.READY:
                return
            known = max(filter(None, (found.looked_at, found.ready_at)), default=None)
            if active or known is None or now - known > UNSEEN:
                store.change(found.id, active_at=now, looked_at=now)
            else:
                store.change(found.id, looked_at=now)

    def end(self, policy: IdlePolicy) -> tuple[str, ...]:
        """End reservations that were idle for as long as the policy lets them be, and return their ids."""
        if policy.end is None:
            return ()
        with self._service.order() as (store, now):
            ready = store.bookings(
                (reservation.c.state == str(BookingState.READY)) & reservation.c.looked_at.is_not(None)
            )
            idle = [one for one in ready if one.owner is None and idle_for(one) >= policy.end]
            for one in idle:
                self._service.end(store, one, now, "perfci", "ended: nobody works on it")
            if idle:
                self._service.queue(store, now).move_up()
            return tuple(one.id for one in idle)
