"""Which node plays which part of a cloud on several nodes. Pure: names in, parts out.

The nodes are taken in the order of their names, so that the same nodes always play the same parts. The
controller comes first, the load last, computes stand between them; a network node of its own follows the
controller:

    nodes  without `compute_nodes`
    1      everything
    2      controller and network, compute and load
    3      controller and network, compute, compute and load
    4      controller and network, compute, compute, load
    5      controller, network, compute, compute, load; each further one is a compute

With devstack the first one is all but computes, and all others are these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

CONTROLLER, NETWORK, COMPUTE, LOAD = PARTS = ("controller", "network", "compute", "load")
SEVERAL = "cloud_several"
"""The inventory group of all nodes of any cloud on several; each part is a group `cloud_<part>` below it."""
GROUP = "cloud_multinode"
DEVSTACK_GROUP = "cloud_devstack"
"""Below it, the group of all nodes of a cloud of that kind."""
MOST_OTHERS = 3
"""Controller, network and load may each have a node of their own."""
_FIRST_COMPUTE = (0, 1, 1, 2)
"""How many nodes come before the first compute, by how many are none."""
_OWN_NETWORK = 3


@dataclass(frozen=True, slots=True)
class Parts:
    """The nodes of a cloud by their part; `computes` says how many nova-compute services each compute has.

    With `fake` these are pretend hypervisors, else the one of the machine itself. `group` is that of the
    cloud's kind.
    """

    controller: str
    network: str
    load: str
    computes: Mapping[str, int]
    fake: bool = True
    group: str = GROUP

    @property
    def nodes(self) -> tuple[str, ...]:
        """Return all nodes, sorted."""
        return tuple(sorted({self.controller, self.network, self.load, *self.computes}))

    def of(self, node: str) -> tuple[str, ...]:
        """Return the parts that a node plays."""
        held = {CONTROLLER: [self.controller], NETWORK: [self.network], LOAD: [self.load]}
        held[COMPUTE] = list(self.computes)
        return tuple(part for part in PARTS if node in held[part])

    def inventory(self) -> dict[str, Any]:
        """Return what Ansible needs to know of it, beside the inventory of the lab, as YAML holds it."""
        hosts = {node: self._variables(node) for node in self.nodes}
        groups: dict[str, Any] = {
            f"cloud_{part}": {"hosts": {node: {} for node in self.nodes if part in self.of(node)}}
            for part in PARTS
        }
        of_kind = {self.group: {"hosts": hosts, "children": groups}}
        return {"all": {"children": {SEVERAL: {"children": of_kind}}}}

    def _variables(self, node: str) -> dict[str, Any]:
        pretends = self.fake and node in self.computes
        count = {"fake_compute_count": self.computes[node]} if pretends else {}
        return {"cloud_parts": list(self.of(node)), **count}


def usual_compute_nodes(nodes: int) -> int:
    """Return how many of so many nodes are computes where the job does not say."""
    return max(1, nodes - min(MOST_OTHERS, max(1, nodes - 2)))


def possible_compute_nodes(nodes: int) -> range:
    """Return how many of so many nodes can be computes: of all others, each plays a part."""
    return range(max(1, nodes - MOST_OTHERS), max(1, nodes - 1) + 1)


def assign(nodes: Collection[str], *, computes: int | None, compute_nodes: int | None = None) -> Parts:
    """Say which of these nodes plays which part.

    `computes` nova-compute services that pretend are spread over `compute_nodes` nodes, as evenly as it goes;
    both are of a job that was checked (`possible_compute_nodes`, at least one service for each). None: each
    of these nodes is a hypervisor itself.
    """
    names = sorted(nodes)
    wanted = usual_compute_nodes(len(names)) if compute_nodes is None else compute_nodes
    others = len(names) - wanted
    first = _FIRST_COMPUTE[others]
    return Parts(
        controller=names[0],
        network=names[1] if others >= _OWN_NETWORK else names[0],
        load=names[-1],
        computes=_shared(names[first : first + wanted], computes),
        fake=computes is not None,
    )


def assign_devstack(nodes: Collection[str], *, computes: int | None) -> Parts:
    """Say which of these nodes is devstack's controller, with the load; all others are sub-nodes.

    There are two at least. `computes` is as `assign` has it, spread over the sub-nodes.
    """
    first, *others = sorted(nodes)
    return Parts(
        controller=first,
        network=first,
        load=first,
        computes=_shared(others, computes),
        fake=computes is not None,
        group=DEVSTACK_GROUP,
    )


def _shared(nodes: Sequence[str], computes: int | None) -> dict[str, int]:
    """Spread nova-compute services over nodes as evenly as it goes; None: one for each."""
    each, more = divmod(len(nodes) if computes is None else computes, len(nodes))
    return {node: each + (place < more) for place, node in enumerate(nodes)}
