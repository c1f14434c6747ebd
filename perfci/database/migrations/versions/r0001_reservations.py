"""Reservations, quarantine and BMC tallies, as the releases before Alembic made them."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ALEMBIC = 2


def upgrade() -> None:
    """Make the tables, or take over those of a release before Alembic with all they hold.

    The number in `schema_version` goes from 1 to 2: those releases then refuse the database.
    """
    connection = op.get_bind()
    existing = set(sa.inspect(connection).get_table_names())
    if "schema_version" not in existing:
        op.create_table("schema_version", sa.Column("version", sa.Integer, nullable=False))
    if "reservation" not in existing:
        _create_reservation()
    if "quarantine" not in existing:
        op.create_table(
            "quarantine",
            sa.Column("lab", sa.Text, primary_key=True),
            sa.Column("node", sa.Text, primary_key=True),
            sa.Column("reason", sa.Text, nullable=False),
            sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        )
    if "bmc_operation_day" not in existing:
        op.create_table(
            "bmc_operation_day",
            sa.Column("lab", sa.Text, primary_key=True),
            sa.Column("node", sa.Text, primary_key=True),
            sa.Column("day", sa.Date, primary_key=True),
            sa.Column("operations", sa.Integer, nullable=False),
            sa.Column("lock_ups", sa.Integer, nullable=False),
        )
    version = sa.table("schema_version", sa.column("version", sa.Integer))
    op.execute(version.delete())
    op.execute(version.insert().values(version=ALEMBIC))


def _create_reservation() -> None:
    op.create_table(
        "reservation",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("lab", sa.Text, nullable=False),
        sa.Column("nodes", sa.JSON, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("released_at", sa.DateTime(timezone=True)),
        sa.Column("owner_host", sa.Text),
        sa.Column("owner_boot", sa.Text),
        sa.Column("owner_pid", sa.BigInteger),
        sa.Column("owner_started_ticks", sa.BigInteger),
    )
    op.create_index("reservation_open", "reservation", ["lab", "released_at"])
