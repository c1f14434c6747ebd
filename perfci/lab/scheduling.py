"""Who may have which nodes, and whose lease is over: pure decisions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from perfci.lab.model import Owner, Reservation


ELSEWHERE = timedelta(days=1)
"""How long after its end a lease of another host's process lasts, unless somebody releases it."""


class EndReason(StrEnum):
    """Why a reservation is over though nobody released it."""

    TIME = "its time is over"
    OWNER = "its process is gone"


@dataclass(frozen=True, slots=True)
class Wish:
    """Nodes wanted from `starts_at` to `ends_at`: all of `names`, or any `count` where there are none.

    With `among`, the `count` are taken of these only.
    """

    starts_at: datetime
    ends_at: datetime
    count: int = 1
    names: frozenset[str] = frozenset()
    among: frozenset[str] = frozenset()

    @property
    def size(self) -> int:
        """How many nodes are wanted."""
        return len(self.names) or self.count


@dataclass(frozen=True, slots=True)
class Granted:
    """The nodes to take, sorted by name."""

    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """The reservations that stand in the way, the one that ends first first."""

    by: tuple[Reservation, ...]


@dataclass(frozen=True, slots=True)
class Withheld:
    """Nodes in quarantine stand in the way, sorted; nobody's release can help, restoring them can."""

    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Impossible:
    """No release can help: unknown nodes, or more than the lab has."""

    unknown: tuple[str, ...]
    size: int


def decide(
    wish: Wish,
    nodes: Iterable[str],
    reservations: Iterable[Reservation],
    quarantined: Collection[str] = (),
    living: Collection[Owner] = (),
) -> Granted | Refused | Withheld | Impossible:
    """Say which nodes a wish gets.

    Of the free nodes the first by name are taken, so that a job meets the same machines every night.
    Those in quarantine are given to nobody, those of the `living` processes neither, however long their time
    has been over. The order of the inputs makes no difference.
    """
    all_nodes = frozenset(nodes)
    unknown = (wish.names | wish.among) - all_nodes
    eligible = wish.names or wish.among or all_nodes
    if unknown or wish.size > len(eligible):
        return Impossible(tuple(sorted(unknown)), len(all_nodes))
    usable = eligible - frozenset(quarantined)
    if len(usable) < wish.size:
        return Withheld(tuple(sorted(eligible - usable)))
    wanted = wish.names or usable
    against = conflicts(wish, wanted, reservations, living)
    free = wanted - {node for reservation in against for node in reservation.nodes}
    if len(free) < wish.size:
        return Refused(against)
    return Granted(tuple(sorted(free)[: wish.size]))


def conflicts(
    wish: Wish,
    wanted: frozenset[str],
    reservations: Iterable[Reservation],
    living: Collection[Owner] = (),
) -> tuple[Reservation, ...]:
    """Return the reservations that hold one of the nodes during the wished time, soonest end first.

    A reservation that ends when the wish starts is not in its way, unless it belongs to one of the `living`.
    """
    return tuple(
        sorted(
            (
                reservation
                for reservation in reservations
                if reservation.released_at is None
                and reservation.starts_at < wish.ends_at
                and (wish.starts_at < reservation.ends_at or reservation.owner in living)
                and not wanted.isdisjoint(reservation.nodes)
            ),
            key=lambda reservation: (reservation.ends_at, reservation.id),
        )
    )


class Lease(Protocol):
    """What a reservation is to those who ask whether it is over."""

    @property
    def id(self) -> str: ...
    @property
    def ends_at(self) -> datetime: ...
    @property
    def released_at(self) -> datetime | None: ...
    @property
    def owner(self) -> Owner | None: ...


Held = TypeVar("Held", bound=Lease)


def may_live(
    reservations: Iterable[Lease], *, dead: Collection[Owner], host: str, now: datetime
) -> frozenset[Owner]:
    """Return the owners of leases that run, or may run for all that is known on this `host`.

    What another host's processes do can't be seen from here. A run ends within its lease by its own limits.
    One that hangs may still touch its nodes, so its lease lasts `ELSEWHERE` longer; then its host counts as
    gone.
    """
    return frozenset(
        one.owner
        for one in reservations
        if one.owner is not None
        and one.owner not in dead
        and (one.owner.host == host or now < one.ends_at + ELSEWHERE)
    )


def over(
    reservations: Iterable[Held],
    *,
    dead: frozenset[Owner],
    now: datetime,
    living: Collection[Owner] = (),
) -> tuple[tuple[Held, EndReason], ...]:
    """Return the unreleased reservations that are over, each with the reason, sorted by id.

    `dead` are the owners that are known not to run any more, `living` those that run or may run (`may_live`):
    time does not end what they hold.
    """
    found = []
    for reservation in sorted(reservations, key=lambda reservation: reservation.id):
        if reservation.released_at is not None:
            continue
        if reservation.owner is not None and reservation.owner in dead:
            found.append((reservation, EndReason.OWNER))
        elif reservation.ends_at <= now and reservation.owner not in living:
            found.append((reservation, EndReason.TIME))
    return tuple(found)
