"""The lab's database: SQLite for one controller, PostgreSQL for several; with the book of reservations."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from perfci.lab import inventory
from perfci.lab.errors import LedgerTooNew, ReservationsUnavailable
from perfci.lab.ledger import Book, Ledger
from perfci.lab.model import Owner, Quarantine, Reservation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from perfci.config import Settings
    from perfci.lab.model import Node

SCHEMA_VERSION = 1
BUSY_SECONDS = 30
"""How long one process waits for another's transaction; each takes some milliseconds."""
CONNECT_SECONDS = 10
_SETUP_LOCK = 0x70657266
"""Key of the PostgreSQL advisory lock that lets one process at a time make the tables."""


class _Moment(sa.types.TypeDecorator[datetime]):
    """An aware datetime in UTC, also where the database knows no zones."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


_metadata = sa.MetaData()
_schema_version = sa.Table("schema_version", _metadata, sa.Column("version", sa.Integer, nullable=False))
_reservation = sa.Table(
    "reservation",
    _metadata,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("lab", sa.Text, nullable=False),
    sa.Column("nodes", sa.JSON, nullable=False),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("starts_at", _Moment, nullable=False),
    sa.Column("ends_at", _Moment, nullable=False),
    sa.Column("released_at", _Moment),
    sa.Column("owner_host", sa.Text),
    sa.Column("owner_boot", sa.Text),
    sa.Column("owner_pid", sa.BigInteger),
    sa.Column("owner_started_ticks", sa.BigInteger),
    sa.Index("reservation_open", "lab", "released_at"),
)
_quarantine = sa.Table(
    "quarantine",
    _metadata,
    sa.Column("lab", sa.Text, primary_key=True),
    sa.Column("node", sa.Text, primary_key=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("since", _Moment, nullable=False),
)
operation_day = sa.Table(
    "bmc_operation_day",
    _metadata,
    sa.Column("lab", sa.Text, primary_key=True),
    sa.Column("node", sa.Text, primary_key=True),
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("operations", sa.Integer, nullable=False),
    sa.Column("lock_ups", sa.Integer, nullable=False),
)
"""What `health` counts: one row for each node and day."""


class Database:
    """The lab's database at `url` (SQLAlchemy's form), with its tables, made there where they are missing.

    Raises ReservationsUnavailable and LedgerTooNew.
    """

    def __init__(self, url: str, password: str | None = None) -> None:
        self._shown = url
        self._engine = self._connect(url, password)
        self._shown = self._engine.url.render_as_string(hide_password=True)
        with self._told():
            self._prepare()

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Return a connection that is alone with the tables until the context ends; an error undoes all."""
        # SQLite locks the whole book with BEGIN IMMEDIATE; elsewhere everybody locks this one row first.
        with self._told(), self._engine.begin() as connection:
            connection.execute(sa.select(_schema_version.c.version).with_for_update())
            yield connection

    def _connect(self, url: str, password: str | None) -> sa.Engine:
        try:
            parsed = sa.make_url(url)
            if password is not None:
                parsed = parsed.set(password=password)
            return _sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _server(parsed)
        except ModuleNotFoundError as error:
            reason = f"the driver {error.name} is not installed"
            raise ReservationsUnavailable(url=self._shown, reason=reason) from error
        except (ArgumentError, OSError) as error:
            raise ReservationsUnavailable(url=self._shown, reason=str(error)) from error

    def _prepare(self) -> None:
        """Make the tables, once; then check who wrote them."""
        with self._engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SETUP_LOCK)))
            _metadata.create_all(connection)
            found = connection.scalar(sa.select(_schema_version.c.version))
            if found is None:
                connection.execute(_schema_version.insert().values(version=SCHEMA_VERSION))
            elif found > SCHEMA_VERSION:
                raise LedgerTooNew(url=self._shown, found=found, known=SCHEMA_VERSION)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            raise ReservationsUnavailable(
                url=self._shown, reason=str(cause).strip().splitlines()[0]
            ) from error


class SqlLedger(Ledger):
    """A book in the database at `url`. Raises what Database raises."""

    def __init__(
        self,
        url: str,
        lab: str,
        nodes: Iterable[Node],
        *,
        password: str | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(lab, nodes, clock=clock)
        self._database = Database(url, password)

    @contextmanager
    def _transaction(self) -> Iterator[Book]:
        with self._database.transaction() as connection:
            yield _SqlBook(connection, self.lab)


def open_ledger(settings: Settings) -> SqlLedger:
    """Open the book of the lab that the settings name.

    Raises ReservationsUnavailable, LedgerTooNew, InventoryInvalid, SecretUnreadable.
    """
    password = settings.ledger.secret_password()
    nodes = inventory.nodes(settings.inventory_dir)
    return SqlLedger(settings.ledger_url, settings.lab, nodes, password=password)


class _SqlBook:
    def __init__(self, connection: sa.Connection, lab: str) -> None:
        self._connection = connection
        self._lab = lab

    def unreleased(self) -> list[Reservation]:
        return self._read(_reservation.c.released_at.is_(None))

    def find(self, reservation_id: str) -> Reservation | None:
        return next(iter(self._read(_reservation.c.id == reservation_id)), None)

    def add(self, reservation: Reservation) -> None:
        owner = reservation.owner
        self._connection.execute(
            _reservation.insert().values(
                id=reservation.id,
                lab=reservation.lab,
                nodes=list(reservation.nodes),
                holder=reservation.holder,
                purpose=reservation.purpose,
                starts_at=reservation.starts_at,
                ends_at=reservation.ends_at,
                released_at=reservation.released_at,
                owner_host=owner.host if owner else None,
                owner_boot=owner.boot if owner else None,
                owner_pid=owner.pid if owner else None,
                owner_started_ticks=owner.started_ticks if owner else None,
            )
        )

    def mark_released(self, reservation_id: str, when: datetime) -> None:
        mine = (_reservation.c.id == reservation_id) & (_reservation.c.lab == self._lab)
        self._connection.execute(_reservation.update().where(mine).values(released_at=when))

    def quarantined(self) -> list[Quarantine]:
        mine = sa.select(_quarantine).where(_quarantine.c.lab == self._lab)
        rows = self._connection.execute(mine).mappings()
        return [Quarantine(row["node"], row["reason"], row["since"]) for row in rows]

    def quarantine(self, entry: Quarantine) -> None:
        self._connection.execute(
            _quarantine.insert().values(
                lab=self._lab, node=entry.node, reason=entry.reason, since=entry.since
            )
        )

    def restore(self, node: str) -> None:
        mine = (_quarantine.c.lab == self._lab) & (_quarantine.c.node == node)
        self._connection.execute(_quarantine.delete().where(mine))

    def _read(self, condition: sa.ColumnElement[bool]) -> list[Reservation]:
        mine = sa.select(_reservation).where(_reservation.c.lab == self._lab, condition)
        return [_from_row(row) for row in self._connection.execute(mine).mappings()]


def _from_row(row: sa.RowMapping) -> Reservation:
    owner = None
    if row["owner_pid"] is not None:
        owner = Owner(row["owner_host"], row["owner_boot"], row["owner_pid"], row["owner_started_ticks"])
    names = ("id", "lab", "holder", "purpose", "starts_at", "ends_at", "released_at")
    return Reservation(**{name: row[name] for name in names}, nodes=tuple(row["nodes"]), owner=owner)


def _server(url: sa.URL) -> sa.Engine:
    return sa.create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": CONNECT_SECONDS})


def _sqlite(url: sa.URL) -> sa.Engine:
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, poolclass=NullPool, connect_args={"timeout": BUSY_SECONDS})
    sa.event.listen(engine, "connect", _configure_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: Any, _record: object) -> None:
    # Python's sqlite3 must not begin transactions by itself: it begins them too late to exclude others.
    connection.isolation_level = None
    # Only the first process switches to WAL; it lasts. Who finds the file locked meanwhile goes on without.
    with suppress(OperationalError, connection.OperationalError):
        connection.execute("PRAGMA journal_mode=WAL")


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
