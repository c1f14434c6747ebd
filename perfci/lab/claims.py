"""Whom an order to nodes would disturb: who holds them, and which are in quarantine."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfci.lab.errors import NodeHeld, NodesQuarantined, held

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from pathlib import Path

    from perfci.errors import PerfciError
    from perfci.lab.model import Owner, Quarantine, Reservation


@dataclass(frozen=True, slots=True)
class Claims:
    """What speaks against an order to nodes."""

    held: tuple[Reservation, ...] = ()
    quarantined: tuple[Quarantine, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether there is anything."""
        return bool(self.held or self.quarantined)

    @property
    def error(self) -> PerfciError:
        """Return the error that tells of the first kind there is."""
        if self.held:
            return NodeHeld(reservations=self.held)
        return NodesQuarantined(wanted="this order", quarantined=self.quarantined)

    def lines(self) -> list[str]:
        """Return one line for each."""
        quarantined = [f"{one.node}: in quarantine: {one.reason}" for one in self.quarantined]
        return [*(held(one) for one in self.held), *quarantined]


def against(
    nodes: Iterable[str],
    reservations: Iterable[Reservation],
    quarantined: Iterable[Quarantine] = (),
    *,
    person: str,
    processes: frozenset[Owner] = frozenset(),
) -> Claims:
    """Return what speaks against an order by `person` to these nodes.

    Nodes that the person reserved are no obstacle, nor those leased by one of `processes`: the run itself
    gives the order. Another run of the same person would be spoilt by it, so it counts as somebody else.
    A run keeps a node that goes into quarantine meanwhile: it must be able to switch it off.
    """
    wanted = frozenset(nodes)
    reservations = tuple(reservations)
    leased = {node for one in reservations if one.owner in processes for node in one.nodes}

    def mine(one: Reservation) -> bool:
        return one.owner in processes if one.owner is not None else one.holder == person

    return Claims(
        tuple(one for one in reservations if not wanted.isdisjoint(one.nodes) and not mine(one)),
        tuple(one for one in quarantined if one.node in wanted - leased),
    )


def record_override(
    file: Path, claims: Claims, *, nodes: Iterable[str], person: str, reason: str, at: datetime
) -> None:
    """Write down who gave an order against claims, and why: one line of JSON for each. Raises OSError."""
    entry = {
        "at": at.isoformat(timespec="seconds"),
        "who": person,
        "why": reason,
        "nodes": sorted(nodes),
        "against": claims.lines(),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(entry) + "\n")
