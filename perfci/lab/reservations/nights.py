"""The time of planned nights in the calendar: each window is there once, and its night starts once."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from perfci.database.schema import reservation
from perfci.lab.errors import ReservationOver
from perfci.lab.reservations.model import Booking, BookingState, NodeWish, Priority
from perfci.lab.reservations.store import owner_columns

if TYPE_CHECKING:
    from datetime import datetime

    from perfci.lab.model import Owner
    from perfci.lab.reservations.service import Reservations
    from perfci.lab.reservations.store import ReservationRows

START_SECONDS = 120.0
"""How long a night that was started may take until it has its nodes; after that it is started again."""
MISSED_KEPT = 31
"""How many missed windows of a job are written down at most, after a controller was down for long."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The nights of a job: which nodes for how long, and how much of that a night needs at least."""

    job: str
    holder: str
    wish: NodeWish
    length: timedelta
    needed: timedelta
    windows: tuple[datetime, ...]
    contact: str = ""


class Nights:
    """The planned nights of one lab. Every order is one transaction, and doing it again changes nothing."""

    def __init__(self, reservations: Reservations, worker: str) -> None:
        self._service = reservations
        self._worker = worker

    def last_window(self, job: str) -> datetime | None:
        """Return the latest window of a job that is written down."""
        with self._service.reading() as store:
            known = store.bookings(reservation.c.job == job, limit=1, newest_first=True)
            return known[0].window_at if known else None

    def coming(self, job: str) -> tuple[Booking, ...]:
        """Return the nights of a job that have not begun, by their start."""
        open_ones = reservation.c.state.in_([str(BookingState.WAITING), str(BookingState.ASKED)])
        with self._service.reading() as store:
            return tuple(store.bookings((reservation.c.job == job) & open_ones))

    def plan(self, plan: Plan) -> tuple[Booking, ...]:
        """Put the windows of a job into the calendar that are not in it, and return them.

        A window in which somebody else has the nodes gets the earliest time after it. One that has passed is
        written down as missed. Windows to come that the job does not have any more are given back.
        """
        with self._service.order() as (store, now):
            # A job may have years of nights: only those are read that can be of this plan.
            since = min((*plan.windows, now))
            known = {
                one.window_at: one
                for one in store.bookings(
                    (reservation.c.job == plan.job) & (reservation.c.window_at >= since)
                )
                if one.window_at is not None
            }
            gone = 0
            for window, one in known.items():
                if (
                    one.state in {BookingState.WAITING, BookingState.ASKED}
                    and window > now
                    and window not in plan.windows
                ):
                    self._service.end(store, one, now, "perfci", "no longer scheduled")
                    gone += 1
            missing = [window for window in plan.windows if window not in known]
            past = [window for window in missing if window + plan.length - plan.needed <= now]
            made = [
                self._written(store, plan, window, now, BookingState.OVER) for window in past[-MISSED_KEPT:]
            ]
            coming = [window for window in missing if window not in past]
            made += [self._written(store, plan, window, now, BookingState.ASKED) for window in coming]
            if made or gone:
                self._service.queue(store, now).move_up()
            return tuple(self._service.again(store, one.id) for one in made)

    def move_up(self) -> None:
        """Let whoever waits move up into time that nobody told of, such as that of nodes that are new."""
        with self._service.order() as (store, now):
            self._service.queue(store, now).move_up()

    def _written(
        self, store: ReservationRows, plan: Plan, window: datetime, now: datetime, state: BookingState
    ) -> Booking:
        """Write down a window without nodes: the queue gives them to it."""
        booking = Booking(
            id=secrets.token_hex(4),
            lab=self._service.lab,
            holder=plan.holder,
            purpose=f"night of {plan.job}",
            state=state,
            priority=Priority.NIGHT,
            firm=False,
            asked_at=now,
            earliest_at=window,
            starts_at=window,
            ends_at=window + plan.length,
            wish=plan.wish,
            places=(),
            released_at=now if state is BookingState.OVER else None,
            contact=plan.contact,
            job=plan.job,
            window_at=window,
        )
        store.add(booking)
        store.note(booking.id, now, "perfci", "missed" if state is BookingState.OVER else "planned", plan.job)
        return booking

    def due(self, job: str, needed: timedelta) -> tuple[str, ...]:
        """Return the ids of the nights of a job to start now, and write down those that are too late.

        A night starts late as long as what is left of its window is enough for it.
        """
        with self._service.order() as (store, now):
            table = reservation.c
            open_ones = store.bookings(
                (table.job == job)
                & table.state.in_([str(BookingState.WAITING), str(BookingState.PREPARING)])
                & (table.starts_at <= now)
            )
            found = []
            for one in open_ones:
                if now + needed > one.ends_at:
                    self._service.end(store, one, now, "perfci", "missed")
                elif one.state is BookingState.WAITING or (
                    one.claimed_until is not None and one.claimed_until <= now
                ):
                    found.append(one.id)
            return tuple(found)

    def start(self, reservation_id: str) -> bool:
        """Take the start of a night; True for one controller, which starts its process now.

        Where that process does not come for its nodes within START_SECONDS, the start can be taken again.
        """
        with self._service.order() as (store, now):
            found = self._service.again(store, reservation_id)
            again = (
                found.state is BookingState.PREPARING
                and found.claimed_until is not None
                and found.claimed_until <= now
            )
            busy = self._service.late_nodes(store) | self._service.taken_back(store, now)
            usable = self._service.usable(store) - busy
            if not (found.state is BookingState.WAITING or again) or not usable.issuperset(found.nodes):
                return False
            until = now + timedelta(seconds=START_SECONDS)
            columns: dict[str, Any] = {"claimed_by": self._worker, "claimed_until": until}
            action = "started again" if again else str(BookingState.PREPARING)
            self._service.to(store, found, BookingState.PREPARING, now, action=action, **columns)
            return True


def adopt(store: ReservationRows, reservation_id: str, owner: Owner, now: datetime) -> Booking:
    """Give a planned night's nodes to the process that runs it: the first one that comes, and no other.

    Raises ReservationOver.
    """
    found = store.booking(reservation_id)
    if found is None or found.state is not BookingState.PREPARING or found.owner is not None:
        state = "unknown" if found is None else str(found.state)
        raise ReservationOver(id=reservation_id[:60], state=state, order="running its night")
    store.change(
        found.id,
        state=str(BookingState.READY),
        ready_at=now,
        claimed_by=None,
        claimed_until=None,
        **owner_columns(owner),
    )
    store.note(found.id, now, found.holder, str(BookingState.READY), f"process {owner.pid} on {owner.host}")
    return found
