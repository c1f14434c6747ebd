"""What people and programs do with the lab's calendar: the one way in, for command line, web page and tick.

Every method is one transaction: it happens wholly or not at all, however many processes call it and wherever
they are killed. Decisions are made by the pure modules beside this one; the database refuses overlaps itself.
"""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from perfci.database import schema
from perfci.database.engine import open_database
from perfci.lab import owners
from perfci.lab.errors import (
    LeaseInUse,
    NodeNotHeld,
    NoSuchSlot,
    ReservationInvalid,
    ReservationLimit,
    ReservationNotFound,
    ReservationOver,
    StateOrder,
    local_time,
)
from perfci.lab.node_cache import nodes_of
from perfci.lab.reservations.calendar import (
    Span,
    busy_of,
    free_at,
    most_at_once,
)
from perfci.lab.reservations.checks import (
    Policy,
    check_admin,
    check_contact,
    check_length,
    check_line,
    check_may,
    check_request,
    no_clouds,
)
from perfci.lab.reservations.keys import KEYS_CHANGED, check_keys, fingerprint
from perfci.lab.reservations.model import (
    Actor,
    Booking,
    BookingState,
    NodeWish,
    Place,
    Priority,
)
from perfci.lab.reservations.queue import Queue
from perfci.lab.reservations.states import OPEN, may_follow
from perfci.lab.reservations.store import ReservationRows, moment, slot_of, ticks
from perfci.lab.reservations.views import LATE, Need, Views
from perfci.lab.scheduling import over

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from perfci.config import Settings
    from perfci.database.engine import Database
    from perfci.lab.model import Node, Owner
    from perfci.lab.reservations.model import Request
    from perfci.lab.scheduling import EndReason

PREPARATION = timedelta(minutes=20)
"""So long after its holder gave it back a machine is left alone that was just being prepared."""


class Reservations(Views):
    """The calendar of one lab. Threads and processes may use it at the same time.

    Times are aware datetimes; those returned are in UTC. Every method raises DatabaseUnavailable where the
    database does not answer. What only reads is in `views.Views`: `nodes`, `node`, `calendar`, `find`,
    `show`, `of`, `why`, `history`, `node_history`. Orders take an Actor, and refuse one who may not:
    NotYours or AdminsOnly (exit code 4). Text that is no single printable line is a ReservationInvalid.
    """

    def __init__(
        self,
        database: Database,
        lab: str,
        nodes: Iterable[Node],
        *,
        policy: Policy | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(database, lab, nodes, policy=policy or Policy(), clock=clock)

    def reserve(self, request: Request, actor: Actor, *, owner: Owner | None = None) -> Booking:
        """Take nodes for a time, or a place in the queue; with an `owner` no longer than that process lives.

        With `request.starts_at` exactly then. Without it, as early as possible, and not later than
        `request.wait_seconds` from now. The booking that is returned is WAITING (its planned time is known),
        PREPARING, or READY where nothing is to be prepared. It never gets other nodes than the wish allows.

        Raises NoSuchSlot (with the earliest slot that would work), NodesUnhealthy, NodesUnknown,
        NodesUnmatched, ReservationLimit, ReservationInvalid.
        """
        with self.order() as (store, now):
            check_request(request, now, self.policy)
            return self._reserved(store, request, actor, now, owner=owner)

    def extend(self, reservation_id: str, seconds: float, actor: Actor) -> Booking:
        """Let a reservation end later by so many seconds.

        Raises NoSuchSlot (saying until when it would be possible), ReservationLimit, ReservationNotFound,
        ReservationOver, NotYours.
        """
        with self.order() as (store, now):
            found = self._mine(store, reservation_id, actor, "extending it")
            if not seconds > 0:
                raise ReservationInvalid(reason="the time to extend by must be longer than nothing")
            check_length(found.length_seconds + seconds, self.policy)
            until = found.ends_at + timedelta(seconds=round(seconds))
            queue = self.queue(store, now)
            movable = queue.after(found.priority, found.asked_at, until=until)
            busy = busy_of(
                (node, start, end)
                for one, node, start, end in store.intervals(found.ends_at, until, found.nodes)
                if one != found.id and one not in movable
            )
            if not set(found.nodes) <= set(free_at(busy, found.nodes, ticks(found.ends_at), ticks(until))):
                first = min(start for some in busy.values() for start, _ in some)
                best = slot_of(Span(ticks(found.starts_at), max(first, ticks(found.ends_at)), found.nodes))
                raise NoSuchSlot(
                    wanted=f"reservation {found.id}",
                    when=f"until {local_time(until)}",
                    why=f"it can last until {local_time(best.ends_at)}, when somebody else has the nodes",
                )
            self._check_limits(store, actor, replace(found, ends_at=until), now)
            queue.make_room(Span(ticks(found.ends_at), ticks(until), found.nodes), movable)
            store.change(found.id, ends_at=until)
            store.move_end(found.id, until)
            queue.settle()
            store.note(found.id, now, actor.name, "extended", f"until {until.isoformat()}")
            return self.again(store, found.id)

    def shorten(self, reservation_id: str, ends_at: datetime, actor: Actor) -> Booking:
        """Let a reservation end earlier, whether it has begun or not.

        Raises ReservationInvalid, ReservationNotFound, ReservationOver, NotYours.
        """
        with self.order() as (store, now):
            found = self._mine(store, reservation_id, actor, "shortening it")
            ends_at = ends_at.astimezone(UTC)
            if not max(now, found.starts_at) < ends_at < found.ends_at:
                reason = (
                    f"the new end must lie between {local_time(max(now, found.starts_at))} "
                    f"and {local_time(found.ends_at)}"
                )
                raise ReservationInvalid(reason=reason)
            store.change(found.id, ends_at=ends_at)
            store.end_places(found.id, ends_at)
            store.note(found.id, now, actor.name, "shortened", f"until {ends_at.isoformat()}")
            self._advance(store, now)
            return self.again(store, found.id)

    def release(
        self, reservation_id: str, actor: Actor, *, node: str | None = None, force: bool = False
    ) -> Booking:
        """Give a reservation back, or one of its nodes; giving back the last node gives back all.

        One that is over stays as it is. What is left of its time is free at once, and the queue moves up.
        What another process works on is not released, unless an admin says `force`: the process goes on, and
        must be ended. Raises ReservationNotFound, NodeNotHeld, NotYours, LeaseInUse, AdminsOnly.
        """
        with self.order() as (store, now):
            found = self._found(store, reservation_id)
            check_may(actor, found)
            if node is not None and node not in found.nodes:
                raise NodeNotHeld(node=node, id=found.id, nodes=", ".join(found.nodes) or "it has none")
            if found.state not in OPEN:
                return found
            if force:
                check_admin(actor, self.lab, "taking nodes from a run that is going on")
            elif found.owner is not None and owners.in_use(found.owner):
                raise LeaseInUse(id=found.id, pid=found.owner.pid, purpose=found.purpose)
            if node is not None and len(found.nodes) > 1:
                store.end_places(found.id, now, node=node, left=True)
                store.note(found.id, now, actor.name, "gave back", node)
                self._take_back(store, found, node, now, actor.name)
            else:
                self.end(store, found, now, actor.name, "released by force" if force else "released")
            self._advance(store, now)
            return self.again(store, found.id)

    def transfer(
        self, reservation_id: str, to: str, actor: Actor, *, contact: str = "", keys: Iterable[str] = ()
    ) -> Booking:
        """Hand a reservation to somebody else, whose SSH keys take the place of its keys.

        Raises ReservationLimit, ReservationInvalid, ReservationNotFound, NotYours.
        """
        check_contact(contact)
        with self.order() as (store, now):
            found = self._mine(store, reservation_id, actor, "handing it over")
            to = check_line("new holder", to)
            self._check_limits(store, Actor(to), replace(found, holder=to), now)
            store.change(found.id, holder=to, contact=contact)
            store.note(found.id, now, actor.name, "transferred", f"from {found.holder} to {to}")
            self._admit(store, found, check_keys(keys), now, actor.name)
            return self.again(store, found.id)

    def admit(self, reservation_id: str, keys: Iterable[str], actor: Actor) -> Booking:
        """Let these SSH keys, and no others, open the machines of a reservation; a tick puts them there.

        Raises ReservationInvalid, ReservationNotFound, ReservationOver, NotYours.
        """
        with self.order() as (store, now):
            found = self._mine(store, reservation_id, actor, "changing who may log in")
            self._admit(store, found, check_keys(keys), now, actor.name)
            return self.again(store, found.id)

    def _admit(
        self, store: ReservationRows, found: Booking, keys: tuple[str, ...], now: datetime, actor: str
    ) -> None:
        if keys and found.nodes and not self.machines(found.nodes):
            raise ReservationInvalid(reason="perfci puts no SSH keys on nodes without a BMC")
        if keys != found.keys:
            store.set_keys(found, keys)
            prints = ", ".join(map(fingerprint, keys)) or "none"
            store.note(found.id, now, actor, KEYS_CHANGED, prints[:500])

    def swap(self, reservation_id: str, node: str, actor: Actor, *, to: str | None = None) -> Booking:
        """Give a node back and take another that fits the wish in its place, until the same end.

        Without `to` the first by name that is free; for a wish for certain nodes `to` must be said. A
        reservation that was READY is PREPARING again until the new node is.
        Raises NoSuchSlot, NodeNotHeld, NodesUnknown, NodesUnhealthy, ReservationNotFound, NotYours.
        """
        with self.order() as (store, now):
            found = self._mine(store, reservation_id, actor, "swapping a node")
            if node not in found.nodes:
                raise NodeNotHeld(node=node, id=found.id, nodes=", ".join(found.nodes))
            self.swap_for(store, found, node, now, actor.name, to=to)
            self._take_back(store, found, node, now, actor.name)
            self._advance(store, now)
            return self.again(store, found.id)

    def sweep(self) -> tuple[tuple[Booking, EndReason], ...]:
        """End what is over, and return it with the reason: its process on this host is gone, or its time.

        Time does not end what a process on this host works on: it keeps its nodes for another hour, but not
        beyond the time at which somebody else gets them. Another host's processes can't be seen: what they
        work on ends a day after its time (`scheduling.may_live`), and only their own host makes that later.
        Doing it again changes nothing.
        """
        with self.order() as (store, now):
            table = schema.reservation.c
            begun = store.bookings(
                table.released_at.is_(None)
                & (table.state != str(BookingState.ASKED))
                & ((table.ends_at <= now) | table.owner_pid.is_not(None))
            )
            here = owners.me().host
            dead, living = owners.of_leases(begun, now)
            found = over(begun, dead=dead, now=now, living=living)
            ended: dict[str, list[Booking]] = {}
            for one, reason in found:
                missed = one.job is not None and one.state is BookingState.WAITING
                ended.setdefault("missed" if missed else f"ended: {reason}", []).append(one)
            for action, some in ended.items():
                self.end_all(store, some, now, "perfci", action)
            for one in begun:
                if one.ends_at <= now and one.owner in living and one.owner.host == here:
                    self._prolong(store, one, now)
            if found:
                self._advance(store, now)
            now_are = store.named([one.id for one, _ in found])
            return tuple((now_are[one.id], reason) for one, reason in found)

    def _prolong(self, store: ReservationRows, one: Booking, now: datetime) -> None:
        """Let a run that is late keep its nodes, as far as nobody else has them."""
        until = now + LATE
        starts = [
            start for other, _, start, _ in store.intervals(one.ends_at, until, one.nodes) if other != one.id
        ]
        until = min(until, moment(min(starts))) if starts else until
        if until > one.ends_at:
            store.change(one.id, ends_at=until)
            store.move_end(one.id, until)
            store.note(one.id, now, "perfci", "extended", f"it runs late: until {until.isoformat()}")

    def begin(self) -> tuple[Booking, ...]:
        """Let reservations begin whose time has come, and return them. Nights are begun by the tick.

        One whose nodes may not be given out, or are still worked on by a late run, waits. Doing it again
        changes nothing.
        """
        with self.order() as (store, now):
            table = schema.reservation.c
            due = store.bookings(
                (table.state == str(BookingState.WAITING))
                & (table.starts_at <= now)
                & (table.ends_at > now)
                & table.job.is_(None)
            )
            if not due:
                return ()
            usable = self.usable(store) - self.late_nodes(store)
            begun = [one for one in due if one.nodes and usable.issuperset(one.nodes)]
            ids = [one.id for one in begun]
            store.change_all(ids, state=str(BookingState.PREPARING))
            store.note_all(ids, now, "perfci", str(BookingState.PREPARING))
            done = [one.id for one in begun if not self._to_prepare(one)]
            store.change_all(done, state=str(BookingState.READY), ready_at=now)
            store.note_all(done, now, "perfci", str(BookingState.READY))
            now_are = store.named(ids)
            return tuple(now_are[one] for one in ids)

    def swap_for(
        self,
        store: ReservationRows,
        found: Booking,
        node: str,
        now: datetime,
        actor: str = "perfci",
        *,
        to: str | None = None,
    ) -> str:
        """Put another node in the place of one, and return it. Raises NoSuchSlot."""
        self.check_known([to] if to else [])
        if to is not None:
            fitting = frozenset({to}) & self.usable(store)
        elif found.wish.names:
            fitting = frozenset()
        else:
            fitting = self.eligible(store, found.wish) & self.usable(store)
        fitting -= frozenset(found.nodes) | self.late_nodes(store)
        start = max(now, found.starts_at)
        busy = busy_of(one[1:] for one in store.intervals(start, found.ends_at))
        free = free_at(busy, fitting, ticks(start), ticks(found.ends_at))
        if not free:
            why = "it is a reservation of certain nodes; name one" if found.wish.names and not to else ""
            raise NoSuchSlot(
                wanted=to or f"another node like {node}", when=f"until {local_time(found.ends_at)}", why=why
            )
        store.end_places(found.id, now, node=node, left=True)
        store.add_places(found.id, [Place(free[0], start, found.ends_at)])
        store.note(found.id, now, actor, "swapped", f"{node} for {free[0]}")
        if found.state is BookingState.READY and (found.cloud or self.machines({free[0]})):
            columns: dict[str, Any] = {"ready_at": None, "claimed_by": None, "claimed_until": None}
            self.to(store, found, BookingState.PREPARING, now, actor=actor, **columns)
        return free[0]

    def _reserved(
        self, store: ReservationRows, request: Request, actor: Actor, now: datetime, *, owner: Owner | None
    ) -> Booking:
        wish, keys = request.wish, check_keys(request.keys)
        eligible = self.eligible(store, wish)
        usable = self._healthy(store, wish, eligible)
        length = ticks(now + check_length(request.length_seconds, self.policy)) - ticks(now)
        queue = self.queue(store, now)
        earliest = max(now, request.starts_at or now).astimezone(UTC)
        need = Need(usable, wish.size, length, earliest)
        found = self._first(
            store, need, without=lambda until: queue.after(request.priority, now, until=until)
        )
        latest = None if request.wait_seconds is None else now + timedelta(seconds=request.wait_seconds)
        if request.starts_at is not None:
            latest = earliest
        if latest is not None and found.start > ticks(latest):
            raise NoSuchSlot(
                wanted=str(wish),
                when=f"from {local_time(latest)}" if latest > now else "now",
                slot=slot_of(found),
            )
        slot = slot_of(found)
        if request.os and (bare := sorted(set(slot.nodes).difference(self.machines(slot.nodes)))):
            raise ReservationInvalid(reason=f"no system can be installed without a BMC: {', '.join(bare)}")
        started = slot.starts_at <= now
        booking = Booking(
            id=secrets.token_hex(4),
            lab=self.lab,
            holder=check_line("holder", actor.name),
            purpose=request.purpose.strip(),
            state=BookingState.PREPARING if started else BookingState.WAITING,
            priority=request.priority,
            firm=request.starts_at is not None,
            asked_at=now,
            earliest_at=earliest,
            starts_at=slot.starts_at,
            ends_at=slot.ends_at,
            wish=wish,
            places=tuple(Place(node, slot.starts_at, slot.ends_at) for node in slot.nodes),
            os=request.os,
            cloud=request.cloud,
            contact=request.contact,
            keys=keys if self.machines(slot.nodes) else (),
            owner=owner,
        )
        self._check_limits(store, actor, booking, now)
        queue.make_room(found, queue.after(request.priority, now, until=moment(found.end)))
        store.add(booking)
        queue.settle()
        store.note(booking.id, now, actor.name, "asked", f"{wish}: {booking.purpose}")
        store.note(booking.id, now, "perfci", str(booking.state), ", ".join(slot.nodes))
        if started and not self._to_prepare(booking):
            self.to(store, booking, BookingState.READY, now, ready_at=now)
        return self.again(store, booking.id)

    def _take_back(
        self, store: ReservationRows, found: Booking, node: str, now: datetime, actor: str
    ) -> None:
        """Let a machine that leaves a reservation before the others be reclaimed, as the others are later.

        What is left to do with it is a reservation of its own, which is over but for that. A night cleans up
        after itself.
        """
        touched = found.state in {BookingState.PREPARING, BookingState.READY} and found.job is None
        if not touched or not self.machines([node]):
            return
        # Somebody may be at work on it; that is not disturbed.
        busy = found.state is BookingState.PREPARING
        part = replace(
            found,
            id=secrets.token_hex(4),
            state=BookingState.ENDING,
            firm=True,
            asked_at=now,
            earliest_at=now,
            starts_at=now,
            ends_at=now,
            released_at=now,
            wish=NodeWish(1, frozenset({node})),
            places=(Place(node, now, now),),
            ready_at=None,
            cloud="",
            contact="",
            keys=(),
            owner=None,
            claimed_by=None,
            claimed_until=now + PREPARATION if busy else None,
            attempts=0,
            active_at=None,
            looked_at=None,
        )
        store.add(part)
        store.note(part.id, now, actor, "gave back", f"{node} of {found.id}")

    def end(self, store: ReservationRows, found: Booking, now: datetime, actor: str, action: str) -> None:
        """Take the nodes back from their holder; where they were touched, ENDING cleans them."""
        self.end_all(store, [found], now, actor, action)

    def end_all(
        self, store: ReservationRows, some: Iterable[Booking], now: datetime, actor: str, action: str
    ) -> None:
        """Do so with many, in a few statements."""
        by_state: dict[BookingState, list[str]] = {}
        for one in some:
            touched = one.state in {BookingState.PREPARING, BookingState.READY} and self.touched(one)
            state = BookingState.ENDING if touched else BookingState.OVER
            if not may_follow(one.state, state):
                raise StateOrder(id=one.id, before=one.state, after=state, why="")
            by_state.setdefault(state, []).append(one.id)
        for state, ids in by_state.items():
            store.end_places_all(ids, now)
            columns = {"released_at": now, "claimed_by": None, "claimed_until": None}
            store.change_all(ids, state=str(state), **columns)
            store.note_all(ids, now, actor, action)

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

    def _mine(self, store: ReservationRows, reservation_id: str, actor: Actor, order: str) -> Booking:
        """Return a reservation that this actor may change, and that is not over."""
        found = self._found(store, reservation_id)
        check_may(actor, found)
        if found.state not in OPEN:
            raise ReservationOver(id=found.id, state=str(found.state), order=order)
        return found

    def again(self, store: ReservationRows, reservation_id: str) -> Booking:
        """Return a reservation as it is now. Raises ReservationNotFound."""
        found = store.booking(reservation_id)
        if found is None:
            raise ReservationNotFound(id=reservation_id, lab=self.lab)
        return found

    @contextmanager
    def order(self) -> Iterator[tuple[ReservationRows, datetime]]:
        """Give the only writer's view of the lab, and the time as of the moment when its turn has come."""
        with self._database.transaction() as connection:
            yield ReservationRows(connection, self.lab), self._clock()


def open_reservations(
    settings: Settings, *, check_cloud: Callable[[str, int], None] = no_clouds
) -> Reservations:
    """Open the calendar of the lab that the settings name; `check_cloud` is that of its Policy.

    Raises DatabaseUnavailable, DatabaseTooNew, InventoryInvalid, SecretUnreadable.
    """
    rules = settings.reservations
    policy = Policy(
        admins=frozenset(rules.admins),
        longest_hours=rules.longest_hours,
        horizon_days=rules.horizon_days,
        nodes_per_person=rules.nodes_per_person,
        open_per_person=rules.open_per_person,
        patience_hours=rules.patience_hours,
        book_over_nights=rules.book_over_nights,
        check_cloud=check_cloud,
    )
    return Reservations(open_database(settings), settings.lab, nodes_of(settings), policy=policy)
