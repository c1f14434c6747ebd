"""What people ask for and get: wishes, reservations with their states, and who acts."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from perfci.lab.model import Owner, Quarantine


class BookingState(StrEnum):
    """How far a reservation is. It goes through these in their order, and may skip some."""

    ASKED = "asked"
    """Written down, and no time can be planned: nodes that it needs are in quarantine."""
    WAITING = "waiting"
    """Its nodes and its time are planned."""
    PREPARING = "preparing"
    """Its time has begun; its nodes are switched on, provisioned and checked."""
    READY = "ready"
    """All of that has passed: its holder works on the nodes."""
    ENDING = "ending"
    """Its time is over or it was given back; access is being revoked."""
    RECLAIMING = "reclaiming"
    """Its nodes are being cleaned and checked."""
    OVER = "over"
    """Nothing is left to do."""


class Priority(IntEnum):
    """Who comes first in the queue; the lower number does."""

    PEOPLE = 0
    NIGHT = 1
    BISECT = 2


class Wipe(StrEnum):
    """What is wiped of machines' disks before anybody else gets them, as `playbooks/reclaim.yml` calls it."""

    NONE = "none"
    HEADERS = "headers"
    """Both ends of the disk: nothing finds a system or a partition any more."""
    FULL = "full"
    """All of it."""


@dataclass(frozen=True, slots=True)
class NodeWish:
    """Which nodes are wanted: all of `names`; or any `count`, of those that `where` is true for.

    `where` is an expression of `perfci.lab.labels`; empty: any node will do.
    """

    count: int = 1
    names: frozenset[str] = frozenset()
    where: str = ""

    @property
    def size(self) -> int:
        """How many nodes are wanted."""
        return len(self.names) or self.count

    def __str__(self) -> str:
        """Say it for people."""
        if self.names:
            return ", ".join(sorted(self.names))
        some = f"{self.count} node{'s' if self.count > 1 else ''}"
        return f"{some} where {self.where}" if self.where else some


@dataclass(frozen=True, slots=True)
class Slot:
    """Nodes that are free together from `starts_at` to `ends_at`: aware datetimes in UTC, names sorted."""

    starts_at: datetime
    ends_at: datetime
    nodes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "starts_at": self.starts_at.isoformat(),
            "ends_at": self.ends_at.isoformat(),
            "nodes": list(self.nodes),
        }


@dataclass(frozen=True, slots=True)
class Actor:
    """Who gives an order. `admin` may do to everybody's reservations what their holders may."""

    name: str
    admin: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """A reservation that is asked for.

    `length_seconds` is how long; `starts_at` (aware) is a firm start, None: as soon as possible.
    `wait_seconds` refuses a slot that would begin later than that from now; None: any time will do. `contact`
    is a mail address, empty: nobody hears of it. `os` is one of `checks.SYSTEMS`, empty: the lab's own.
    `cloud` names a job, or a kind of cloud: it is deployed on the nodes before they are ready; empty: none.
    `keys` are SSH public keys, one a line, with which people log in on its machines. `wipe` is what is wiped
    of their disks when they are taken back.
    """

    wish: NodeWish
    length_seconds: float
    purpose: str
    starts_at: datetime | None = None
    wait_seconds: float | None = 0
    priority: Priority = Priority.PEOPLE
    contact: str = ""
    os: str = ""
    cloud: str = ""
    keys: tuple[str, ...] = ()
    wipe: Wipe = Wipe.NONE


@dataclass(frozen=True, slots=True)
class Place:
    """One node of a reservation. `left_at` is set where it left before the others."""

    node: str
    starts_at: datetime
    ends_at: datetime
    left_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Booking:
    """A reservation with all that the database knows of it. Times are aware datetimes in UTC.

    `starts_at` and `ends_at` are planned where it waits. A `firm` one keeps its time. `earliest_at` is when
    its holder wanted it at the earliest. `ready_at` is when it became ready, `released_at` when it was given
    back or its time ended. `job` and `window_at` say which night it was planned for. `active_at` is when
    somebody was last seen at work on its nodes, `looked_at` when that was last looked at. `keys` are the SSH
    public keys that open its machines, beside the controller's. `wipe` is what is wiped of their disks at its
    end.
    """

    id: str
    lab: str
    holder: str
    purpose: str
    state: BookingState
    priority: Priority
    firm: bool
    asked_at: datetime
    earliest_at: datetime
    starts_at: datetime
    ends_at: datetime
    wish: NodeWish
    places: tuple[Place, ...]
    ready_at: datetime | None = None
    released_at: datetime | None = None
    os: str = ""
    cloud: str = ""
    contact: str = ""
    job: str | None = None
    window_at: datetime | None = None
    owner: Owner | None = None
    claimed_by: str | None = None
    claimed_until: datetime | None = None
    attempts: int = 0
    active_at: datetime | None = None
    looked_at: datetime | None = None
    keys: tuple[str, ...] = ()
    wipe: Wipe = Wipe.NONE

    @property
    def nodes(self) -> tuple[str, ...]:
        """Return the nodes that belong to it now or did until its end, sorted by name."""
        return tuple(sorted(place.node for place in self.places if place.left_at is None))

    @property
    def length_seconds(self) -> float:
        """How long it is, in seconds."""
        return (self.ends_at - self.starts_at).total_seconds()


def only_to_reclaim(
    lab: str, nodes: Collection[str], now: datetime, *, holder: str, purpose: str, priority: Priority
) -> Booking:
    """Return a new reservation that is over, except that its nodes have to be reclaimed."""
    return Booking(
        id=secrets.token_hex(4),
        lab=lab,
        holder=holder,
        purpose=purpose,
        state=BookingState.ENDING,
        priority=priority,
        firm=True,
        asked_at=now,
        earliest_at=now,
        starts_at=now,
        ends_at=now,
        released_at=now,
        wish=NodeWish(len(nodes), frozenset(nodes)),
        places=tuple(Place(node, now, now) for node in nodes),
    )


@dataclass(frozen=True, slots=True)
class BookingEvent:
    """Who did what to a reservation or to a node, when. `ok` is False for what failed."""

    at: datetime
    actor: str
    action: str
    detail: str
    subject: str
    """The id of the reservation, or the name of the node."""
    ok: bool = True


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """What the database knows of a node: whether it is retired, and hardware facts."""

    retired: bool = False
    reason: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


class NodeState(StrEnum):
    """What a node does now."""

    FREE = "free"
    HELD = "held"
    QUARANTINED = "quarantined"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class NodeHealth:
    """What was done with a node lately, and its hours in use, idle and broken."""

    operations: int = 0
    failures: int = 0
    used_hours: float = 0.0
    idle_hours: float = 0.0
    broken_hours: float = 0.0

    @property
    def failures_per_100(self) -> float | None:
        """Failures in 100 operations; None where there were none."""
        return 100 * self.failures / self.operations if self.operations else None


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node as people see it.

    `booking` holds it now (also in quarantine: who has it keeps it), `next_booking` is the next one to come.
    `free_until` is when the next one begins on a free node, None: nothing is booked. `facts` are labels of
    the inventory and recorded facts together.
    """

    name: str
    state: NodeState
    has_bmc: bool
    facts: Mapping[str, str]
    booking: Booking | None = None
    next_booking: Booking | None = None
    quarantine: Quarantine | None = None
    retired_reason: str = ""

    @property
    def free_until(self) -> datetime | None:
        """Return when the next reservation of it begins."""
        return self.next_booking.starts_at if self.next_booking else None
