"""Everything else that a controller knows, which releases before this one kept in files."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables; `perfci.database.takeover` fills them from the files."""
    _alerts()
    _mail()
    _verdicts()
    op.create_table(
        "delivery",
        sa.Column("store", sa.Text, primary_key=True),
        sa.Column("run_id", sa.Text, primary_key=True),
    )
    op.create_table(
        "unreported",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("state_dir", sa.Text, nullable=False),
        sa.Column("owner_host", sa.Text, nullable=False),
        sa.Column("owner_boot", sa.Text, nullable=False),
        sa.Column("owner_pid", sa.BigInteger, nullable=False),
        sa.Column("owner_started_ticks", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "imported_file",
        sa.Column("path", sa.Text, primary_key=True),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("problems", sa.Text, nullable=False),
    )


def _alerts() -> None:
    op.create_table(
        "alert",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("lab", sa.Text, nullable=False),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_table(
        "alert_progress",
        sa.Column("place", sa.Text, primary_key=True),
        sa.Column("run_id", sa.Text, nullable=False),
    )
    op.create_table(
        "lab_unfit",
        sa.Column("lab", sa.Text, primary_key=True),
        sa.Column("since", sa.Text, nullable=False),
    )


def _mail() -> None:
    op.create_table(
        "letter",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("sender", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("queued_at", _MOMENT, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
    )
    op.create_table(
        "letter_recipient",
        sa.Column("letter_id", sa.Text, sa.ForeignKey("letter.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("address", sa.Text, primary_key=True),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("last_error", sa.Text, nullable=False),
        sa.Column("changed_at", _MOMENT, nullable=False),
    )
    op.create_index("letter_recipient_state", "letter_recipient", ["state"])


def _verdicts() -> None:
    op.create_table("confirmation_round", sa.Column("run_id", sa.Text, primary_key=True))
    op.create_table(
        "confirmation",
        sa.Column(
            "run_id",
            sa.Text,
            sa.ForeignKey("confirmation_round.run_id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_table(
        "calibration",
        sa.Column("lab", sa.Text, primary_key=True),
        sa.Column("job", sa.Text, primary_key=True),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_table(
        "judgement",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("document", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "verdict_cache",
        sa.Column("lab", sa.Text, primary_key=True),
        sa.Column("job", sa.Text, primary_key=True),
        sa.Column("document", sa.LargeBinary, nullable=False),
    )
