"""The connection to the controller's database: SQLite for one controller, PostgreSQL for several."""

from __future__ import annotations

import fcntl
import random
import re
import threading
import time
import zlib
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from perfci.database.errors import DatabaseTooNew, DatabaseUnavailable
from perfci.database.schema import writer_lock
from perfci.database.takeover import take_over

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfci.config import Settings

HEAD = "0006"
"""The newest revision in `migrations/versions`: read without loading Alembic, which costs start-up time."""
BUSY_SECONDS = 30
"""How long one process waits for another's transaction; each takes some milliseconds."""
CONNECT_SECONDS = 10
_FULL = re.compile(r"too many (clients|connections)|remaining connection slots")
_SETUP_LOCK = 0x70657266
"""Key of the PostgreSQL advisory lock that lets one process at a time change the tables."""
_READ_ONLY = "perfci_read_only"
"""Execution option of connections that do not write."""


class LockHeld(Exception):
    """Another process, or another part of this one, holds the lock."""


class Database:
    """The database at `url` (SQLAlchemy's form); its tables are made or migrated when it is opened.

    Every method raises DatabaseUnavailable where the database does not answer. Threads may share one
    object. Raises DatabaseUnavailable and DatabaseTooNew.
    """

    def __init__(self, url: str, password: str | None = None) -> None:
        self._shown = url
        self._engine = self._connect(url, password)
        self._readers = self._engine.execution_options(**{_READ_ONLY: True})
        if self._engine.dialect.name == "postgresql":
            # As in SQLite: all that is read in one transaction is of one moment.
            self._readers = self._readers.execution_options(isolation_level="REPEATABLE READ")
        self._shown = self._engine.url.render_as_string(hide_password=True)
        self._open = threading.local()
        with self._typed_errors():
            self._prepare()

    @property
    def shown(self) -> str:
        """The URL for people, with `***` in place of a password."""
        return self._shown

    @property
    def file(self) -> Path | None:
        """SQLite's file; None where the database is on a server."""
        url = self._engine.url
        return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Return the connection of the only writer; all is committed when the context ends.

        An error undoes everything written inside. A transaction inside another one of the same thread is
        part of it: an error that is caught between the two undoes the inner one alone.
        """
        outer: sa.Connection | None = getattr(self._open, "connection", None)
        if outer is not None:
            if outer.get_execution_options().get(_READ_ONLY):
                msg = "a transaction that writes can't begin inside one that only reads"
                raise RuntimeError(msg)
            with self._typed_errors(), outer.begin_nested():
                yield outer
            return
        with self._typed_errors(), self._begun(self._engine) as connection, self._as_open(connection):
            # SQLite excludes other writers with BEGIN IMMEDIATE; elsewhere all of them lock this row first.
            connection.execute(sa.select(writer_lock.c.version).with_for_update())
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Return a connection that sees one state of the database, and waits for no writer.

        Inside a transaction of the same thread it is that transaction.
        """
        outer: sa.Connection | None = getattr(self._open, "connection", None)
        if outer is not None:
            with self._typed_errors():
                yield outer
            return
        with self._typed_errors(), self._begun(self._readers) as connection, self._as_open(connection):
            yield connection

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """Let this thread use the same connections for all that it does inside.

        A server needs as long for a new connection and its first statements as for several transactions.
        """
        if getattr(self._open, "kept", None) is not None:
            yield
            return
        kept: dict[sa.Engine, sa.Connection] = {}
        self._open.kept = kept
        try:
            yield
        finally:
            self._open.kept = None
            for connection in kept.values():
                connection.close()

    @contextmanager
    def _begun(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        """Begin a transaction on a connection of its own, or on the one that is kept open."""
        kept: dict[sa.Engine, sa.Connection] | None = getattr(self._open, "kept", None)
        if kept is None:
            with engine.begin() as connection:
                yield connection
            return
        if engine not in kept:
            kept[engine] = engine.connect()
        with kept[engine].begin():
            yield kept[engine]

    @contextmanager
    def lock(self, name: str, *, wait: bool = True) -> Iterator[None]:
        """Keep others from doing something for which a transaction is too long, such as sending mail.

        The lock ends with the process, however that dies. Without `wait` raises LockHeld where somebody holds
        it. It is no transaction, and excludes none.
        """
        if self.file is not None:
            path = self.file.with_name(f"{self.file.name}.{name}.lock")
            held = _file_lock(path, wait=wait)
        else:
            held = self._server_lock(name, wait=wait)
        with held:
            yield

    @contextmanager
    def _server_lock(self, name: str, *, wait: bool) -> Iterator[None]:
        key = zlib.crc32(f"perfci {name}".encode())
        with self._typed_errors(), self._engine.connect() as connection:
            # The lock is the session's: the connection stays open, and no transaction with it.
            connection.execution_options(isolation_level="AUTOCOMMIT")
            if wait:
                connection.execute(sa.select(sa.func.pg_advisory_lock(key)))
            elif not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(key))):
                raise LockHeld
            try:
                yield
            finally:
                # The server ends a session some time after its connection is closed. A broken one has no lock
                # any more.
                with suppress(DBAPIError):
                    connection.execute(sa.select(sa.func.pg_advisory_unlock(key)))

    @contextmanager
    def _as_open(self, connection: sa.Connection) -> Iterator[None]:
        self._open.connection = connection
        try:
            yield
        finally:
            self._open.connection = None

    def _connect(self, url: str, password: str | None) -> sa.Engine:
        try:
            parsed = sa.make_url(url)
            if password is not None:
                parsed = parsed.set(password=password)
            return _sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _server(parsed)
        except ModuleNotFoundError as error:
            reason = f"the driver {error.name} is not installed"
            raise DatabaseUnavailable(url=self._shown, reason=reason) from error
        except (ArgumentError, OSError) as error:
            raise DatabaseUnavailable(url=self._shown, reason=str(error)) from error

    def _prepare(self) -> None:
        """Make or migrate the tables, where they are not those of this perfci."""
        with self._readers.begin() as connection:
            if _revision(connection) == HEAD:
                return
        with self._engine.connect() as connection:
            _switch_foreign_keys_off(connection)
            self._migrate(connection)

    def _migrate(self, connection: sa.Connection) -> None:
        with connection.begin():
            if connection.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SETUP_LOCK)))
            # Another process may have migrated while this one waited for the lock.
            found = _revision(connection)
            if found == HEAD:
                return
            # Alembic takes a tenth of a second to load, and nearly every command finds nothing to migrate.
            from perfci.database.migrate import knows, upgrade

            if found is not None and not knows(found):
                raise DatabaseTooNew(url=self._shown, found=found, known=HEAD)
            upgrade(connection)

    @contextmanager
    def _typed_errors(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            cause = str(error.orig or error).strip()
            raise DatabaseUnavailable(url=self._shown, reason=cause.splitlines()[0]) from error


@contextmanager
def _file_lock(path: Path, *, wait: bool) -> Iterator[None]:
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LockHeld from error
        yield


def open_database(settings: Settings) -> Database:
    """Open the database that the settings name, and take over the files of a release without one.

    Raises DatabaseUnavailable, DatabaseTooNew, SecretUnreadable.
    """
    database = Database(settings.database_url, settings.database.secret_password())
    try:
        take_over(database, settings.state_dir)
    except OSError as error:
        raise DatabaseUnavailable(url=database.shown, reason=error) from error
    return database


def look_at(settings: Settings) -> str:
    """Say in one line where the database is and how it stands, without making or changing anything.

    Raises DatabaseUnavailable, DatabaseTooNew, SecretUnreadable.
    """
    url = sa.make_url(settings.database_url)
    shown = url.render_as_string(hide_password=True)
    try:
        if url.get_backend_name() == "sqlite":
            if not Path(url.database or "").exists():
                return f"{shown}; the first command makes it"
            reading = f"sqlite:///file:{url.database}?mode=ro&uri=true"
            engine = sa.create_engine(reading, poolclass=NullPool)
        else:
            engine = _server(url.set(password=settings.database.secret_password()))
        with engine.connect() as connection:
            found = _revision(connection)
    except DBAPIError as error:
        raise DatabaseUnavailable(url=shown, reason=str(error.orig or error).splitlines()[0]) from error
    if found == HEAD:
        return f"{shown}, schema revision {found}"
    from perfci.database.migrate import knows

    if found is not None and not knows(found):
        raise DatabaseTooNew(url=shown, found=found, known=HEAD)
    return f"{shown}; the next command migrates it to schema revision {HEAD}"


def _revision(connection: sa.Connection) -> str | None:
    """Return the revision of the tables; None where Alembic has not made them."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return found


def _server(url: sa.URL) -> sa.Engine:
    engine = sa.create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": CONNECT_SECONDS})
    sa.event.listen(engine, "do_connect", _connect_in_turn)
    return engine


def _connect_in_turn(dialect: sa.Dialect, _record: object, arguments: Any, options: Any) -> Any:
    """Wait for a connection where the server has given out all that it has, as for a lock."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return dialect.connect(*arguments, **options)
        except Exception as error:
            # Such a refusal has no SQLSTATE in psycopg: the server's words are all that there is.
            if not _FULL.search(str(error)) or time.monotonic() > end:
                raise
            time.sleep(random.uniform(0.01, 0.1))  # noqa: S311 - so that they do not come all at once again


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
    connection.execute("PRAGMA foreign_keys=ON")
    # Only the first process switches to WAL; it lasts. One that finds the file locked goes on without.
    with suppress(OperationalError, connection.OperationalError):
        connection.execute("PRAGMA journal_mode=WAL")


def _begin_sqlite(connection: sa.Connection) -> None:
    reads = connection.get_execution_options().get(_READ_ONLY)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _switch_foreign_keys_off(connection: sa.Connection) -> None:
    """Let a migration copy and drop SQLite's tables, as SQLite's own documentation asks for.

    https://www.sqlite.org/lang_altertable.html#otheralter; SQLite ignores the PRAGMA inside a transaction.
    """
    if connection.dialect.name == "sqlite":
        driver: Any = connection.connection.dbapi_connection
        driver.execute("PRAGMA foreign_keys=OFF")
