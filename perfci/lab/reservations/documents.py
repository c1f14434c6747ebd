"""Reservations as JSON documents: what `--json` prints and the web page's API answers."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from perfci.lab.reservations.keys import fingerprint

if TYPE_CHECKING:
    from datetime import datetime

    from perfci.lab.reservations.model import Booking, BookingEvent, NodeStatus


def booking_document(one: Booking) -> dict[str, Any]:
    """Return a reservation. Times are ISO 8601 in UTC."""
    return {
        "id": one.id,
        "lab": one.lab,
        "holder": one.holder,
        "reason": one.purpose,
        "state": str(one.state),
        "priority": one.priority.name.lower(),
        "firm": one.firm,
        "nodes": list(one.nodes),
        "wish": {"count": one.wish.size, "names": sorted(one.wish.names), "where": one.wish.where},
        "asked_at": _iso(one.asked_at),
        "starts_at": _iso(one.starts_at),
        "ends_at": _iso(one.ends_at),
        "length_seconds": one.length_seconds,
        "ready_at": _iso(one.ready_at),
        "released_at": _iso(one.released_at),
        "os": one.os,
        "cloud": one.cloud,
        "wipe_disks": str(one.wipe),
        "keys": [fingerprint(key) for key in one.keys],
        "job": one.job,
        "process": None if one.owner is None else asdict(one.owner),
    }


def event_document(one: BookingEvent) -> dict[str, Any]:
    """Return what somebody did to a reservation or a node."""
    return {**asdict(one), "at": _iso(one.at)}


def node_document(one: NodeStatus) -> dict[str, Any]:
    """Return a node as it is now."""
    quarantine = one.quarantine
    return {
        "name": one.name,
        "state": str(one.state),
        "has_bmc": one.has_bmc,
        "facts": dict(one.facts),
        "reservation": booking_document(one.booking) if one.booking else None,
        "next": booking_document(one.next_booking) if one.next_booking else None,
        "free_until": _iso(one.free_until),
        "quarantine": (
            {"reason": quarantine.reason, "since": _iso(quarantine.since)} if quarantine else None
        ),
        "retired_reason": one.retired_reason,
    }


def _iso(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat()
