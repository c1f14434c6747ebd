"""What is changed of a reservation that one has: its end, its holder, its keys, one of its nodes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

from perfci.lab.errors import NodeNotHeld, NoSuchSlot, ReservationInvalid, local_time
from perfci.lab.reservations.calendar import Span, busy_of, free_at
from perfci.lab.reservations.checks import check_contact, check_length, check_line, contact_of
from perfci.lab.reservations.ending import Ending
from perfci.lab.reservations.keys import KEYS_CHANGED, check_keys, fingerprint
from perfci.lab.reservations.model import Actor, BookingState, Place
from perfci.lab.reservations.store import slot_of, ticks

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from perfci.lab.reservations.model import Booking
    from perfci.lab.reservations.store import ReservationRows


class Changing(Ending):
    """Orders of those who have a reservation."""

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
            store.change(found.id, holder=to, contact=contact_of(to, contact, self.policy))
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
