"""When nodes are free: what is planned and what is late, read from the database for the pure calendar."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from perfci.database.schema import reservation
from perfci.lab import owners
from perfci.lab.reservations.calendar import busy_of, slots
from perfci.lab.reservations.fitting_nodes import FittingNodes
from perfci.lab.reservations.model import BookingState
from perfci.lab.reservations.states import OPEN
from perfci.lab.reservations.store import ticks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime

    from perfci.lab.reservations.calendar import Span
    from perfci.lab.reservations.model import Booking
    from perfci.lab.reservations.store import ReservationRows

_FIRST_LOOK = timedelta(days=14)
"""How far free time is looked for at first; farther until enough is found."""
LATE = timedelta(hours=1)
"""For how long a lease whose time is over counts as held while its process runs."""
_LEASED = tuple(str(state) for state in OPEN if state is not BookingState.ASKED)


class Need(NamedTuple):
    """What is looked for in the calendar: `size` of the usable nodes together for `length` microseconds."""

    usable: frozenset[str]
    size: int
    length: int
    earliest: datetime


def _nobody(_until: datetime | None) -> Collection[str]:
    return ()


class FreeTime(FittingNodes):
    """The time that nobody has, in one lab."""

    def _first(
        self,
        store: ReservationRows,
        need: Need,
        *,
        without: Callable[[datetime | None], Collection[str]] = _nobody,
    ) -> Span:
        """Return the first span; there always is one: the nodes are enough, and everything ends some day."""
        return self._slots(store, need, 1, without=without)[0]

    def _slots(
        self,
        store: ReservationRows,
        need: Need,
        limit: int,
        *,
        without: Callable[[datetime | None], Collection[str]] = _nobody,
    ) -> list[Span]:
        """Return the first spans, up to `limit`; only as much is read as the first one needs.

        `without` says which reservations do not count before a time, None: of all times.
        """
        earliest = need.earliest
        last = store.last_end() or earliest
        look = max(_FIRST_LOOK, timedelta(microseconds=4 * need.length))
        late = self.late(store)
        while True:
            until = earliest + look
            whole = until >= last
            taken = store.intervals(earliest, None if whole else until, need.usable)
            moved = without(None if whole else until)
            busy = busy_of([*(one[1:] for one in taken if one[0] not in moved), *late])
            found = slots(busy, need.usable, need.size, need.length, ticks(earliest), limit=limit)
            if not whole:
                # What lies beyond was not read: only spans that end before it are certain.
                found = [span for span in found if span.end <= ticks(until)]
            if whole or found:
                return found
            look *= 4

    def taken_back(self, store: ReservationRows, now: datetime) -> frozenset[str]:
        """Return the nodes that a controller switches off and wipes at this moment."""
        table = reservation.c
        at_work = (table.state == str(BookingState.RECLAIMING)) & (table.claimed_until > now)
        places = [place for one in store.bookings(at_work) for place in one.places]
        return frozenset(place.node for place in places if place.left_at is not None)

    def late_nodes(self, store: ReservationRows) -> frozenset[str]:
        """Return the nodes that a process still works on, or may work on, though its time is over."""
        return frozenset(node for node, _, _ in self.late(store))

    def late(self, store: ReservationRows) -> list[tuple[str, int, int]]:
        """Return the nodes that are not free yet: their lease is late, and its process lives or may live."""
        now = self._clock()
        return [(node, ticks(now), ticks(now + LATE)) for one in self._overdue(store) for node in one.nodes]

    def _overdue(self, store: ReservationRows) -> list[Booking]:
        """Return the leases whose time is over and whose process lives, or may live."""
        now = self._clock()
        table = reservation.c
        # A lease that is not released is in one of these states: an index knows them, and there are few.
        overdue = [
            one
            for one in store.bookings(
                table.state.in_(_LEASED)
                & (table.starts_at <= now)
                & (table.ends_at <= now)
                & table.owner_pid.is_not(None)
            )
            if one.released_at is None
        ]
        if not overdue:
            return []
        _, living = owners.of_leases(overdue, now)
        return [one for one in overdue if one.owner in living]
