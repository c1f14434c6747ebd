"""Which nodes a command to BMCs is for: who may give it, and what is written down of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfci.cli.access import settings_for
from perfci.cli.choices import ChoiceUnclear
from perfci.lab.claims import against
from perfci.lab.errors import (
    AdminsOnly,
    NodeNotHeld,
    NodesNotReserved,
    NodesUnknown,
    NotReady,
    ReservationNotFound,
    ReservationOver,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from perfci.lab.bmc.base import Target
    from perfci.lab.claims import Claims
    from perfci.lab.ledger import Ledger
    from perfci.lab.model import Reservation
    from perfci.lab.reservations.model import Actor
    from perfci.lab.reservations.service import Reservations


@dataclass(frozen=True, slots=True)
class ChosenNodes:
    """The nodes that somebody names: by their own names, or by a reservation, which is all of its nodes.

    An order is for one's own nodes, for admins also for those that nobody holds, with `force` for all. A
    command that only `looks` is for everybody's nodes; a reservation may be named by its holder and by admins
    alone. `order` is what the history says of it, such as `power cycle`; its first word is the command. With
    `one` it is for one node alone: `node` says which, where a reservation has several.
    """

    names: Sequence[str]
    everything: bool
    order: str
    force: bool = False
    looks: bool = False
    one: bool = False
    node: str | None = None

    @property
    def command(self) -> str:
        """Return the name of the command."""
        return self.order.split()[0]

    def targets(self) -> tuple[Target, ...]:
        """Return how their BMCs are reached.

        Raises ChoiceUnclear, NodesUnknown, NodeNotHeld, NodeHeld, NodesNotReserved, AdminsOnly, NotYours,
        NotReady, ReservationOver, BmcUnknown, and what settings and inventory raise.
        """
        from perfci.lab import inventory

        return inventory.targets(settings_for().inventory_dir, self.check())

    def check(self, *, record: bool = True) -> Sequence[str]:
        """Return the names of the nodes, where whoever calls may give the order; `record` who gave which.

        Raises as `targets` does.
        """
        from perfci.cli.lab_calendar import actor, reservations
        from perfci.lab.sql import open_ledger

        if bool(self.names) == self.everything:
            raise ChoiceUnclear(
                choices="names of nodes, or IDs of reservations, or --all", command=self.command
            )
        settings = settings_for()
        ledger, service = open_ledger(settings), reservations()
        who = actor(service, settings)
        if not self.looks:
            ledger.sweep()
        known = [node.name for node in ledger.nodes]
        names = known if self.everything else nodes_named(service, self.names, known, who, self.order)
        if self.one:
            names = [_one_of(names, self.names[0], self.node)]
        if not self.looks:
            held = ledger.held()
            claims = self._check_may(ledger, names, held, who)
            if record:
                _record(service, names, held, claims=claims, who=who, order=self.order)
        return names

    def _check_may(
        self, ledger: Ledger, names: Sequence[str], held: Sequence[Reservation], who: Actor
    ) -> Claims:
        """Return whom the order disturbs. Raises NodeHeld, NodesNotReserved, AdminsOnly."""
        claims = against(names, held, person=who.name)
        if claims and not self.force:
            raise claims.error
        if claims and not who.admin:
            others = {node for one in claims.held for node in one.nodes}.intersection(names)
            order = f"{self.command} of {', '.join(sorted(others))}, which others hold"
            raise AdminsOnly(actor=who.name, lab=ledger.lab, order=order)
        mine = {node for one in held if one.owner is None and one.holder == who.name for node in one.nodes}
        if not who.admin and (others := set(names) - mine):
            raise NodesNotReserved(nodes=", ".join(sorted(others)), actor=who.name)
        return claims


def nodes_named(
    service: Reservations, names: Sequence[str], known: Collection[str], who: Actor, order: str
) -> list[str]:
    """Return the nodes that are meant, each once. What is called as a node is that node.

    A reservation is known by its nodes from when its time begins until it is over.
    Raises NodesUnknown, NotYours, NotReady, ReservationOver.
    """
    found: dict[str, None] = {}
    unknown = []
    for name in names:
        if name in known:
            found[name] = None
            continue
        try:
            found |= dict.fromkeys(_nodes_of(service, name, who, order))
        except ReservationNotFound:
            unknown.append(name)
    if unknown:
        raise NodesUnknown(
            lab=service.lab,
            size=len(known),
            known=", ".join(known),
            wanted=f"{', '.join(name[:60] for name in unknown)} (no reservation is called so either)",
        )
    return list(found)


def _one_of(names: Sequence[str], target: str, node: str | None) -> str:
    """Return which of the nodes that `target` names is meant. Raises NodeNotHeld, ChoiceUnclear."""
    if node is None and len(names) > 1:
        raise ChoiceUnclear(choices=f"{target} and one of its nodes: {', '.join(names)}", command="console")
    if node is not None and node not in names:
        raise NodeNotHeld(node=node[:60], id=target, nodes=", ".join(names))
    return node or names[0]


def _nodes_of(service: Reservations, reservation_id: str, who: Actor, order: str) -> tuple[str, ...]:
    from perfci.lab.reservations.checks import check_may
    from perfci.lab.reservations.model import BookingState
    from perfci.lab.reservations.states import OPEN

    found = service.show(reservation_id)
    check_may(who, found)
    if found.state not in OPEN:
        raise ReservationOver(id=found.id, state=str(found.state), order=order)
    if found.state not in {BookingState.PREPARING, BookingState.READY}:
        raise NotReady(id=found.id, state=found.state)
    return found.nodes


def _record(
    service: Reservations,
    names: Sequence[str],
    held: Sequence[Reservation],
    *,
    claims: Claims,
    who: Actor,
    order: str,
) -> None:
    """Write down who gives the order: with the reservations that have the nodes, and with each node."""
    from perfci.lab.reservations.node_health import FORCED, ORDERED

    disturbed = {node: one.holder for one in claims.held for node in one.nodes}
    with service.order() as (store, now):
        for one in held:
            if nodes := sorted(set(names).intersection(one.nodes)):
                store.note(one.id, now, who.name, order, ", ".join(nodes)[:500])
        for node in names:
            holder = disturbed.get(node)
            detail = order if holder is None else f"{order}, though {holder} holds it"
            store.note_node(node, now, who.name, ORDERED if holder is None else FORCED, detail=detail)
