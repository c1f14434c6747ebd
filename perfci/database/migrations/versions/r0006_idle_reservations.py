"""When somebody was last seen at work on a reservation's nodes."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the columns; nothing is known of what is there already."""
    for name in ("active_at", "looked_at"):
        op.add_column("reservation", sa.Column(name, sa.DateTime(timezone=True)))
