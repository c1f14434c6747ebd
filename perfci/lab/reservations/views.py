"""What people and programs see of the lab's calendar. Nothing here changes anything."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from perfci.database.schema import node_event, reservation, reservation_event
from perfci.lab import owners
from perfci.lab.errors import NodesUnhealthy, NodesUnknown, NodesUnmatched, ReservationNotFound
from perfci.lab.labels import matching
from perfci.lab.reservations.calendar import busy_of, slots
from perfci.lab.reservations.checks import check_length, check_wish
from perfci.lab.reservations.model import (
    Actor,
    BookingState,
    NodeHealth,
    NodeState,
    NodeStatus,
    NodeWish,
)
from perfci.lab.reservations.states import OPEN, SMOKE
from perfci.lab.reservations.store import ReservationRows, slot_of, ticks
from perfci.lab.reservations.wiping import WIPE_ASKED, WIPED

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from datetime import datetime

    from perfci.database.engine import Database
    from perfci.lab.model import Node, Quarantine
    from perfci.lab.reservations.calendar import Span
    from perfci.lab.reservations.checks import Policy
    from perfci.lab.reservations.model import Booking, BookingEvent, NodeRecord, Slot

_FIRST_LOOK = timedelta(days=14)
"""How far `find` looks at first; it doubles until it has found enough."""
LATE = timedelta(hours=1)
"""For how long a lease whose time is over counts as held while its process runs."""
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


class Need(NamedTuple):
    """What is looked for in the calendar: `size` of the usable nodes together for `length` microseconds."""

    usable: frozenset[str]
    size: int
    length: int
    earliest: datetime


def _nobody(_until: datetime | None) -> Collection[str]:
    return ()


class Views:
    """The reading half of `service.Reservations`."""

    def __init__(
        self,
        database: Database,
        lab: str,
        nodes: Iterable[Node],
        *,
        policy: Policy,
        clock: Callable[[], datetime],
    ) -> None:
        self.lab = lab
        self.policy = policy
        self._database = database
        self._clock = clock
        self._nodes = {node.name: node for node in nodes}

    @property
    def database(self) -> Database:
        """The database, for what is to be true together with an order."""
        return self._database

    def now(self) -> datetime:
        """Return the time of this lab's clock."""
        return self._clock()

    @contextmanager
    def reading(self) -> Iterator[ReservationRows]:
        """Give the rows of this lab as they are at one moment."""
        with self._database.reading() as connection:
            yield ReservationRows(connection, self.lab)

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
        tried = [one for one in events if one.action not in _NO_OPERATIONS]
        broken = _broken(events, since, now)
        total = _HEALTH_DAYS * 24.0
        used_hours = used / 3.6e9
        return NodeHealth(
            operations=len(tried),
            failures=sum(not one.ok for one in tried),
            used_hours=used_hours,
            idle_hours=max(0.0, total - used_hours - broken),
            broken_hours=broken,
        )

    def eligible(self, store: ReservationRows, wish: NodeWish) -> frozenset[str]:
        """Return the nodes that a wish allows, also those in quarantine.

        Raises NodesUnknown and NodesUnmatched.
        """
        records = store.records()
        nodes = [
            replace(node, labels={**node.labels, **records[node.name].facts})
            if node.name in records
            else node
            for node in self._nodes.values()
            if node.name not in records or not records[node.name].retired
        ]
        names = frozenset(node.name for node in nodes)
        if wish.names - names:
            self._unknown(str(wish), names)
        found = wish.names or (matching(nodes, wish.where) if wish.where else names)
        if wish.size > len(found):
            self._unknown(str(wish), found)
        return found

    def usable(self, store: ReservationRows) -> frozenset[str]:
        """Return the nodes that may be given out: neither retired nor in quarantine."""
        retired = {name for name, record in store.records().items() if record.retired}
        return frozenset(self._nodes.keys() - retired - store.quarantined().keys())

    def fits(self, store: ReservationRows) -> Callable[[NodeWish], frozenset[str]]:
        """Return what says which nodes a wish allows that may be given out; none where it is impossible."""
        usable = self.usable(store)
        known: dict[NodeWish, frozenset[str]] = {}

        def fitting(wish: NodeWish) -> frozenset[str]:
            if wish not in known:
                try:
                    known[wish] = self.eligible(store, wish) & usable
                except _IMPOSSIBLE:
                    known[wish] = frozenset()
            return known[wish]

        return fitting

    def fitting(self, wish: NodeWish) -> frozenset[str]:
        """Return the nodes that a wish allows and that may be given out; none where it is impossible."""
        with self.reading() as store:
            return self.fits(store)(wish)

    def _healthy(self, store: ReservationRows, wish: NodeWish, eligible: frozenset[str]) -> frozenset[str]:
        """Return which of the nodes may be given out. Raises NodesUnhealthy where they are too few."""
        quarantined = store.quarantined()
        usable = eligible - quarantined.keys()
        if len(usable) < wish.size:
            broken = [quarantined[name] for name in sorted(eligible & quarantined.keys())]
            raise NodesUnhealthy(wanted=str(wish), quarantined=broken)
        return usable

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

    def machines(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return those of the nodes that have a BMC: perfci provisions and reclaims them."""
        return tuple(name for name in names if name in self._nodes and self._nodes[name].has_bmc)

    def touched(self, booking: Booking) -> tuple[str, ...]:
        """Return the nodes that perfci changes for a reservation: its machines; with a cloud, all."""
        return booking.nodes if booking.cloud else self.machines(booking.nodes)

    def _to_prepare(self, booking: Booking) -> bool:
        """Tell whether anything is to be done before a reservation is ready."""
        return bool(self.touched(booking))

    def _found(self, store: ReservationRows, reservation_id: str) -> Booking:
        found = store.booking(reservation_id)
        if found is None:
            raise ReservationNotFound(id=reservation_id[:60], lab=self.lab)
        return found

    def check_known(self, names: Iterable[str]) -> None:
        """Raise NodesUnknown where the inventory lacks one of the nodes."""
        unknown = [name for name in names if name not in self._nodes]
        if unknown:
            self._unknown(", ".join(name[:60] for name in unknown), frozenset(self._nodes))

    def _unknown(self, wanted: str, names: frozenset[str]) -> NoReturn:
        raise NodesUnknown(
            lab=self.lab, size=len(names), known=", ".join(sorted(names)) or "none", wanted=wanted
        )


def _less(found: Booking, length: int) -> list[tuple[str, int, int]]:
    """Return smaller wishes: in words, how many nodes, how long."""
    some = []
    if not found.wish.names:
        some += [
            (f"{count} node{'s' if count > 1 else ''} instead of {found.wish.count}", count, length)
            for count in range(found.wish.count - 1, 0, -1)
        ][:3]
    return [*some, ("half the time", found.wish.size, length // 2)]


def _broken(events: list[BookingEvent], since: datetime, now: datetime) -> float:
    """Return the hours that a node was in quarantine."""
    hours, begun = 0.0, None
    for one in events:
        if one.action == "quarantine" and begun is None:
            begun = one.at
        elif one.action == "restore":
            hours += ((one.at - (begun or since)).total_seconds()) / 3600
            begun = None
    return hours + ((now - begun).total_seconds() / 3600 if begun else 0.0)


FORCED = "forced"
"""The event of a node that an admin gave orders to though somebody else held it."""
ORDERED = "ordered"
"""The event of a node whose BMC somebody gave an order, such as `power cycle`."""
HARDWARE = "hardware"
"""What a BMC says of its machine: noted in the history of the node, and nothing that was done with it."""
_NO_OPERATIONS = frozenset(
    {"quarantine", "restore", "retire", "add", FORCED, ORDERED, SMOKE, HARDWARE, WIPE_ASKED, WIPED}
)
_IMPOSSIBLE = (NodesUnknown, NodesUnmatched)
_LEASED = tuple(str(state) for state in OPEN if state is not BookingState.ASKED)
