"""How a node did lately, from what was done with it: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfci.lab.reservations.model import NodeHealth
from perfci.lab.reservations.states import SMOKE
from perfci.lab.reservations.wiping import WIPE_ASKED, WIPED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from perfci.lab.reservations.model import BookingEvent

FORCED = "forced"
"""The event of a node that an admin gave orders to though somebody else held it."""
ORDERED = "ordered"
"""The event of a node whose BMC somebody gave an order, such as `power cycle`."""
HARDWARE = "hardware"
"""What a BMC says of its machine: noted in the history of the node, and nothing that was done with it."""
_NO_OPERATIONS = frozenset(
    {"quarantine", "restore", "retire", "add", FORCED, ORDERED, SMOKE, HARDWARE, WIPE_ASKED, WIPED}
)


def node_health(
    events: Sequence[BookingEvent], used_hours: float, since: datetime, now: datetime
) -> NodeHealth:
    """Return how a node did between two times, from what was done with it then, oldest first."""
    tried = [one for one in events if one.action not in _NO_OPERATIONS]
    broken = _broken(events, since, now)
    whole = (now - since).total_seconds() / 3600
    return NodeHealth(
        operations=len(tried),
        failures=sum(not one.ok for one in tried),
        used_hours=used_hours,
        idle_hours=max(0.0, whole - used_hours - broken),
        broken_hours=broken,
    )


def _broken(events: Sequence[BookingEvent], since: datetime, now: datetime) -> float:
    """Return the hours that a node was in quarantine."""
    hours, begun = 0.0, None
    for one in events:
        if one.action == "quarantine" and begun is None:
            begun = one.at
        elif one.action == "restore":
            hours += ((one.at - (begun or since)).total_seconds()) / 3600
            begun = None
    return hours + ((now - begun).total_seconds() / 3600 if begun else 0.0)
