"""What controllers do for reservations: prepare nodes, take them back. Any of them may die at any moment.

A controller claims a reservation for a while and keeps the claim alive; when it dies the claim runs out, and
another one begins again. What it did on the nodes is written down step by step, and only those steps make a
reservation ready.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from perfci.database.schema import node_event, reservation, reservation_event
from perfci.lab.errors import NoSuchSlot, StateOrder
from perfci.lab.reservations.keys import KEYS_CHANGED, KEYS_SET
from perfci.lab.reservations.model import Booking, BookingState, Place, Priority, only_to_reclaim
from perfci.lab.reservations.states import SMOKE, is_ready, steps_before_ready
from perfci.lab.reservations.store import moment
from perfci.lab.reservations.wiping import ask_for, wipes_owed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from perfci.lab.reservations.model import Wipe
    from perfci.lab.reservations.service import Reservations
    from perfci.lab.reservations.store import ReservationRows

CLAIM_SECONDS = 120.0
"""How long a claim lasts unless it is kept alive; a dead controller's work waits that long."""
RECLAIM = timedelta(minutes=20)
"""For how long nodes are kept from others while they are reclaimed."""
PUT_OFF = "put off"
"""The event of a reservation whose preparation failed, and not on its nodes."""
_A_MOMENT = timedelta(seconds=1)
_TO_DO = (BookingState.PREPARING, BookingState.ENDING, BookingState.RECLAIMING)


class Work:
    """The work on one lab's reservations, as one controller does it; `worker` names it, unlike any other."""

    def __init__(self, reservations: Reservations, worker: str) -> None:
        self._service = reservations
        self._worker = worker

    def due(self, limit: int = 100) -> tuple[str, ...]:
        """Return the ids of reservations that nobody works on though there is something to do."""
        now = self._service.now()
        with self._service.reading() as store:
            wanted = (
                sa.select(reservation.c.id)
                .where(reservation.c.lab == store.lab, *_open_work(now))
                .order_by(reservation.c.priority, reservation.c.starts_at, reservation.c.id)
                .limit(limit)
            )
            return tuple(store.connection.scalars(wanted))

    def left_by_nights(self) -> tuple[str, ...]:
        """Return the ids of what killed nights left to be taken back, as far as nobody works on it."""
        table = reservation.c
        with self._service.reading() as store:
            wanted = sa.select(table.id).where(
                table.lab == store.lab,
                table.priority != int(Priority.PEOPLE),
                table.state != str(BookingState.PREPARING),
                *_open_work(self._service.now()),
            )
            return tuple(store.connection.scalars(wanted.order_by(table.id)))

    def take_back_left(self, left: Mapping[str, str]) -> tuple[str, ...]:
        """Let machines be taken back that killed processes left on; return the reservations for that.

        `left` gives for each machine the run that left it on. One that somebody has now, or that is being
        taken back already, is left out.
        """
        with self._service.order() as (store, now):
            ending = reservation.c.state.in_([str(BookingState.ENDING), str(BookingState.RECLAIMING)])
            taken = {place.node for one in store.bookings(ending) for place in one.places}
            taken |= {node for _, node, _, _ in store.intervals(now, now + _A_MOMENT, frozenset(left))}
            by_run: dict[str, list[str]] = {}
            for node in self._service.machines(sorted(left.keys() - taken)):
                by_run.setdefault(left[node], []).append(node)
            made = [
                only_to_reclaim(
                    store.lab,
                    nodes,
                    now,
                    holder="perfci",
                    purpose=f"left on by {run_id}",
                    priority=Priority.NIGHT,
                )
                for run_id, nodes in by_run.items()
            ]
            for one in made:
                store.add(one)
                store.note(one.id, now, "perfci", "left on", ", ".join(one.nodes))
            return tuple(one.id for one in made)

    def logins_due(self) -> tuple[str, ...]:
        """Return the ids of ready reservations whose machines don't have their SSH keys as they are now."""
        event, table = reservation_event.c, reservation.c
        wanted = (
            sa.select(event.reservation_id, event.action)
            .join(reservation, table.id == event.reservation_id)
            .where(
                table.lab == self._service.lab,
                table.state == str(BookingState.READY),
                table.job.is_(None),
                event.action.in_([KEYS_CHANGED, KEYS_SET]),
            )
            .order_by(event.id)
        )
        with self._service.reading() as store:
            last = {row[0]: row[1] for row in store.connection.execute(wanted)}
        return tuple(name for name, action in last.items() if action == KEYS_CHANGED)

    def logins_set(self, booking: Booking, detail: str) -> None:
        """Write down that machines have the keys of a reservation, unless these were changed meanwhile."""
        with self._service.order() as (store, now):
            found = self._service.again(store, booking.id)
            if found.keys == booking.keys:
                store.note(found.id, now, self._worker, KEYS_SET, detail[:500])

    def claim(self, reservation_id: str, seconds: float = CLAIM_SECONDS) -> Booking | None:
        """Take the work on a reservation; None where there is none, or another controller has it.

        One that ends is RECLAIMING then, and its nodes are kept from others for RECLAIM; those that somebody
        has got already are left to what that one's preparation does with them.
        """
        with self._service.order() as (store, now):
            wanted = (
                sa.select(reservation.c.id)
                .where(reservation.c.id == reservation_id, reservation.c.lab == store.lab, *_open_work(now))
                .with_for_update(skip_locked=True)
            )
            if store.connection.scalar(wanted) is None:
                return None
            found = self._service.again(store, reservation_id)
            store.change(
                found.id,
                claimed_by=self._worker,
                claimed_until=now + timedelta(seconds=seconds),
                attempts=found.attempts + 1,
            )
            if found.state is not BookingState.PREPARING:
                self._keep_nodes(store, found, now)
                if found.state is BookingState.ENDING:
                    self._service.to(store, found, BookingState.RECLAIMING, now, actor=self._worker)
            return self._service.again(store, found.id)

    def keep(self, reservation_id: str, seconds: float = CLAIM_SECONDS) -> bool:
        """Keep a claim alive; False where it was lost: the work must stop."""
        with self._service.order() as (store, now):
            found = store.booking(reservation_id)
            if found is None or found.claimed_by != self._worker or found.state not in _TO_DO:
                return False
            store.change(found.id, claimed_until=now + timedelta(seconds=seconds))
            if found.state is BookingState.RECLAIMING:
                self._keep_on(store, found, now)
            return True

    def to_reclaim(self, booking: Booking) -> tuple[str, ...]:
        """Return the nodes of a reservation that is being reclaimed that nobody else has yet."""
        now = self._service.now()
        kept = {place.node for place in booking.places if place.left_at is not None and place.ends_at > now}
        return tuple(sorted(kept)) if booking.cloud else self._service.machines(sorted(kept))

    def wipes_owed(self, nodes: tuple[str, ...]) -> dict[str, Wipe]:
        """Return what is to be wiped on which of these nodes before anybody else works on them."""
        with self._service.reading() as store:
            return wipes_owed(store, nodes)

    def failed_deployments(self, booking: Booking) -> int:
        """Return how often the cloud of a reservation could not be deployed since its preparation began."""
        with self._service.reading() as store:
            failed = store.node_events(
                _on_its_nodes(booking),
                node_event.c.action == SMOKE,
                node_event.c.ok.is_(False),
            )
        counts = Counter(one.subject for one in failed if one.subject in booking.nodes)
        return max(counts.values(), default=0)

    def end(self, reservation_id: str, action: str, reason: str) -> Booking | None:
        """End a reservation that can't be prepared, and say why; None where the claim was lost."""
        with self._service.order() as (store, now):
            found = self._claimed(store, reservation_id)
            if found is None or found.state is not BookingState.PREPARING:
                return None
            store.note(found.id, now, "perfci", action, reason[:500])
            self._service.end(store, found, now, "perfci", "ended")
            self._service.queue(store, now).move_up()
            return self._service.again(store, found.id)

    def ready(self, reservation_id: str) -> Booking | None:
        """Say that a reservation is ready; None where the claim was lost.

        Raises StateOrder where not every node has passed every step since its preparation began: nobody is
        told earlier.
        """
        with self._service.order() as (store, now):
            found = self._claimed(store, reservation_id)
            if found is None or found.state is not BookingState.PREPARING:
                return None
            if self._unprepared(store, found):
                raise StateOrder(
                    id=found.id, before=found.state, after=BookingState.READY, why=": a step is missing"
                )
            columns: dict[str, Any] = {
                "ready_at": now,
                "claimed_by": None,
                "claimed_until": None,
                "attempts": 0,
            }
            self._service.to(store, found, BookingState.READY, now, **columns)
            machines = self._service.machines(found.nodes)
            ask_for(store, machines, found.wipe, now, actor=found.holder, reservation_id=found.id)
            return self._service.again(store, found.id)

    def without(self, reservation_id: str, node: str, reason: str) -> Booking | None:
        """Go on without a node that failed: with another that fits, else back into the queue.

        A reservation of certain nodes keeps them and is prepared again later. Returns None where the claim
        was lost.
        """
        with self._service.order() as (store, now):
            found = self._claimed(store, reservation_id)
            if found is None or found.state is not BookingState.PREPARING or node not in found.nodes:
                return found
            store.note(found.id, now, "perfci", "node failed", f"{node}: {reason}"[:500])
            try:
                self._service.swap_for(store, found, node, now)
            except NoSuchSlot:
                self._back(store, found, now)
            return self._service.again(store, found.id)

    def reclaimed(self, reservation_id: str) -> None:
        """Say that all is done that can be done with the nodes of a reservation that is over."""
        with self._service.order() as (store, now):
            found = self._claimed(store, reservation_id)
            if found is not None and found.state is BookingState.RECLAIMING:
                store.cut(found.id, now)
                columns: dict[str, Any] = {"claimed_by": None, "claimed_until": None}
                self._service.to(store, found, BookingState.OVER, now, action="over", **columns)
                self._service.queue(store, now).move_up()

    def give_up(self, reservation_id: str) -> None:
        """Leave the work to another attempt: what was claimed is free for it after a while."""
        with self._service.order() as (store, _):
            found = self._claimed(store, reservation_id)
            if found is not None:
                store.change(found.id, claimed_by=None)

    def put_off(self, reservation_id: str, reason: str) -> None:
        """Leave the work to another attempt because of what no node is to blame for; say why, once."""
        reason = " ".join(reason.split())[:500]
        with self._service.order() as (store, now):
            found = self._claimed(store, reservation_id)
            if found is None:
                return
            told = store.events_of(found.id, PUT_OFF)
            if not told or told[-1].detail != reason:
                store.note(found.id, now, "perfci", PUT_OFF, reason)
            store.change(found.id, claimed_by=None)

    def _claimed(self, store: ReservationRows, reservation_id: str) -> Booking | None:
        found = store.booking(reservation_id)
        return found if found is not None and found.claimed_by == self._worker else None

    def _back(self, store: ReservationRows, found: Booking, now: datetime) -> None:
        """Put a reservation back that can't be prepared now; its time is worth more than its place."""
        if found.wish.names:
            store.change(found.id, claimed_by=None)
            return
        store.drop_places([found.id])
        columns: dict[str, Any] = {"claimed_by": None, "claimed_until": None, "firm": False}
        self._service.to(store, found, BookingState.WAITING, now, action="back in the queue", **columns)
        self._service.queue(store, now).replan(self._service.again(store, found.id))

    def unprepared(self, booking: Booking) -> tuple[str, ...]:
        """Return the nodes of a reservation that have not passed all their steps since they belong to it.

        Those that its holder works on already, while another one was swapped in, are none of them.
        """
        with self._service.reading() as store:
            return self._unprepared(store, booking)

    def _unprepared(self, store: ReservationRows, found: Booking) -> tuple[str, ...]:
        events = store.node_events(_on_its_nodes(found))
        left = []
        for place in found.places:
            machine = bool(self._service.machines([place.node]))
            steps = steps_before_ready(has_bmc=machine, cloud=found.cloud)
            done = [
                (one.subject, one.action, one.ok)
                for one in events
                if one.subject == place.node and one.at >= place.starts_at
            ]
            if place.left_at is None and not is_ready({place.node: steps}, done):
                left.append(place.node)
        return tuple(sorted(left))

    def _keep_on(self, store: ReservationRows, found: Booking, now: datetime) -> None:
        """Keep nodes from others for longer where that takes longer: wiping a whole disk does."""
        kept = [place.ends_at for place in found.places if place.left_at is not None and place.ends_at > now]
        if kept and min(kept) - now < RECLAIM / 2:
            self._keep_nodes(store, found, now)

    def _keep_nodes(self, store: ReservationRows, found: Booking, now: datetime) -> None:
        store.cut(found.id, now)
        wanted = self._service.touched(found)
        until = now + RECLAIM
        taken: dict[str, int] = {}
        for _, node, start, _ in store.intervals(now, until, frozenset(wanted)):
            taken[node] = min(start, taken.get(node, start))
        for node in wanted:
            end = min(until, moment(taken[node])) if node in taken else until
            if end > now:
                store.add_places(found.id, [Place(node, now, end, left_at=now)])


def _on_its_nodes(booking: Booking) -> sa.ColumnElement[bool]:
    """Select what was done for a reservation: an index has the history of each node, none that of all."""
    nodes = {place.node for place in booking.places}
    return node_event.c.node.in_(sorted(nodes)) & (node_event.c.reservation_id == booking.id)


def _open_work(now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        reservation.c.state.in_([str(state) for state in _TO_DO]),
        # A night prepares its nodes itself; one that was killed can't take them back.
        sa.or_(reservation.c.job.is_(None), reservation.c.state != str(BookingState.PREPARING)),
        sa.or_(reservation.c.claimed_until.is_(None), reservation.c.claimed_until <= now),
    )
