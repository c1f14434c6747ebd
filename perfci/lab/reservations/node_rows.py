"""Nodes as rows of the database: what was done with them, which are in quarantine, what is known of them."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

import sqlalchemy as sa

from perfci.database.schema import node_event, node_record
from perfci.database.schema import quarantine as quarantines
from perfci.lab.model import Quarantine
from perfci.lab.reservations.model import BookingEvent, NodeRecord

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime


def new_event_id() -> str:
    """Return an id that sorts by the time at which it was made, and is nobody else's."""
    return f"{time.time_ns():016x}{secrets.token_hex(8)}"


class NodeRows:
    """The nodes of one lab on one connection, inside a transaction of the caller."""

    def __init__(self, connection: sa.Connection, lab: str) -> None:
        self.connection = connection
        self.lab = lab

    def note_node(
        self,
        node: str,
        at: datetime,
        actor: str,
        action: str,
        *,
        ok: bool = True,
        reservation_id: str = "",
        detail: str = "",
    ) -> None:
        """Write down what was done with a node and whether it went well."""
        self.note_nodes([node], [action], at, actor, ok=ok, reservation_id=reservation_id, detail=detail)

    def note_nodes(
        self,
        nodes: Iterable[str],
        actions: Collection[str],
        at: datetime,
        actor: str,
        *,
        ok: bool = True,
        reservation_id: str = "",
        detail: str = "",
    ) -> None:
        """Write down what was done with many nodes, in this order with each of them."""
        rows = [
            {
                "id": new_event_id(),
                "lab": self.lab,
                "node": node,
                "at": at,
                "actor": actor,
                "action": action,
                "ok": ok,
                "reservation_id": reservation_id,
                "detail": detail,
            }
            for node in nodes
            for action in actions
        ]
        if rows:
            self.connection.execute(node_event.insert(), rows)

    def node_events(
        self, *conditions: sa.ColumnElement[bool], limit: int | None = None
    ) -> list[BookingEvent]:
        """Return what was done with nodes, oldest first; with a limit the newest of it."""
        wanted = (
            sa.select(node_event)
            .where(node_event.c.lab == self.lab, *conditions)
            .order_by(node_event.c.id.desc())
            .limit(limit)
        )
        rows = self.connection.execute(wanted).all()
        return [
            BookingEvent(row.at, row.actor, row.action, row.detail, row.node, row.ok)
            for row in reversed(rows)
        ]

    def quarantined(self) -> dict[str, Quarantine]:
        """Return the nodes in quarantine by their names."""
        mine = sa.select(quarantines).where(quarantines.c.lab == self.lab)
        return {
            row["node"]: Quarantine(row["node"], row["reason"], row["since"])
            for row in self.connection.execute(mine).mappings()
        }

    def records(self) -> dict[str, NodeRecord]:
        """Return what the database knows of nodes beside the inventory."""
        rows = self.connection.execute(sa.select(node_record).where(node_record.c.lab == self.lab))
        return {row.node: NodeRecord(row.retired, row.reason, row.facts) for row in rows}
