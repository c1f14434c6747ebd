"""Reservations as rows of the database. Everything here works inside a transaction of its caller."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from perfci.database.schema import reservation, reservation_event, reservation_node
from perfci.lab.model import Owner
from perfci.lab.reservations.model import (
    Booking,
    BookingEvent,
    BookingState,
    NodeWish,
    Place,
    Priority,
    Slot,
    Wipe,
)
from perfci.lab.reservations.node_rows import NodeRows, new_event_id

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from perfci.lab.reservations.calendar import Span

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_OWNER = ("owner_host", "owner_boot", "owner_pid", "owner_started_ticks")
_SAME = (
    "id", "lab", "holder", "purpose", "firm", "asked_at", "earliest_at", "starts_at", "ends_at", "ready_at",
    "released_at", "os", "cloud", "contact", "job", "window_at", "claimed_by", "claimed_until", "attempts",
    "active_at", "looked_at",
)  # fmt: skip
"""Columns that are fields of a Booking as they are; the id is the first."""
_COLUMNS = tuple(reservation.c[name] for name in (*_SAME, "state", "priority", "wish", *_OWNER))
_SOON = timedelta(days=14)
"""How far the next reservation of each node is looked for at first."""
_HALF_OPEN: sa.ColumnClause[str] = sa.literal_column("'[)'")
_AT_ONCE = 500
"""How many ids stand in one statement; databases have a limit."""


def ticks(when: datetime) -> int:
    """Return a time as whole microseconds, for the calendar."""
    return (when - EPOCH) // _MICROSECOND


def moment(microseconds: int) -> datetime:
    """Return the time of whole microseconds."""
    return EPOCH + microseconds * _MICROSECOND


def slot_of(span: Span) -> Slot:
    """Return what the calendar found, with times."""
    return Slot(moment(span.start), moment(span.end), span.nodes)


def owner_columns(owner: Owner | None) -> dict[str, Any]:
    """Return the columns that say which process has a reservation."""
    if owner is None:
        return dict.fromkeys(_OWNER)
    return dict(zip(_OWNER, (owner.host, owner.boot, owner.pid, owner.started_ticks), strict=True))


def wish_document(wish: NodeWish, keys: Collection[str] = (), wipe: Wipe = Wipe.NONE) -> dict[str, Any]:
    """Return a wish as its column has it, with the SSH keys and the wiping of disks where there are some."""
    document: dict[str, Any] = {"count": wish.count, "names": sorted(wish.names), "where": wish.where}
    if keys:
        document["keys"] = list(keys)
    if wipe is not Wipe.NONE:
        document["wipe"] = str(wipe)
    return document


class ReservationRows(NodeRows):
    """The reservations and nodes of one lab on one connection."""

    def booking(self, reservation_id: str) -> Booking | None:
        """Return the reservation with this id."""
        return next(iter(self.bookings(reservation.c.id == reservation_id)), None)

    def bookings(
        self, condition: sa.ColumnElement[bool], *, limit: int | None = None, newest_first: bool = False
    ) -> list[Booking]:
        """Return the reservations of the lab that a condition on their table holds for, by their start."""
        column = reservation.c.starts_at
        wanted = (
            sa.select(*_COLUMNS)
            .where(reservation.c.lab == self.lab, condition)
            .order_by(column.desc() if newest_first else column, reservation.c.id)
            .limit(limit)
        )
        rows = self.connection.execute(wanted).all()
        places = self._places([row[0] for row in rows])
        return [_booking(row, places.get(row[0], ())) for row in rows]

    def named(self, ids: Collection[str]) -> dict[str, Booking]:
        """Return the reservations with these ids."""
        found = {}
        for part in batched(sorted(ids)):
            for one in self.bookings(reservation.c.id.in_(part)):
                found[one.id] = one
        return found

    def between(self, start: datetime, end: datetime, nodes: Collection[str] | None = None) -> list[Booking]:
        """Return the reservations that have a node (of `nodes`) at some time between two, by their start."""
        if nodes is not None and len(nodes) > _AT_ONCE:
            found = {one.id: one for part in batched(sorted(nodes)) for one in self.between(start, end, part)}
            return sorted(found.values(), key=lambda one: (one.starts_at, one.id))
        having = sa.select(reservation_node.c.reservation_id).where(
            reservation_node.c.lab == self.lab,
            reservation_node.c.ends_at > start,
            reservation_node.c.starts_at < end,
            reservation_node.c.starts_at < reservation_node.c.ends_at,
        )
        if nodes is not None:
            having = having.where(reservation_node.c.node.in_(sorted(nodes)))
        return self.bookings(reservation.c.id.in_(having))

    def intervals(
        self, start: datetime, end: datetime | None = None, nodes: Collection[str] | None = None
    ) -> list[tuple[str, str, int, int]]:
        """Return (reservation, node, start, end) of all places that lie between `start` and `end` in part."""
        table = reservation_node.c
        wanted = sa.select(table.reservation_id, table.node, table.starts_at, table.ends_at).where(
            table.lab == self.lab, table.ends_at > start, table.starts_at < table.ends_at
        )
        if end is not None:
            wanted = wanted.where(table.starts_at < end)
            if start < end and self.connection.dialect.name == "postgresql":
                # Once more in the words of its index against overlaps: others read all that is to come.
                lasting = sa.func.tstzrange(table.starts_at, table.ends_at, _HALF_OPEN)
                wanted = wanted.where(lasting.op("&&")(sa.func.tstzrange(start, end, _HALF_OPEN)))
        if nodes is not None and len(nodes) <= _AT_ONCE:
            wanted = wanted.where(table.node.in_(sorted(nodes)))
        return [
            (row[0], row[1], ticks(row[2]), ticks(row[3]))
            for row in self.connection.execute(wanted).all()
            if nodes is None or row[1] in nodes
        ]

    def next_on_each(self, now: datetime, nodes: Collection[str]) -> dict[str, str]:
        """Return by node the reservation of the next place on it that begins after now."""
        table = reservation_node.c
        soon = now + _SOON
        wanted = (
            sa.select(table.node, table.reservation_id)
            .where(table.lab == self.lab, table.ends_at > now, table.starts_at > now)
            .where(table.starts_at < table.ends_at)
            .order_by(table.starts_at.desc())
        )
        # Most nodes have one soon: of the others alone all that is to come is read.
        found = {row[0]: row[1] for row in self.connection.execute(wanted.where(table.starts_at < soon))}
        left = sorted(frozenset(nodes) - found.keys())
        for part in batched(left):
            later = wanted.where(table.starts_at >= soon, table.node.in_(part))
            found |= {row[0]: row[1] for row in self.connection.execute(later)}
        return found

    def nodes_to_come(self, now: datetime) -> frozenset[str]:
        """Return the nodes that anybody has or will have after now, also those that the lab has lost."""
        table = reservation_node.c
        wanted = sa.select(table.node).distinct().where(table.lab == self.lab, table.ends_at > now)
        return frozenset(self.connection.scalars(wanted))

    def last_end(self) -> datetime | None:
        """Return when the last place ends that anybody has or will have."""
        end: datetime | None = self.connection.scalar(
            sa.select(reservation_node.c.ends_at)
            .where(reservation_node.c.lab == self.lab)
            .order_by(reservation_node.c.ends_at.desc())
            .limit(1)
        )
        return end

    def add(self, booking: Booking) -> None:
        """Write down a new reservation with its nodes."""
        row = {name: getattr(booking, name) for name in _SAME}
        row |= owner_columns(booking.owner)
        row |= {
            "state": str(booking.state),
            "priority": int(booking.priority),
            "wish": wish_document(booking.wish, booking.keys, booking.wipe),
        }
        self.connection.execute(reservation.insert().values(row))
        self.add_places(booking.id, booking.places)

    def change(self, reservation_id: str, **columns: Any) -> None:
        """Write down what has changed of a reservation."""
        mine = (reservation.c.id == reservation_id) & (reservation.c.lab == self.lab)
        self.connection.execute(reservation.update().where(mine).values(columns))

    def set_keys(self, booking: Booking, keys: Collection[str]) -> None:
        """Write down which SSH keys open the machines of a reservation from now on."""
        self.change(booking.id, wish=wish_document(booking.wish, keys, booking.wipe))

    def change_all(self, ids: Collection[str], **columns: Any) -> None:
        """Write down what has changed of many reservations, the same of each."""
        for part in batched(sorted(ids)):
            mine = reservation.c.id.in_(part) & (reservation.c.lab == self.lab)
            self.connection.execute(reservation.update().where(mine).values(columns))

    def note_all(self, ids: Iterable[str], at: datetime, actor: str, action: str) -> None:
        """Write down what was done to many reservations, the same to each."""
        rows = [
            {
                "id": new_event_id(),
                "reservation_id": one,
                "lab": self.lab,
                "at": at,
                "actor": actor,
                "action": action,
                "detail": "",
            }
            for one in ids
        ]
        if rows:
            self.connection.execute(reservation_event.insert(), rows)

    def end_places_all(self, ids: Collection[str], when: datetime) -> None:
        """End the places of many reservations that reach beyond `when`."""
        table = reservation_node.c
        later = sa.case((table.starts_at > when, table.starts_at), else_=when)
        ends_at = sa.case((table.ends_at > when, later), else_=table.ends_at)
        for part in batched(sorted(ids)):
            mine = table.reservation_id.in_(part) & table.left_at.is_(None)
            self.connection.execute(reservation_node.update().where(mine).values(ends_at=ends_at))

    def add_places(self, reservation_id: str, places: Iterable[Place]) -> None:
        """Give nodes to a reservation. The database refuses a node that somebody has at that time."""
        rows = [
            {
                "id": secrets.token_hex(16),
                "reservation_id": reservation_id,
                "lab": self.lab,
                "node": place.node,
                "starts_at": place.starts_at,
                "ends_at": place.ends_at,
                "left_at": place.left_at,
            }
            for place in places
        ]
        if rows:
            self.connection.execute(reservation_node.insert(), rows)

    def drop_places(self, reservation_ids: Collection[str]) -> None:
        """Take all nodes from reservations that wait, before others are planned for them."""
        for part in batched(sorted(reservation_ids)):
            self.connection.execute(
                reservation_node.delete().where(reservation_node.c.reservation_id.in_(part))
            )

    def end_places(
        self, reservation_id: str, when: datetime, *, node: str | None = None, left: bool = False
    ) -> None:
        """End the places of a reservation that reach beyond `when`; of one node where it is named."""
        table = reservation_node.c
        mine = (table.reservation_id == reservation_id) & table.left_at.is_(None)
        if node is not None:
            mine &= table.node == node
        later = sa.case((table.starts_at > when, table.starts_at), else_=when)
        values: dict[str, Any] = {"ends_at": sa.case((table.ends_at > when, later), else_=table.ends_at)}
        if left:
            values["left_at"] = when
        self.connection.execute(reservation_node.update().where(mine).values(values))

    def cut(self, reservation_id: str, now: datetime) -> None:
        """End everything of a reservation that reaches beyond now, also what left it before."""
        table = reservation_node.c
        later = sa.case((table.starts_at > now, table.starts_at), else_=now)
        self.connection.execute(
            reservation_node.update()
            .where(table.reservation_id == reservation_id, table.ends_at > now)
            .values(ends_at=later)
        )

    def move_end(self, reservation_id: str, until: datetime) -> None:
        """Let all nodes that a reservation still has end at `until`."""
        table = reservation_node.c
        mine = (table.reservation_id == reservation_id) & table.left_at.is_(None)
        self.connection.execute(reservation_node.update().where(mine).values(ends_at=until))

    def note(self, reservation_id: str, at: datetime, actor: str, action: str, detail: str = "") -> None:
        """Write down who did what to a reservation."""
        self.connection.execute(
            reservation_event.insert().values(
                id=new_event_id(),
                reservation_id=reservation_id,
                lab=self.lab,
                at=at,
                actor=actor,
                action=action,
                detail=detail,
            )
        )

    def events(self, *conditions: sa.ColumnElement[bool], limit: int | None = None) -> list[BookingEvent]:
        """Return what was done to reservations, oldest first; with a limit the newest of it."""
        wanted = (
            sa.select(reservation_event)
            .where(reservation_event.c.lab == self.lab, *conditions)
            .order_by(reservation_event.c.id.desc())
            .limit(limit)
        )
        rows = self.connection.execute(wanted).all()
        return [
            BookingEvent(row.at, row.actor, row.action, row.detail, row.reservation_id)
            for row in reversed(rows)
        ]

    def events_of(self, reservation_id: str, action: str) -> list[BookingEvent]:
        """Return one kind of what was done to a reservation, oldest first."""
        table = reservation_event.c
        return self.events(table.reservation_id == reservation_id, table.action == action)

    def _places(self, ids: list[str]) -> dict[str, list[Place]]:
        table = reservation_node.c
        found: dict[str, list[Place]] = {}
        for part in batched(ids):
            wanted = (
                sa.select(table.reservation_id, table.node, table.starts_at, table.ends_at, table.left_at)
                .where(table.reservation_id.in_(part))
                .order_by(table.node, table.starts_at)
            )
            for row in self.connection.execute(wanted):
                found.setdefault(row[0], []).append(Place(*row[1:]))
        return found


def batched(ids: Collection[str]) -> Iterable[list[str]]:
    """Return ids in their order, as many together as one statement takes."""
    some = list(ids)
    return (some[first : first + _AT_ONCE] for first in range(0, len(some), _AT_ONCE))


def _booking(row: sa.Row[Any], places: Iterable[Place]) -> Booking:
    """Return a row with `_COLUMNS` as a reservation."""
    state, priority, wish, host, boot, pid, started_ticks = row[len(_SAME) :]
    return Booking(
        **dict(zip(_SAME, row, strict=False)),
        state=BookingState(state),
        priority=Priority(priority),
        wish=NodeWish(wish["count"], frozenset(wish["names"]), wish["where"]),
        keys=tuple(wish.get("keys", ())),
        wipe=Wipe(wish.get("wipe", Wipe.NONE)),
        places=tuple(places),
        owner=None if pid is None else Owner(host, boot, pid, started_ticks),
    )
