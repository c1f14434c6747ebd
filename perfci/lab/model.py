"""Who holds what: nodes, the processes that own a lease, reservations, nodes in quarantine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@dataclass(frozen=True, slots=True, order=True)
class Node:
    """One machine of a lab. Without a BMC it is a machine that perfci can't provision, such as this one."""

    name: str
    has_bmc: bool = field(default=False, compare=False)
    labels: Mapping[str, str] = field(default_factory=dict, compare=False)
    """What its inventory says of it, for jobs that want nodes of one kind: `node_facts` and `node_labels`."""
    in_cloud: bool = field(default=True, compare=False)
    """Whether the playbooks deploy clouds on it: it is in the inventory's group `cloud`."""


@dataclass(frozen=True, slots=True)
class Owner:
    """One process, told apart from every other that ever had its pid.

    `boot` is the kernel's boot id, `started_ticks` the process's start in clock ticks since that boot:
    unlike a time of day neither moves when the clock is set.
    """

    host: str
    boot: str
    pid: int
    started_ticks: int


@dataclass(frozen=True, slots=True)
class Quarantine:
    """A node that is not given out until somebody restores it. `since` is an aware datetime in UTC."""

    node: str
    reason: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Reservation:
    """Who holds which nodes of a lab, from when to when. Times are aware datetimes in UTC.

    A lease of a running process has an `owner` and ends with it; a person's reservation has none.
    """

    id: str
    lab: str
    nodes: tuple[str, ...]
    holder: str
    purpose: str
    starts_at: datetime
    ends_at: datetime
    owner: Owner | None = None
    released_at: datetime | None = None

    def holds_at(self, when: datetime) -> bool:
        """Tell whether the nodes are held at that time."""
        return self.released_at is None and self.starts_at <= when < self.ends_at
