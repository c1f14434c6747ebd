"""Which nodes a wish allows, and which of them may be given out."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from perfci.lab.errors import NodesUnhealthy, NodesUnknown, NodesUnmatched
from perfci.lab.labels import matching
from perfci.lab.reservations.store import ReservationRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from perfci.database.engine import Database
    from perfci.lab.model import Node
    from perfci.lab.reservations.checks import Policy
    from perfci.lab.reservations.model import Booking, NodeWish

_IMPOSSIBLE = (NodesUnknown, NodesUnmatched)


class FittingNodes:
    """The nodes of one lab, as its inventory and its database know them."""

    def __init__(
        self,
        database: Database,
        lab: str,
        nodes: Iterable[Node],
        *,
        policy: Policy,
        clock: Callable[[], datetime],
    ) -> None:
        self.lab = lab
        self.policy = policy
        self._database = database
        self._clock = clock
        self._nodes = {node.name: node for node in nodes}

    @property
    def database(self) -> Database:
        """The database, for what is to be true together with an order."""
        return self._database

    def now(self) -> datetime:
        """Return the time of this lab's clock."""
        return self._clock()

    @contextmanager
    def reading(self) -> Iterator[ReservationRows]:
        """Give the rows of this lab as they are at one moment."""
        with self._database.reading() as connection:
            yield ReservationRows(connection, self.lab)

    def eligible(self, store: ReservationRows, wish: NodeWish) -> frozenset[str]:
        """Return the nodes that a wish allows, also those in quarantine.

        Raises NodesUnknown and NodesUnmatched.
        """
        records = store.records()
        nodes = [
            replace(node, labels={**node.labels, **records[node.name].facts})
            if node.name in records
            else node
            for node in self._nodes.values()
            if node.name not in records or not records[node.name].retired
        ]
        names = frozenset(node.name for node in nodes)
        if wish.names - names:
            self._unknown(str(wish), names)
        found = wish.names or (matching(nodes, wish.where) if wish.where else names)
        if wish.size > len(found):
            self._unknown(str(wish), found)
        return found

    def usable(self, store: ReservationRows) -> frozenset[str]:
        """Return the nodes that may be given out: neither retired nor in quarantine."""
        retired = {name for name, record in store.records().items() if record.retired}
        return frozenset(self._nodes.keys() - retired - store.quarantined().keys())

    def fits(self, store: ReservationRows) -> Callable[[NodeWish], frozenset[str]]:
        """Return what says which nodes a wish allows that may be given out; none where it is impossible."""
        usable = self.usable(store)
        known: dict[NodeWish, frozenset[str]] = {}

        def fitting(wish: NodeWish) -> frozenset[str]:
            if wish not in known:
                try:
                    known[wish] = self.eligible(store, wish) & usable
                except _IMPOSSIBLE:
                    known[wish] = frozenset()
            return known[wish]

        return fitting

    def fitting(self, wish: NodeWish) -> frozenset[str]:
        """Return the nodes that a wish allows and that may be given out; none where it is impossible."""
        with self.reading() as store:
            return self.fits(store)(wish)

    def _healthy(self, store: ReservationRows, wish: NodeWish, eligible: frozenset[str]) -> frozenset[str]:
        """Return which of the nodes may be given out. Raises NodesUnhealthy where they are too few."""
        quarantined = store.quarantined()
        usable = eligible - quarantined.keys()
        if len(usable) < wish.size:
            broken = [quarantined[name] for name in sorted(eligible & quarantined.keys())]
            raise NodesUnhealthy(wanted=str(wish), quarantined=broken)
        return usable

    def machines(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return those of the nodes that have a BMC: perfci provisions and reclaims them."""
        return tuple(name for name in names if name in self._nodes and self._nodes[name].has_bmc)

    def touched(self, booking: Booking) -> tuple[str, ...]:
        """Return the nodes that perfci changes for a reservation: its machines; with a cloud, all."""
        return booking.nodes if booking.cloud else self.machines(booking.nodes)

    def _to_prepare(self, booking: Booking) -> bool:
        """Tell whether anything is to be done before a reservation is ready."""
        return bool(self.touched(booking))

    def check_known(self, names: Iterable[str]) -> None:
        """Raise NodesUnknown where the inventory lacks one of the nodes."""
        unknown = [name for name in names if name not in self._nodes]
        if unknown:
            self._unknown(", ".join(name[:60] for name in unknown), frozenset(self._nodes))

    def _unknown(self, wanted: str, names: frozenset[str]) -> NoReturn:
        raise NodesUnknown(
            lab=self.lab, size=len(names), known=", ".join(sorted(names)) or "none", wanted=wanted
        )
