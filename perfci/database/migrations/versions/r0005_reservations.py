"""Reservations for times to come: a row for each node, a queue, events, tokens.

No two reservations of a node can overlap, whatever a program does: PostgreSQL has an exclusion constraint,
SQLite triggers. What is in the tables already is moved; where it overlaps, the earlier one ends sooner.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_MOMENT = sa.DateTime(timezone=True)
_PEOPLE, _NIGHT = 0, 1
_OWNER = ("owner_host", "owner_boot", "owner_pid", "owner_started_ticks")

_SQLITE_GUARD = """
CREATE TRIGGER reservation_node_{name} BEFORE {event} ON reservation_node
WHEN NEW.starts_at < NEW.ends_at AND EXISTS (
  SELECT 1 FROM reservation_node AS other
  WHERE other.lab = NEW.lab AND other.node = NEW.node AND other.ends_at > NEW.starts_at
    AND other.starts_at < NEW.ends_at AND other.starts_at < other.ends_at AND other.id <> NEW.id
)
BEGIN SELECT RAISE(ABORT, 'reservation_node_no_overlap: somebody has this node at that time'); END
"""
_POSTGRESQL_GUARD = """
ALTER TABLE reservation_node ADD CONSTRAINT reservation_node_no_overlap
EXCLUDE USING gist (lab WITH =, node WITH =, tstzrange(starts_at, ends_at, '[)') WITH &&)
"""


def upgrade() -> None:
    """Create the tables again and copy the rows of the old ones."""
    connection = op.get_bind()
    before = [dict(row) for row in connection.execute(sa.text("SELECT * FROM reservation")).mappings()]
    op.drop_table("reservation")
    _reservation()
    _reservation_node()
    _events()
    _nodes()
    if connection.dialect.name == "postgresql":
        op.execute("CREATE EXTENSION IF NOT EXISTS btree_gist")
        op.execute(_POSTGRESQL_GUARD)
    else:
        op.execute(_SQLITE_GUARD.format(name="insert", event="INSERT"))
        op.execute(_SQLITE_GUARD.format(name="update", event="UPDATE"))
    _move(connection, before)


def _reservation() -> None:
    op.create_table(
        "reservation",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("lab", sa.Text, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("firm", sa.Boolean, nullable=False),
        sa.Column("asked_at", _MOMENT, nullable=False),
        sa.Column("earliest_at", _MOMENT, nullable=False),
        sa.Column("starts_at", _MOMENT, nullable=False),
        sa.Column("ends_at", _MOMENT, nullable=False),
        sa.Column("ready_at", _MOMENT),
        sa.Column("released_at", _MOMENT),
        sa.Column("wish", sa.JSON, nullable=False),
        sa.Column("os", sa.Text, nullable=False),
        sa.Column("cloud", sa.Text, nullable=False),
        sa.Column("contact", sa.Text, nullable=False),
        sa.Column("job", sa.Text),
        sa.Column("window_at", _MOMENT),
        sa.Column("claimed_by", sa.Text),
        sa.Column("claimed_until", _MOMENT),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("owner_host", sa.Text),
        sa.Column("owner_boot", sa.Text),
        sa.Column("owner_pid", sa.BigInteger),
        sa.Column("owner_started_ticks", sa.BigInteger),
    )
    op.create_index("reservation_open", "reservation", ["lab", "released_at"])
    op.create_index("reservation_state", "reservation", ["lab", "state", "starts_at"])
    op.create_index("reservation_holder", "reservation", ["lab", "holder", "starts_at"])
    op.create_index("reservation_window", "reservation", ["lab", "job", "window_at"], unique=True)


def _reservation_node() -> None:
    op.create_table(
        "reservation_node",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column(
            "reservation_id",
            sa.String(16),
            sa.ForeignKey("reservation.id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("lab", sa.Text, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("starts_at", _MOMENT, nullable=False),
        sa.Column("ends_at", _MOMENT, nullable=False),
        sa.Column("left_at", _MOMENT),
        sa.CheckConstraint("starts_at <= ends_at", name="reservation_node_order"),
    )
    op.create_index("reservation_node_of", "reservation_node", ["reservation_id"])
    op.create_index("reservation_node_time", "reservation_node", ["lab", "ends_at", "starts_at", "node"])
    op.create_index("reservation_node_node", "reservation_node", ["lab", "node", "ends_at", "starts_at"])


def _events() -> None:
    op.create_table(
        "reservation_event",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("reservation_id", sa.String(16), nullable=False),
        sa.Column("lab", sa.Text, nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
    )
    op.create_index("reservation_event_of", "reservation_event", ["reservation_id", "id"])
    op.create_index("reservation_event_at", "reservation_event", ["lab", "at"])
    op.create_table(
        "reservation_notice",
        sa.Column(
            "reservation_id",
            sa.String(16),
            sa.ForeignKey("reservation.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("about", sa.Text, primary_key=True),
        sa.Column("at", _MOMENT, nullable=False),
    )


def _nodes() -> None:
    op.create_table(
        "node_record",
        sa.Column("lab", sa.Text, primary_key=True),
        sa.Column("node", sa.Text, primary_key=True),
        sa.Column("retired", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("facts", sa.JSON, nullable=False),
        sa.Column("changed_at", _MOMENT, nullable=False),
    )
    op.create_table(
        "node_event",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("lab", sa.Text, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("ok", sa.Boolean, nullable=False),
        sa.Column("reservation_id", sa.String(16), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
    )
    op.create_index("node_event_of", "node_event", ["lab", "node", "id"])
    op.create_table(
        "access_token",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("expires_at", _MOMENT),
        sa.Column("revoked_at", _MOMENT),
        sa.Column("used_at", _MOMENT),
    )


def _move(connection: sa.Connection, before: list[dict[str, Any]]) -> None:
    """Enter the reservations of the release before this one."""
    rows = sorted(map(_read, before), key=lambda row: (row["starts_at"], row["id"]))
    places = [place for row in rows for place in _places(row)]
    _cut(places)
    reservation = sa.table(
        "reservation",
        *(sa.column(name) for name in ("id", "lab", "holder", "purpose", "state", "os", "cloud", "contact")),
        *(sa.column(name, sa.Integer) for name in ("priority", "attempts")),
        sa.column("firm", sa.Boolean),
        *(sa.column(name, _MOMENT) for name in ("asked_at", "earliest_at", "starts_at", "ends_at")),
        *(sa.column(name, _MOMENT) for name in ("ready_at", "released_at")),
        sa.column("wish", sa.JSON),
        *(sa.column(name) for name in _OWNER),
    )
    reservation_node = sa.table(
        "reservation_node",
        *(sa.column(name) for name in ("id", "reservation_id", "lab", "node")),
        *(sa.column(name, _MOMENT) for name in ("starts_at", "ends_at")),
    )
    if rows:
        connection.execute(reservation.insert(), [_reservation_row(row) for row in rows])
    if places:
        connection.execute(reservation_node.insert(), places)


def _read(row: dict[str, Any]) -> dict[str, Any]:
    nodes = row["nodes"]
    moments = {name: _utc(row[name]) for name in ("starts_at", "ends_at", "released_at")}
    return {**row, **moments, "nodes": json.loads(nodes) if isinstance(nodes, str) else nodes}


def _utc(value: Any) -> datetime | None:
    """Return an aware datetime; SQLite has kept it as text, in UTC without saying so."""
    if value is None:
        return None
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _reservation_row(row: dict[str, Any]) -> dict[str, Any]:
    return {
        **{name: row[name] for name in ("id", "lab", "holder", "purpose", "ends_at", "released_at", *_OWNER)},
        **dict.fromkeys(("asked_at", "earliest_at", "starts_at", "ready_at"), row["starts_at"]),
        **dict.fromkeys(("os", "cloud", "contact"), ""),
        "state": "ready" if row["released_at"] is None else "over",
        "priority": _PEOPLE if row["owner_pid"] is None else _NIGHT,
        "firm": True,
        "attempts": 0,
        "wish": {"count": len(row["nodes"]), "names": sorted(row["nodes"]), "where": ""},
    }


def _places(row: dict[str, Any]) -> list[dict[str, Any]]:
    end = row["ends_at"] if row["released_at"] is None else min(row["ends_at"], row["released_at"])
    return [
        {
            "id": f"{row['id']}-{number}",
            "reservation_id": row["id"],
            "lab": row["lab"],
            "node": node,
            "starts_at": row["starts_at"],
            "ends_at": max(row["starts_at"], end),
        }
        for number, node in enumerate(row["nodes"])
    ]


def _cut(places: list[dict[str, Any]]) -> None:
    """End a place on a node where the next one there begins. `places` are in the order of their starts."""
    last: dict[tuple[str, str], dict[str, Any]] = {}
    for place in places:
        key = (place["lab"], place["node"])
        earlier = last.get(key)
        if earlier is not None and earlier["ends_at"] > place["starts_at"]:
            earlier["ends_at"] = place["starts_at"]
        last[key] = place
