"""What people and programs see of the lab's calendar. Nothing here changes anything."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from perfci.database.schema import node_event, reservation, reservation_event
from perfci.lab.errors import ReservationNotFound
from perfci.lab.reservations.checks import check_length, check_wish
from perfci.lab.reservations.free_time import FreeTime, Need
from perfci.lab.reservations.model import Actor, BookingState, NodeHealth, NodeState, NodeStatus, NodeWish
from perfci.lab.reservations.node_health import node_health
from perfci.lab.reservations.states import OPEN
from perfci.lab.reservations.store import ReservationRows, slot_of, ticks

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from perfci.lab.model import Quarantine
    from perfci.lab.reservations.model import Booking, BookingEvent, NodeRecord, Slot

_HEALTH_DAYS = 90


@dataclass(frozen=True, slots=True)
class Calendar:
    """Who has what between two times: the nodes by name, and the bookings by their start."""

    starts_at: datetime
    ends_at: datetime
    nodes: tuple[str, ...]
    bookings: tuple[Booking, ...]


@dataclass(frozen=True, slots=True)
class BookingOutlook:
    """Why a reservation has not begun: who has or gets its nodes before it, and what would make it sooner."""

    booking: Booking
    before: tuple[Booking, ...]
    sooner: tuple[tuple[str, Slot], ...]
    """What to ask for instead, in words, with the slot that it would get."""


class Views(FreeTime):
    """The reading half of `service.Reservations`."""

    def actor(self, name: str) -> Actor:
        """Return somebody who gives orders; an admin where the lab's policy says so."""
        return Actor(name, admin=name in self.policy.admins)

    def nodes(self) -> tuple[NodeStatus, ...]:
        """Return every node of the inventory as it is now, sorted by name."""
        with self._database.reading() as connection:
            store, now = ReservationRows(connection, self.lab), self._clock()
            records, quarantined = store.records(), store.quarantined()
            current, coming = self._current(store, now), self._coming(store, now)
            for one in self._overdue(store):
                # Nobody else gets it: it is not free.
                for node in one.nodes:
                    current.setdefault(node, one)
        return tuple(
            self._status(name, records.get(name), quarantined, current, coming)
            for name in sorted(self._nodes)
        )

    def node(self, name: str) -> NodeStatus:
        """Return one node as it is now. Raises NodesUnknown."""
        self.check_known([name])
        return next(one for one in self.nodes() if one.name == name)

    def calendar(
        self, starts_at: datetime, ends_at: datetime, *, nodes: Collection[str] | None = None
    ) -> Calendar:
        """Return who has or will have nodes (of these) between two times; also those who only had them."""
        with self._database.reading() as connection:
            bookings = ReservationRows(connection, self.lab).between(starts_at, ends_at, nodes)
        return Calendar(
            starts_at, ends_at, tuple(sorted(self._nodes if nodes is None else nodes)), tuple(bookings)
        )

    def find(
        self, wish: NodeWish, length_seconds: float, *, earliest: datetime | None = None, limit: int = 5
    ) -> tuple[Slot, ...]:
        """Return the first times at which a wish can be met, for somebody who asks now: up to `limit`.

        Where there is one within two weeks, later ones are not looked for.

        Raises NodesUnhealthy, NodesUnknown, NodesUnmatched, ReservationInvalid.
        """
        with self._database.reading() as connection:
            store, now = ReservationRows(connection, self.lab), self._clock()
            length = check_length(length_seconds, self.policy)
            check_wish(wish)
            usable = self._healthy(store, wish, self.eligible(store, wish))
            start = max(now, earliest or now)
            return tuple(
                slot_of(span)
                for span in self._slots(
                    store, Need(usable, wish.size, ticks(start + length) - ticks(start), start), limit
                )
            )

    def show(self, reservation_id: str) -> Booking:
        """Return one reservation. Raises ReservationNotFound."""
        with self._database.reading() as connection:
            return self._found(ReservationRows(connection, self.lab), reservation_id)

    def of(self, holder: str, *, over: bool = False) -> tuple[Booking, ...]:
        """Return somebody's reservations that are not over, by their start; with `over` all of them."""
        condition = reservation.c.holder == holder
        if not over:
            condition &= reservation.c.state.in_([str(state) for state in OPEN])
        with self._database.reading() as connection:
            return tuple(ReservationRows(connection, self.lab).bookings(condition))

    def why(self, reservation_id: str) -> BookingOutlook:
        """Say why a reservation has not begun, and what would make it sooner. Raises ReservationNotFound.

        One with a firm time, and one that has begun, waits for nobody.
        """
        with self._database.reading() as connection:
            store, now = ReservationRows(connection, self.lab), self._clock()
            found = self._found(store, reservation_id)
            if found.firm or found.state not in {BookingState.ASKED, BookingState.WAITING}:
                return BookingOutlook(found, (), ())
            fitting = self.fits(store)(found.wish)
            before = [
                one
                for one in store.between(now, found.starts_at)
                if one.id != found.id and not fitting.isdisjoint(one.nodes)
            ]
            start = max(now, found.earliest_at)
            length = ticks(found.ends_at) - ticks(found.starts_at)
            sooner = []
            for words, count, part in _less(found, length):
                spans = self._slots(store, Need(fitting, count, part, start), 1)
                if spans and spans[0].start < ticks(found.starts_at):
                    sooner.append((words, slot_of(spans[0])))
        return BookingOutlook(found, tuple(before), tuple(sooner))

    def history(
        self, *, reservation_id: str | None = None, holder: str | None = None, limit: int = 100
    ) -> tuple[BookingEvent, ...]:
        """Return who did what to reservations, oldest first: the newest `limit` events of one or of all."""
        conditions = []
        if reservation_id is not None:
            conditions.append(reservation_event.c.reservation_id == reservation_id)
        if holder is not None:
            conditions.append(reservation_event.c.actor == holder)
        with self._database.reading() as connection:
            store = ReservationRows(connection, self.lab)
            if reservation_id is not None:
                self._found(store, reservation_id)
            return tuple(store.events(*conditions, limit=limit))

    def node_history(self, node: str, *, limit: int = 100) -> tuple[BookingEvent, ...]:
        """Return what was done with a node, oldest first. Raises NodesUnknown."""
        self.check_known([node])
        with self._database.reading() as connection:
            return tuple(
                ReservationRows(connection, self.lab).node_events(node_event.c.node == node, limit=limit)
            )

    def health(self, node: str) -> NodeHealth:
        """Return how a node did in the last 90 days. Raises NodesUnknown."""
        self.check_known([node])
        now = self._clock()
        since = now - timedelta(days=_HEALTH_DAYS)
        with self._database.reading() as connection:
            store = ReservationRows(connection, self.lab)
            events = store.node_events(node_event.c.node == node, node_event.c.at > since)
            used = sum(
                min(end, ticks(now)) - max(start, ticks(since))
                for _, _, start, end in store.intervals(since, now, [node])
            )
        return node_health(events, used / 3.6e9, since, now)

    def _current(self, store: ReservationRows, now: datetime) -> dict[str, Booking]:
        """Return who has which node at this moment."""
        found = {}
        for one in store.between(now, now + timedelta(microseconds=1)):
            for place in one.places:
                if place.starts_at <= now < place.ends_at:
                    found[place.node] = one
        return found

    def _coming(self, store: ReservationRows, now: datetime) -> dict[str, Booking]:
        """Return the next reservation of each node."""
        nearest = store.next_on_each(now, self._nodes.keys())
        bookings = store.named(frozenset(nearest.values()))
        return {node: bookings[name] for node, name in nearest.items() if name in bookings}

    def _status(
        self,
        name: str,
        record: NodeRecord | None,
        quarantined: dict[str, Quarantine],
        current: dict[str, Booking],
        coming: dict[str, Booking],
    ) -> NodeStatus:
        node = self._nodes[name]
        state = NodeState.HELD if name in current else NodeState.FREE
        if name in quarantined:
            state = NodeState.QUARANTINED
        if record is not None and record.retired:
            state = NodeState.RETIRED
        return NodeStatus(
            name=name,
            state=state,
            has_bmc=node.has_bmc,
            facts={**node.labels, **(record.facts if record else {})},
            booking=current.get(name),
            next_booking=coming.get(name),
            quarantine=quarantined.get(name),
            retired_reason=record.reason if record and record.retired else "",
        )

    def _found(self, store: ReservationRows, reservation_id: str) -> Booking:
        found = store.booking(reservation_id)
        if found is None:
            raise ReservationNotFound(id=reservation_id[:60], lab=self.lab)
        return found


def _less(found: Booking, length: int) -> list[tuple[str, int, int]]:
    """Return smaller wishes: in words, how many nodes, how long."""
    some = []
    if not found.wish.names:
        some += [
            (f"{count} node{'s' if count > 1 else ''} instead of {found.wish.count}", count, length)
            for count in range(found.wish.count - 1, 0, -1)
        ][:3]
    return [*some, ("half the time", found.wish.size, length // 2)]
