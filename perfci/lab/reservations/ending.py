"""A reservation is given back, all of it or a node; machines that were in use are taken back then."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from perfci.lab import owners
from perfci.lab.errors import LeaseInUse, NodeNotHeld, StateOrder
from perfci.lab.reservations.checks import check_admin, check_may, check_wipe
from perfci.lab.reservations.model import BookingState, Wipe, only_to_reclaim
from perfci.lab.reservations.orders import Orders
from perfci.lab.reservations.states import OPEN, may_follow
from perfci.lab.reservations.wiping import ask_for

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from perfci.lab.reservations.model import Actor, Booking
    from perfci.lab.reservations.store import ReservationRows

PREPARATION = timedelta(minutes=20)
"""So long after its holder gave it back a machine is left alone that was just being prepared."""


class Ending(Orders):
    """How nodes leave a reservation, or all of it ends."""

    def release(
        self,
        reservation_id: str,
        actor: Actor,
        *,
        node: str | None = None,
        force: bool = False,
        wipe: Wipe = Wipe.NONE,
    ) -> Booking:
        """Give a reservation back, or one of its nodes; giving back the last node gives back all.

        One that is over stays as it is. What is left of its time is free at once, and the queue moves up.
        What another process works on is not released, unless an admin says `force`: the process goes on, and
        must be ended. `wipe` says what is wiped of the disks that go, where more than was asked for before.
        Raises ReservationNotFound, ReservationInvalid, NodeNotHeld, NotYours, LeaseInUse, AdminsOnly.
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
            going = found.nodes if node is None else (node,)
            check_wipe(wipe, sorted(set(going).difference(self.machines(going))))
            if found.ready_at is not None or found.state is BookingState.PREPARING:
                ask_for(store, going, wipe, now, actor=actor.name, reservation_id=found.id)
            if node is not None and len(found.nodes) > 1:
                store.end_places(found.id, now, node=node, left=True)
                store.note(found.id, now, actor.name, "gave back", node)
                self._take_back(store, found, node, now, actor.name)
            else:
                self.end(store, found, now, actor.name, "released by force" if force else "released")
            self._advance(store, now)
            return self.again(store, found.id)

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
        part = only_to_reclaim(
            found.lab, [node], now, holder=found.holder, purpose=found.purpose, priority=found.priority
        )
        part = replace(part, os=found.os, wipe=found.wipe, claimed_until=now + PREPARATION if busy else None)
        store.add(part)
        store.note(part.id, now, actor, "gave back", f"{node} of {found.id}")
