"""The book of reservations: what it promises, and the one in memory.

All decisions are made by `scheduling` inside one transaction that excludes every other, so two
processes can't be given one node.
"""

from __future__ import annotations

import secrets
import threading
from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from perfci.errors import PerfciError
from perfci.lab import owners
from perfci.lab.errors import (
    LeaseInUse,
    NodesBusy,
    NodesQuarantined,
    NodesUnknown,
    ReservationInvalid,
    ReservationNotFound,
    ReservationOver,
)
from perfci.lab.model import Quarantine, Reservation
from perfci.lab.scheduling import Granted, Impossible, Wish, Withheld, conflicts, decide, over

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from perfci.lab.model import Node, Owner
    from perfci.lab.scheduling import EndReason


@dataclass(frozen=True, slots=True)
class Among:
    """So many of these nodes are wanted, the first free ones by name."""

    names: frozenset[str]
    count: int


_A_MOMENT = timedelta(microseconds=1)
Nodes = int | frozenset[str] | Among
"""How many nodes are wanted, or which, or how many of which."""


class Book(Protocol):
    """The reservations of one lab inside one transaction."""

    def unreleased(self, until: datetime | None = None) -> list[Reservation]:
        """Return those not released that have nodes, in any order; their time may be over, or still to come.

        With `until` only those that begin before it.
        """

    def find(self, reservation_id: str) -> Reservation | None:
        """Return the one with this id, released or not."""

    def add(self, reservation: Reservation) -> None:
        """Write down a new one."""

    def mark_released(self, reservation_id: str, when: datetime, *, reclaim: bool, killed: bool) -> None:
        """Write down that it is released; with `reclaim` a person's nodes are to be cleaned.

        So are those of a night that was `killed`: any other has cleaned up after itself.
        """

    def mark_extended(self, reservation_id: str, until: datetime) -> None:
        """Write down that it ends later."""

    def adopt(self, reservation_id: str, owner: Owner, purpose: str, now: datetime) -> None:
        """Give what was planned for a night to the process that runs it: the first that comes.

        Raises ReservationOver where another one came first, or the night was not started.
        """

    def quarantined(self) -> list[Quarantine]:
        """Return the nodes in quarantine, in any order."""

    def quarantine(self, entry: Quarantine) -> None:
        """Write down a node that is not in quarantine yet."""

    def restore(self, node: str) -> None:
        """Strike out a node."""


class Ledger(ABC):
    """Who holds which nodes of one lab. Processes and threads may use one book at the same time.

    Every method raises DatabaseUnavailable where the database does not answer.
    """

    def __init__(
        self,
        lab: str,
        nodes: Iterable[Node],
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.lab = lab
        self.nodes = tuple(sorted(nodes))
        self._clock = clock

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[Book]:
        """Return the book, alone with it until the context ends; an error inside undoes what was written."""

    def held(self) -> tuple[Reservation, ...]:
        """Return the reservations that hold nodes now, the one that ends first first.

        The lease of a process that runs, or may run on another host, is one of them also after its end.
        """
        now = self._clock()
        with self._transaction() as book:
            open_ones = book.unreleased(now + _A_MOMENT)
        _, living = owners.of_leases(open_ones, now)
        holding = [one for one in open_ones if one.holds_at(now) or one.owner in living]
        return tuple(sorted(holding, key=lambda reservation: (reservation.ends_at, reservation.id)))

    def reserve(
        self, *, nodes: Nodes, holder: str, purpose: str, until: datetime, owner: Owner | None = None
    ) -> Reservation:
        """Take nodes from now until `until` (aware); with an `owner` they are held no longer than it lives.

        Raises NodesBusy, NodesUnknown, ReservationInvalid.
        """
        with self._transaction() as book:
            now = self._clock()
            _check(holder, purpose, now, until)
            wish = _wish(nodes, now, until)
            taken = self._granted(wish, book)
            reservation = Reservation(
                id=secrets.token_hex(4),
                lab=self.lab,
                nodes=taken,
                holder=holder,
                purpose=purpose,
                starts_at=now,
                ends_at=until.astimezone(UTC),
                owner=owner,
            )
            book.add(reservation)
        return reservation

    def release(self, reservation_id: str) -> Reservation:
        """Give the nodes of a reservation back; one that is released already stays as it is.

        Raises ReservationNotFound; LeaseInUse where it belongs to another process that runs.
        """
        with self._transaction() as book:
            reservation = book.find(reservation_id)
            if reservation is None:
                raise ReservationNotFound(id=reservation_id, lab=self.lab)
            if reservation.released_at is not None:
                return reservation
            if reservation.owner is not None and owners.in_use(reservation.owner):
                raise LeaseInUse(id=reservation_id, pid=reservation.owner.pid, purpose=reservation.purpose)
            now = self._clock()
            reclaim = self._to_reclaim(reservation)
            book.mark_released(reservation_id, now, reclaim=reclaim, killed=False)
        return replace(reservation, released_at=now)

    def extend(self, reservation_id: str, until: datetime) -> Reservation:
        """Hold the nodes of a reservation until `until` (aware) at least; one that ends later stays so.

        Raises ReservationNotFound for one that does not exist or was released, NodesBusy where somebody has
        one of the nodes before that time.
        """
        with self._transaction() as book:
            reservation = book.find(reservation_id)
            if reservation is None or reservation.released_at is not None:
                raise ReservationNotFound(id=reservation_id, lab=self.lab)
            extended = replace(reservation, ends_at=max(reservation.ends_at, until.astimezone(UTC)))
            wish = Wish(reservation.ends_at, extended.ends_at, names=frozenset(reservation.nodes))
            others = [one for one in book.unreleased(extended.ends_at) if one.id != reservation_id]
            if against := conflicts(wish, wish.names, others):
                raise NodesBusy(wanted=", ".join(reservation.nodes), reservations=against)
            book.mark_extended(reservation_id, extended.ends_at)
        return extended

    def quarantined(self) -> tuple[Quarantine, ...]:
        """Return the nodes that are given to nobody, sorted by name."""
        with self._transaction() as book:
            return tuple(sorted(book.quarantined(), key=lambda entry: entry.node))

    def quarantine(self, node: str, reason: str) -> Quarantine:
        """Give a node to nobody from now on; who holds it keeps it. The first reason stays.

        Raises NodesUnknown, ReservationInvalid.
        """
        self._check_known(node)
        _check_line("reason", reason)
        with self._transaction() as book:
            found = next((entry for entry in book.quarantined() if entry.node == node), None)
            entry = found or Quarantine(node, reason, self._clock())
            if found is None:
                book.quarantine(entry)
        return entry

    def restore(self, node: str) -> bool:
        """Give a node out again; return whether it was in quarantine. Raises NodesUnknown."""
        self._check_known(node)
        with self._transaction() as book:
            there = any(entry.node == node for entry in book.quarantined())
            book.restore(node)
        return there

    def sweep(self) -> tuple[tuple[Reservation, EndReason], ...]:
        """Release what is over, and return it with the reason: its process on this host is gone, or its time.

        Time does not end the lease of a process that runs; that of one on another host it ends a day later.
        """
        with self._transaction() as book:
            now = self._clock()
            open_ones = book.unreleased(now + _A_MOMENT)
            dead, living = owners.of_leases(open_ones, now)
            found = over(open_ones, dead=dead, now=now, living=living)
            for reservation, _ in found:
                reclaim = self._to_reclaim(reservation)
                book.mark_released(reservation.id, now, reclaim=reclaim, killed=True)
        return tuple((replace(reservation, released_at=now), reason) for reservation, reason in found)

    def adopt(self, reservation_id: str, purpose: str) -> Reservation:
        """Take the nodes that were planned for a night of this process. Raises ReservationOver."""
        with self._transaction() as book:
            book.adopt(reservation_id, owners.me(), purpose, self._clock())
            found = book.find(reservation_id)
        if found is None:
            raise ReservationNotFound(id=reservation_id, lab=self.lab)
        return found

    @contextmanager
    def lease(
        self, *, nodes: Nodes, holder: str, purpose: str, until: datetime, planned: str | None = None
    ) -> Iterator[Reservation]:
        """Hold nodes for this process; they are given back whatever happens inside.

        With `planned` it is the reservation with this id, whose nodes and end were planned before.
        Raises what `reserve` or `adopt` raises. An error inside is raised as it is; where giving back fails
        as well, a note on it says so, and the next sweep does it.
        """
        if planned is not None:
            reservation = self.adopt(planned, purpose)
        else:
            reservation = self.reserve(
                nodes=nodes, holder=holder, purpose=purpose, until=until, owner=owners.me()
            )
        try:
            yield reservation
        except BaseException as first:
            try:
                self.release(reservation.id)
            except PerfciError as second:
                first.add_note(f"Beside it, the nodes could not be given back: {second}")
            raise
        self.release(reservation.id)

    def _to_reclaim(self, reservation: Reservation) -> bool:
        """Tell whether it has machines, which are cleaned where nobody did that."""
        machines = {node.name for node in self.nodes if node.has_bmc}
        return not machines.isdisjoint(reservation.nodes)

    def _granted(self, wish: Wish, book: Book) -> tuple[str, ...]:
        names = [node.name for node in self.nodes]
        quarantined = {entry.node: entry for entry in book.quarantined()}
        open_ones = book.unreleased(wish.ends_at)
        _, living = owners.of_leases(open_ones, wish.starts_at)
        decision = decide(wish, names, open_ones, quarantined, living)
        some = ", ".join(sorted(wish.among)) or f"lab {self.lab}"
        wanted = ", ".join(sorted(wish.names)) or f"{wish.count} of {some}"
        if isinstance(decision, Granted):
            return decision.nodes
        if isinstance(decision, Impossible):
            raise NodesUnknown(lab=self.lab, size=len(names), known=", ".join(names), wanted=wanted)
        if isinstance(decision, Withheld):
            raise NodesQuarantined(wanted=wanted, quarantined=[quarantined[node] for node in decision.nodes])
        raise NodesBusy(wanted=wanted, reservations=decision.by)

    def _check_known(self, node: str) -> None:
        names = [one.name for one in self.nodes]
        if node not in names:
            raise NodesUnknown(lab=self.lab, size=len(names), known=", ".join(names), wanted=node)


class MemoryLedger(Ledger):
    """A book that lives as long as its object: for trying things out, and for tests."""

    def __init__(
        self,
        lab: str,
        nodes: Iterable[Node],
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(lab, nodes, clock=clock)
        self._lock = threading.Lock()
        self._book = _MemoryBook({}, {})

    @contextmanager
    def _transaction(self) -> Iterator[Book]:
        with self._lock:
            draft = _MemoryBook(dict(self._book.entries), dict(self._book.withheld))
            yield draft
            self._book = draft


class _MemoryBook:
    def __init__(self, entries: dict[str, Reservation], withheld: dict[str, Quarantine]) -> None:
        self.entries = entries
        self.withheld = withheld

    def unreleased(self, until: datetime | None = None) -> list[Reservation]:
        return [
            one
            for one in self.entries.values()
            if one.released_at is None and (until is None or one.starts_at < until)
        ]

    def find(self, reservation_id: str) -> Reservation | None:
        return self.entries.get(reservation_id)

    def add(self, reservation: Reservation) -> None:
        self.entries[reservation.id] = reservation

    def mark_released(self, reservation_id: str, when: datetime, *, reclaim: bool, killed: bool) -> None:
        del reclaim, killed  # memory has no nodes to clean
        self.entries[reservation_id] = replace(self.entries[reservation_id], released_at=when)

    def mark_extended(self, reservation_id: str, until: datetime) -> None:
        self.entries[reservation_id] = replace(self.entries[reservation_id], ends_at=until)

    def adopt(self, reservation_id: str, owner: Owner, purpose: str, now: datetime) -> None:  # noqa: ARG002
        raise ReservationOver(id=reservation_id, state="unknown", order="running its night")

    def quarantined(self) -> list[Quarantine]:
        return list(self.withheld.values())

    def quarantine(self, entry: Quarantine) -> None:
        self.withheld[entry.node] = entry

    def restore(self, node: str) -> None:
        self.withheld.pop(node, None)


def _wish(nodes: Nodes, now: datetime, until: datetime) -> Wish:
    if isinstance(nodes, Among):
        return Wish(now, until, count=nodes.count, among=nodes.names)
    return Wish(now, until, count=nodes) if isinstance(nodes, int) else Wish(now, until, names=nodes)


def _check_line(name: str, text: str) -> None:
    if not text.strip() or not text.isprintable():
        raise ReservationInvalid(reason=f"the {name} must be one line of text, got {text!r}")


def _check(holder: str, purpose: str, now: datetime, until: datetime) -> None:
    _check_line("holder", holder)
    _check_line("purpose", purpose)
    if until <= now:
        raise ReservationInvalid(reason=f"its end {until.isoformat()} is not in the future")
