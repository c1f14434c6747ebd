"""Every table of the controller's database, in one MetaData.

A change here needs a migration in `migrations/versions`; a test compares the two.
"""

from __future__ import annotations

import sqlalchemy as sa

from perfci.database.types import UtcDateTime

metadata = sa.MetaData()

DERIVABLE = {"derivable": True}
"""Marks a table that can be made again from the archive and the other tables: `perfci results rebuild`."""

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
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("firm", sa.Boolean, nullable=False),
    sa.Column("asked_at", UtcDateTime, nullable=False),
    sa.Column("earliest_at", UtcDateTime, nullable=False),
    sa.Column("starts_at", UtcDateTime, nullable=False),
    sa.Column("ends_at", UtcDateTime, nullable=False),
    sa.Column("ready_at", UtcDateTime),
    sa.Column("released_at", UtcDateTime),
    sa.Column("wish", sa.JSON, nullable=False),
    sa.Column("os", sa.Text, nullable=False),
    sa.Column("cloud", sa.Text, nullable=False),
    sa.Column("contact", sa.Text, nullable=False),
    sa.Column("job", sa.Text),
    sa.Column("window_at", UtcDateTime),
    sa.Column("claimed_by", sa.Text),
    sa.Column("claimed_until", UtcDateTime),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("owner_host", sa.Text),
    sa.Column("owner_boot", sa.Text),
    sa.Column("owner_pid", sa.BigInteger),
    sa.Column("owner_started_ticks", sa.BigInteger),
    sa.Column("active_at", UtcDateTime),
    sa.Column("looked_at", UtcDateTime),
    sa.Index("reservation_open", "lab", "released_at"),
    sa.Index("reservation_state", "lab", "state", "starts_at"),
    sa.Index("reservation_holder", "lab", "holder", "starts_at"),
    sa.Index("reservation_window", "lab", "job", "window_at", unique=True),
)
"""Who has nodes, had them or waits for them, from when to when.

`starts_at` and `ends_at` are planned where it waits, and hold for all others. A `firm` one keeps its time;
others come earlier where they can. `wish` is `reservations.model.NodeWish` as JSON, with the SSH keys of the
reservation. `released_at` is when the last node was given back or the time ended. `job` and `window_at` are
those of a scheduled night: a window is in here once. `claimed_by` is the controller that prepares, reclaims
or looks at it, until `claimed_until`. `active_at` is when somebody was last seen at work on its nodes,
`looked_at` when that was last looked at.
"""

reservation_node = sa.Table(
    "reservation_node",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column(
        "reservation_id", sa.String(16), sa.ForeignKey("reservation.id", ondelete="CASCADE"), nullable=False
    ),
    sa.Column("lab", sa.Text, nullable=False),
    sa.Column("node", sa.Text, nullable=False),
    sa.Column("starts_at", UtcDateTime, nullable=False),
    sa.Column("ends_at", UtcDateTime, nullable=False),
    sa.Column("left_at", UtcDateTime),
    sa.CheckConstraint("starts_at <= ends_at", name="reservation_node_order"),
    sa.Index("reservation_node_of", "reservation_id"),
    sa.Index("reservation_node_time", "lab", "ends_at", "starts_at", "node"),
    sa.Index("reservation_node_node", "lab", "node", "ends_at", "starts_at"),
)
"""Which node a reservation has from when to when. The database refuses two that overlap on one node:
PostgreSQL by an exclusion constraint, SQLite by triggers; revision 0005 makes both.

`left_at` is set where the node left the reservation before the others: given back, or swapped.
"""

reservation_event = sa.Table(
    "reservation_event",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("reservation_id", sa.String(16), nullable=False),
    sa.Column("lab", sa.Text, nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Index("reservation_event_of", "reservation_id", "id"),
    sa.Index("reservation_event_at", "lab", "at"),
)
"""Who did what to a reservation, and when. Rows are only ever added; ids grow with time."""

reservation_notice = sa.Table(
    "reservation_notice",
    metadata,
    sa.Column(
        "reservation_id", sa.String(16), sa.ForeignKey("reservation.id", ondelete="CASCADE"), primary_key=True
    ),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("about", sa.Text, primary_key=True),
    sa.Column("at", UtcDateTime, nullable=False),
)
"""Which mails about a reservation were put into the outbox, each once; `about` is a time in it, say."""

node_record = sa.Table(
    "node_record",
    metadata,
    sa.Column("lab", sa.Text, primary_key=True),
    sa.Column("node", sa.Text, primary_key=True),
    sa.Column("retired", sa.Boolean, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("facts", sa.JSON, nullable=False),
    sa.Column("changed_at", UtcDateTime, nullable=False),
)
"""What the inventory does not say of a node: whether it is retired, and hardware facts for filters."""

node_event = sa.Table(
    "node_event",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("lab", sa.Text, nullable=False),
    sa.Column("node", sa.Text, nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("ok", sa.Boolean, nullable=False),
    sa.Column("reservation_id", sa.String(16), nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Index("node_event_of", "lab", "node", "id"),
)
"""What was done with a node and how it ended: power, provision, canary, reclaim, quarantine, restore."""

access_token = sa.Table(
    "access_token",
    metadata,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime),
    sa.Column("revoked_at", UtcDateTime),
    sa.Column("used_at", UtcDateTime),
)
"""Tokens by which programs and the web page act for a person; `digest` is SHA-256 of the secret in hex."""

quarantine = sa.Table(
    "quarantine",
    metadata,
    sa.Column("lab", sa.Text, primary_key=True),
    sa.Column("node", sa.Text, primary_key=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("since", UtcDateTime, nullable=False),
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

alert = sa.Table(
    "alert",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("lab", sa.Text, nullable=False),
    sa.Column("job", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
)
"""Alerts, open and closed, in the order of `position`; `document` is an `alerts.model.Alert` as JSON."""

alert_progress = sa.Table(
    "alert_progress",
    metadata,
    sa.Column("place", sa.Text, primary_key=True),
    sa.Column("run_id", sa.Text, nullable=False),
)
"""The last run that the alerts have seen, for each `lab/job`."""

lab_unfit = sa.Table(
    "lab_unfit",
    metadata,
    sa.Column("lab", sa.Text, primary_key=True),
    sa.Column("since", sa.Text, nullable=False),
)
"""The labs that are not fit to measure, with the run since which they are not."""

letter = sa.Table(
    "letter",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("sender", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("queued_at", UtcDateTime, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
)
"""Mails, by the id of their notification. `message` is the whole mail; `attempts` counts deliveries begun."""

letter_recipient = sa.Table(
    "letter_recipient",
    metadata,
    sa.Column("letter_id", sa.Text, sa.ForeignKey("letter.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("address", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("last_error", sa.Text, nullable=False),
    sa.Column("changed_at", UtcDateTime, nullable=False),
    sa.Index("letter_recipient_state", "state"),
)
"""Who gets a mail, and how far it is with each: waiting, sent or refused, with the server's last words."""

delivery = sa.Table(
    "delivery",
    metadata,
    sa.Column("store", sa.Text, primary_key=True),
    sa.Column("run_id", sa.Text, primary_key=True),
)
"""Which archived runs each store has."""

delivery_refusal = sa.Table(
    "delivery_refusal",
    metadata,
    sa.Column("store", sa.Text, primary_key=True),
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("reason", sa.Text, nullable=False),
)
"""Which archived runs each store refuses for what is in them, with its words: they are not sent again."""

confirmation_round = sa.Table(
    "confirmation_round",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
)
"""The runs that asked for re-runs. Each asks once, also where no series got an answer."""

confirmation = sa.Table(
    "confirmation",
    metadata,
    sa.Column(
        "run_id", sa.Text, sa.ForeignKey("confirmation_round.run_id", ondelete="CASCADE"), primary_key=True
    ),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("document", sa.Text, nullable=False),
)
"""What re-runs have shown of one series; `document` is `verdicts.confirmation_store.Answer` as JSON."""

night_facts = sa.Table(
    "night_facts",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("lab", sa.Text, nullable=False),
    sa.Column("job", sa.Text, nullable=False),
    sa.Column("document", sa.LargeBinary, nullable=False),
    sa.Index("night_facts_of_job", "lab", "job", "run_id"),
)
"""What the verdict decided in a night, for the nights after it; `document` is JSON, compressed with zlib."""

calibration = sa.Table(
    "calibration",
    metadata,
    sa.Column("lab", sa.Text, primary_key=True),
    sa.Column("job", sa.Text, primary_key=True),
    sa.Column("document", sa.Text, nullable=False),
)
"""What the series of a job can show, as it was last worked out; JSON."""

unreported = sa.Table(
    "unreported",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("state_dir", sa.Text, nullable=False),
    sa.Column("owner_host", sa.Text, nullable=False),
    sa.Column("owner_boot", sa.Text, nullable=False),
    sa.Column("owner_pid", sa.BigInteger, nullable=False),
    sa.Column("owner_started_ticks", sa.BigInteger, nullable=False),
)
"""Runs whose verdict and mail are not out yet, with the process that is to see to it."""

judgement = sa.Table(
    "judgement",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("document", sa.LargeBinary, nullable=False),
    info=DERIVABLE,
)
"""What the analysis said of a run; `document` is JSON, compressed with zlib."""

verdict_cache = sa.Table(
    "verdict_cache",
    metadata,
    sa.Column("lab", sa.Text, primary_key=True),
    sa.Column("job", sa.Text, primary_key=True),
    sa.Column("document", sa.LargeBinary, nullable=False),
    info=DERIVABLE,
)
"""Where the nights of a job have led the verdict; `document` is JSON, compressed with zlib."""

imported_file = sa.Table(
    "imported_file",
    metadata,
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("problems", sa.Text, nullable=False),
)
"""Files of the release before this database whose content is here; `path` is `HOST:/absolute/path`.

`problems` is a JSON list of what could not be read; empty where all of it is here.
"""


def derivable(table: str) -> bool:
    """Tell whether a table can be made again from the archive and the other tables."""
    return metadata.tables[table].info == DERIVABLE
