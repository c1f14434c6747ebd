"""What nights have decided: later verdicts follow it, whatever became of their caches."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table; a night that was decided before has no facts and is decided again by a replay."""
    op.create_table(
        "night_facts",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("lab", sa.Text, nullable=False),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
    )
    op.create_index("night_facts_of_job", "night_facts", ["lab", "job", "run_id"])
