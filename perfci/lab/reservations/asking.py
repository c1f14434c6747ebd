"""A reservation is asked for, and gets its nodes or a place in the queue."""

from __future__ import annotations

import secrets
from datetime import UTC, timedelta
from typing import TYPE_CHECKING

from perfci.lab.errors import NoSuchSlot, ReservationInvalid, local_time
from perfci.lab.reservations.checks import check_length, check_line, check_request, check_wipe, contact_of
from perfci.lab.reservations.free_time import Need
from perfci.lab.reservations.keys import check_keys
from perfci.lab.reservations.model import Booking, BookingState, Place, Priority
from perfci.lab.reservations.orders import Orders
from perfci.lab.reservations.store import moment, slot_of, ticks

if TYPE_CHECKING:
    from datetime import datetime

    from perfci.lab.model import Owner
    from perfci.lab.reservations.model import Actor, Request
    from perfci.lab.reservations.store import ReservationRows


class Asking(Orders):
    """Where reservations come from."""

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
        if bare := sorted(set(slot.nodes).difference(self.machines(slot.nodes))):
            if request.os:
                raise ReservationInvalid(
                    reason=f"no system can be installed without a BMC: {', '.join(bare)}"
                )
            check_wipe(request.wipe, bare)
        started = slot.starts_at <= now
        is_person = request.priority is Priority.PEOPLE and owner is None
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
            contact=contact_of(actor.name, request.contact, self.policy) if is_person else request.contact,
            keys=keys if self.machines(slot.nodes) else (),
            wipe=request.wipe,
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
