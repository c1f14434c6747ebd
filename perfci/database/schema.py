"""Every table of the controller's database, in one MetaData.

A change here needs a migration in `migrations/versions`; a test compares the two.
"""

from __future__ import annotations

import sqlalchemy as sa

from perfci.database.types import Moment

metadata = sa.MetaData()

writer_lock = sa.Table("schema_version", metadata, sa.Column("version", sa.Integer, nullable=False))
"""One row. On PostgreSQL every writer locks it first, so that writers take turns as they do in SQLite.

Releases before Alembic kept their schema's number here, and refuse a database whose number is higher than
theirs. It is 2 since Alembic counts.
"""

reservation = sa.Table(
    "reservation",
    metadata,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("lab", sa.Text, nullable=False),
    sa.Column("nodes", sa.JSON, nullable=False),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("starts_at", Moment, nullable=False),
    sa.Column("ends_at", Moment, nullable=False),
    sa.Column("released_at", Moment),
    sa.Column("owner_host", sa.Text),
    sa.Column("owner_boot", sa.Text),
    sa.Column("owner_pid", sa.BigInteger),
    sa.Column("owner_started_ticks", sa.BigInteger),
    sa.Index("reservation_open", "lab", "released_at"),
)
"""Who holds which nodes, from when to when."""

quarantine = sa.Table(
    "quarantine",
    metadata,
    sa.Column("lab", sa.Text, primary_key=True),
    sa.Column("node", sa.Text, primary_key=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("since", Moment, nullable=False),
)
"""Nodes that no reservation gets."""

operation_day = sa.Table(
    "bmc_operation_day",
    metadata,
    sa.Column("lab", sa.Text, primary_key=True),
    sa.Column("node", sa.Text, primary_key=True),
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("operations", sa.Integer, nullable=False),
    sa.Column("lock_ups", sa.Integer, nullable=False),
)
"""What `lab.health` counts: one row for each node and day."""
