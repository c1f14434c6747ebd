"""Runs that a store refuses for good: they are not sent again and again."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the table; what was refused before is tried once more, and entered then."""
    op.create_table(
        "delivery_refusal",
        sa.Column("store", sa.Text, primary_key=True),
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("reason", sa.Text, nullable=False),
    )
