"""Disks that are to be wiped before anybody else works on their machines.

From when its holder has the machine, the history of the node says that a wipe is owed. It is paid when the
machine is taken back, or, where somebody got it at that very moment, before it is prepared for them. So
neither a controller that dies nor a wipe that fails makes perfci forget it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfci.database.schema import node_event
from perfci.lab.reservations.model import Wipe

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from perfci.lab.reservations.model import BookingEvent
    from perfci.lab.reservations.store import ReservationRows

WIPE_ASKED = "wipe asked"
"""The event of a node whose disk is to be wiped; its detail is a Wipe."""
WIPED = "wiped"
"""The event of a node whose disk was wiped."""
_STRENGTH = {wipe: number for number, wipe in enumerate((Wipe.NONE, Wipe.HEADERS, Wipe.FULL))}


def stronger(one: Wipe, other: Wipe) -> Wipe:
    """Return what wipes more."""
    return max(one, other, key=_STRENGTH.__getitem__)


def owed(events: Iterable[BookingEvent]) -> dict[str, Wipe]:
    """Return by node what is to be wiped, from what was done with nodes, oldest first."""
    found: dict[str, Wipe] = {}
    for one in events:
        if one.action == WIPE_ASKED:
            found[one.subject] = stronger(found.get(one.subject, Wipe.NONE), Wipe(one.detail))
        elif one.action == WIPED:
            found.pop(one.subject, None)
    return found


def wipes_owed(store: ReservationRows, nodes: Collection[str]) -> dict[str, Wipe]:
    """Return what is to be wiped on which of these nodes."""
    mine = node_event.c.node.in_(sorted(nodes)) & node_event.c.action.in_([WIPE_ASKED, WIPED])
    return owed(store.node_events(mine)) if nodes else {}


def ask_for(
    store: ReservationRows,
    nodes: Collection[str],
    wipe: Wipe,
    now: datetime,
    *,
    actor: str,
    reservation_id: str,
) -> None:
    """Write down that the disks of nodes are to be wiped, where that was not asked for already."""
    if wipe is Wipe.NONE:
        return
    before = wipes_owed(store, nodes)
    for node in nodes:
        known = before.get(node, Wipe.NONE)
        if stronger(known, wipe) is not known:
            store.note_node(node, now, actor, WIPE_ASKED, reservation_id=reservation_id, detail=str(wipe))
