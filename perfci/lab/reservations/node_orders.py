"""What admins do with nodes, and what that means for reservations to come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfci.database.schema import node_event, node_record
from perfci.database.schema import quarantine as quarantines
from perfci.lab.errors import NoCanary, local_time
from perfci.lab.model import Quarantine
from perfci.lab.reservations.calendar import Item, Span, busy_of, repairs
from perfci.lab.reservations.checks import check_admin, check_line
from perfci.lab.reservations.model import BookingState, NodeRecord, Place
from perfci.lab.reservations.states import SMOKE
from perfci.lab.reservations.store import END_OF_TIME, ticks

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from perfci.lab.reservations.model import Actor, Booking
    from perfci.lab.reservations.service import Reservations
    from perfci.lab.reservations.store import ReservationRows

NOT_THE_NODE = frozenset({SMOKE})
"""Steps whose failure says nothing about a machine: a cloud's code may be what does not work."""
FAILURES_IN_A_ROW = 2
"""After so many failed operations of one kind in a row a node goes into quarantine."""
STRANDED = "stranded"
"""The event of a reservation that needs a node in quarantine and can't be moved."""


class NodeOrders:
    """Quarantine, restore, retire, add. Every order is one transaction, and moves reservations to come."""

    def __init__(self, reservations: Reservations) -> None:
        self._service = reservations

    def quarantine(self, node: str, reason: str, actor: Actor) -> Quarantine:
        """Give a node to nobody from now on; who has it keeps it. The first reason stays.

        Reservations to come get another node; `mend` says how. Raises NodesUnknown, AdminsOnly.
        """
        check_admin(actor, self._service.lab, "putting a node into quarantine")
        self._service.check_known([node])
        reason = check_line("reason", reason)
        with self._service.order() as (store, now):
            entry = self._quarantine(store, node, reason, now, actor.name)
            self._mend(store, now)
        return entry

    def restore(self, node: str, actor: Actor, *, reason: str = "", force: bool = False) -> bool:
        """Give a node out again, and return whether it was in quarantine.

        A machine needs a canary that passed since it was put there, unless `force` is said; without a BMC
        there is no canary to ask for. Raises NoCanary, NodesUnknown, AdminsOnly, ReservationInvalid.
        """
        check_admin(actor, self._service.lab, "restoring a node")
        self._service.check_known([node])
        told = [check_line("reason", reason)] if reason else []
        with self._service.order() as (store, now):
            entry = store.quarantined().get(node)
            if entry is None:
                return False
            if not force and self._service.machines([node]):
                since = node_event.c.at >= entry.since
                canaries = [
                    one
                    for one in store.node_events(node_event.c.node == node, since)
                    if one.action == "canary"
                ]
                if not canaries or not canaries[-1].ok:
                    raise NoCanary(node=node, since=local_time(entry.since))
            mine = (quarantines.c.lab == store.lab) & (quarantines.c.node == node)
            store.connection.execute(quarantines.delete().where(mine))
            store.note_node(
                node, now, actor.name, "restore", detail="; ".join(["forced", *told] if force else told)
            )
            self._service.queue(store, now).move_up()
        return True

    def retire(self, node: str, reason: str, actor: Actor) -> None:
        """Take a node out of use for good, and move reservations to come.

        Raises NodesUnknown, AdminsOnly.
        """
        self._record(node, actor, retired=True, reason=reason, action="retire")

    def add(self, node: str, reason: str, actor: Actor, *, facts: Mapping[str, str] | None = None) -> None:
        """Put a node of the inventory into use, with hardware facts for filters beside its labels.

        Raises NodesUnknown, AdminsOnly.
        """
        self._record(node, actor, retired=False, reason=reason, action="add", facts=facts)

    def note(
        self, node: str, step: str, *, ok: bool, reservation_id: str = "", detail: str = ""
    ) -> Quarantine | None:
        """Write down how an operation on a node ended: `power`, `provision`, `canary`, `smoke`, `reclaim`.

        A node on which one of them fails twice in a row goes into quarantine with the words of both, and
        reservations to come are moved; that entry is returned.
        """
        detail = " ".join(detail.split())[:500]
        with self._service.order() as (store, now):
            store.note_node(node, now, "perfci", step, ok=ok, reservation_id=reservation_id, detail=detail)
            if ok or step in NOT_THE_NODE or node in store.quarantined():
                return None
            mine = (node_event.c.node == node) & (node_event.c.action.in_([step, "restore"]))
            last = store.node_events(mine, limit=FAILURES_IN_A_ROW)
            if len(last) < FAILURES_IN_A_ROW or any(one.ok for one in last):
                return None
            words = "; ".join(dict.fromkeys(one.detail for one in last if one.detail))
            entry = self._quarantine(
                store, node, f"{step} failed {FAILURES_IN_A_ROW} times in a row: {words}"[:500], now, "perfci"
            )
            self._mend(store, now)
            return entry

    def passed(self, nodes: Collection[str], steps: Collection[str], *, reservation_id: str = "") -> None:
        """Write down that all these nodes have passed these steps, in their order: all of it or nothing."""
        with self._service.order() as (store, now):
            store.note_nodes(nodes, steps, now, "perfci", reservation_id=reservation_id)

    def mend(self) -> None:
        """Move reservations to come away from nodes that may not be given out.

        A count of nodes gets others that fit and are free at the same time; without them one of the queue is
        planned again, and a firm one keeps its time and its nodes: its event `stranded` says so, once for
        each node. Doing it again changes nothing.
        """
        with self._service.order() as (store, now):
            self._mend(store, now)

    def _mend(self, store: ReservationRows, now: datetime) -> None:
        usable = self._service.usable(store)
        broken = store.nodes_to_come(now) - usable
        waiting = str(BookingState.WAITING)
        hit = (
            [one for one in store.between(now, END_OF_TIME, broken) if one.state == waiting] if broken else []
        )
        hit = [one for one in hit if not usable.issuperset(one.nodes)]
        if not hit:
            return
        fits = self._service.fits(store)
        queue = self._service.queue(store, now)
        busy = busy_of(one[1:] for one in store.intervals(now))
        planned = [
            (
                Item(
                    one.id,
                    queue.rank(one.priority, one.asked_at),
                    frozenset() if one.wish.names else fits(one.wish),
                    one.wish.size,
                    ticks(one.earliest_at),
                    ticks(one.ends_at) - ticks(one.starts_at),
                ),
                Span(ticks(one.starts_at), ticks(one.ends_at), one.nodes),
                one.firm,
            )
            for one in hit
        ]
        found = repairs(planned, broken, busy)
        for one in hit:
            repair = found[one.id]
            for old, new in repair.swaps:
                store.end_places(one.id, one.starts_at, node=old, left=True)
                store.add_places(one.id, [Place(new, one.starts_at, one.ends_at)])
                store.note(one.id, now, "perfci", "swapped", f"{old} for {new}")
            if repair.requeue:
                store.drop_places([one.id])
                queue.replan(one)
            elif not repair.swaps:
                self._strand(store, one, sorted(broken.intersection(one.nodes)), now)

    def _strand(self, store: ReservationRows, one: Booking, nodes: list[str], now: datetime) -> None:
        detail = f"{', '.join(nodes)} may not be given out now, and nothing else that fits is free then"
        told = store.events_of(one.id, STRANDED)
        if not told or told[-1].detail != detail:
            store.note(one.id, now, "perfci", STRANDED, detail)

    def _quarantine(
        self, store: ReservationRows, node: str, reason: str, now: datetime, actor: str
    ) -> Quarantine:
        entry = store.quarantined().get(node)
        if entry is None:
            entry = Quarantine(node, reason, now)
            store.connection.execute(
                quarantines.insert().values(lab=store.lab, node=node, reason=reason, since=now)
            )
            store.note_node(node, now, actor, "quarantine", ok=False, detail=reason)
        return entry

    def _record(
        self,
        node: str,
        actor: Actor,
        *,
        retired: bool,
        reason: str,
        action: str,
        facts: Mapping[str, str] | None = None,
    ) -> None:
        check_admin(actor, self._service.lab, f"{action} {node[:60]}")
        self._service.check_known([node])
        reason = check_line("reason", reason)
        given = {check_line("fact", name): check_line("fact", text) for name, text in (facts or {}).items()}
        with self._service.order() as (store, now):
            before = store.records().get(node, NodeRecord())
            mine = (node_record.c.lab == store.lab) & (node_record.c.node == node)
            store.connection.execute(node_record.delete().where(mine))
            store.connection.execute(
                node_record.insert().values(
                    lab=store.lab,
                    node=node,
                    retired=retired,
                    reason=reason,
                    facts={**before.facts, **given},
                    changed_at=now,
                )
            )
            store.note_node(node, now, actor.name, action, detail=reason)
            self._mend(store, now)
            self._service.queue(store, now).move_up()
