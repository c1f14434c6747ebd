"""A store in one SQLite file under the state folder.

It is an index: everything in it comes from the archive and can be made again from it (`rebuild`). The
values of a measurement are 8-byte little-endian floats in a blob, so they come back to the last bit.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from array import array
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import (
    URL,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    NullPool,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    delete,
    event,
    insert,
    select,
    text,
)
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import DatabaseError
from sqlalchemy.schema import CreateIndex, CreateTable

from perfci.files import put_in_place
from perfci.results.archive import read_archive, run_folders
from perfci.results.errors import ArchiveError, IndexDamaged, IndexUnavailable, ResultFileError, UnknownRun
from perfci.results.model import Measurement, Metric, SeriesKey
from perfci.results.record import record_from_json, record_to_dict
from perfci.results.stores.base import Store, checked, last

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy import Connection, Engine

    from perfci.results.model import RunRecord, RunResults

_VERSION = 1
_BUSY_SECONDS = 30
_DAMAGED = frozenset({"SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR"})  # the last: a table is missing
_KEY_FIELDS = ("lab", "job", "scenario", "arguments", "action", "metric")

_METADATA = MetaData()
_RUNS = Table(
    "runs",
    _METADATA,
    Column("run_id", String, primary_key=True),
    Column("lab", String, nullable=False),
    Column("job", String, nullable=False),
    Column("record", String, nullable=False),
    Index("runs_of_job", "lab", "job", "run_id"),
)
_SERIES = Table(
    "series",
    _METADATA,
    Column("id", Integer, primary_key=True),
    *(Column(name, String, nullable=False) for name in _KEY_FIELDS),
    UniqueConstraint(*_KEY_FIELDS),
)
_MEASUREMENTS = Table(
    "measurements",
    _METADATA,
    Column("series_id", ForeignKey("series.id"), primary_key=True),
    Column("run_id", ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True, index=True),
    Column("attempts", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("samples", LargeBinary, nullable=False),
    Column("timestamps", LargeBinary, nullable=False),
)


_SAMPLE_FIELDS = ("series_id", "run_id", "attempts", "failures", "samples")
_BLOCK = 500
"""Series that are read at a time, where some are wanted."""
_TAKE_FRESH = (
    "INSERT INTO main.runs SELECT * FROM fresh.runs",
    """INSERT OR IGNORE INTO main.series (lab, job, scenario, arguments, action, metric)
       SELECT lab, job, scenario, arguments, action, metric FROM fresh.series""",
    """INSERT INTO main.measurements
       SELECT mine.id, m.run_id, m.attempts, m.failures, m.samples, m.timestamps
       FROM fresh.measurements AS m
       JOIN fresh.series AS theirs ON theirs.id = m.series_id
       JOIN main.series AS mine USING (lab, job, scenario, arguments, action, metric)""",
    "DELETE FROM main.series WHERE id NOT IN (SELECT series_id FROM main.measurements)",
)
"""How an index takes the content of another one, attached as `fresh`; series have other ids there."""


class StoredSample(NamedTuple):
    """One series in one run: a `Measurement` without times, with `values` side by side in memory."""

    key: SeriesKey
    run_id: str
    values: array[float]
    attempts: int
    failures: int


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What `rebuild` did: the runs that are in the index, and the errors of those that can't be read."""

    runs: tuple[str, ...]
    unreadable: tuple[ResultFileError, ...]


class LocalStore(Store):
    """Keeps runs in an SQLite file; several processes may use it at a time.

    Raises IndexDamaged where the file is not an index of this version, IndexUnavailable where it can't
    be opened, or stays locked, or its disk is full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine = _engine(path)
        self._ready = False

    @property
    def identity(self) -> str:
        """The kind and the file."""
        return f"local:{self.path}"

    def write(self, results: RunResults) -> None:
        """Keep a run in the place of an earlier one with its id, in one transaction."""
        results = checked(results)
        record = results.record
        with self._transaction() as connection:
            connection.execute(delete(_RUNS).where(_RUNS.c.run_id == record.run_id))
            row = {"run_id": record.run_id, "lab": record.lab, "job": record.job}
            connection.execute(insert(_RUNS), {**row, "record": json.dumps(record_to_dict(record))})
            if results.measurements:
                ids = _series_ids(connection, results)
                rows = [_row(ids[m.key], m) for m in results.measurements]
                connection.execute(insert(_MEASUREMENTS), rows)

    def record(self, run_id: str) -> RunRecord:
        """See Store."""
        with self._transaction() as connection:
            found = connection.scalar(select(_RUNS.c.record).where(_RUNS.c.run_id == run_id))
        if found is None:
            raise UnknownRun(store=self.identity, run_id=run_id)
        return self._parsed(found)

    def records(
        self, lab: str, job: str, *, limit: int | None = None, until: str | None = None
    ) -> tuple[RunRecord, ...]:
        """See Store."""
        query = select(_RUNS.c.record).where(_RUNS.c.lab == lab, _RUNS.c.job == job)
        query = query.order_by(_RUNS.c.run_id.desc()).limit(limit)
        if until is not None:
            query = query.where(_RUNS.c.run_id <= until)
        with self._transaction() as connection:
            found = connection.scalars(query).all()
        return last([self._parsed(record) for record in found], None, None)

    def series(self, lab: str, job: str) -> tuple[SeriesKey, ...]:
        """See Store."""
        query = select(*(_SERIES.c[name] for name in _KEY_FIELDS)).where(
            _SERIES.c.lab == lab,
            _SERIES.c.job == job,
            _SERIES.c.id.in_(select(_MEASUREMENTS.c.series_id)),
        )
        with self._transaction() as connection:
            return tuple(sorted(_key(row) for row in connection.execute(query)))

    def measurements(
        self, records: Sequence[RunRecord], key: SeriesKey | None = None
    ) -> tuple[Measurement, ...]:
        """See Store."""
        columns = [*(_SERIES.c[name] for name in _KEY_FIELDS), *_MEASUREMENTS.c]
        query = select(*columns).join(_SERIES).where(_MEASUREMENTS.c.run_id.in_([r.run_id for r in records]))
        if key is not None:
            query = query.where(*(_SERIES.c[name] == getattr(key, name) for name in _KEY_FIELDS))
        with self._transaction() as connection:
            found = [self._measurement(row) for row in connection.execute(query)]
        return tuple(sorted(found, key=lambda m: (m.key, m.run_id)))

    def samples(self, records: Sequence[RunRecord]) -> list[StoredSample]:
        """Return what runs of one job measured; sorted by series, then by run.

        As `measurements`, for analysis: without the times of the values, which nobody needs there.
        """
        return self._samples(records, self._ids(records), all_of_job=True)

    def samples_of(self, records: Sequence[RunRecord], keys: Collection[SeriesKey]) -> Iterator[StoredSample]:
        """Yield what `samples` returns of some series. Some hundred of them are in memory at a time."""
        known = self._ids(records)
        wanted = sorted(key for key in keys if key in known)
        for first in range(0, len(wanted), _BLOCK):
            block = {key: known[key] for key in wanted[first : first + _BLOCK]}
            yield from self._samples(records, block, all_of_job=False)

    def _ids(self, records: Sequence[RunRecord]) -> dict[SeriesKey, int]:
        """Return the ids of the series of the job that all these runs ran."""
        if not records:
            return {}
        job = select(_SERIES).where(_SERIES.c.lab == records[0].lab, _SERIES.c.job == records[0].job)
        with self._transaction() as connection:
            return {_key(row): row.id for row in connection.execute(job)}

    def _samples(
        self, records: Sequence[RunRecord], wanted: Mapping[SeriesKey, int], *, all_of_job: bool
    ) -> list[StoredSample]:
        query = select(*(_MEASUREMENTS.c[name] for name in _SAMPLE_FIELDS)).where(
            _MEASUREMENTS.c.run_id.in_([record.run_id for record in records])
        )
        if not all_of_job:
            query = query.where(_MEASUREMENTS.c.series_id.in_(wanted.values()))
        by_id = {wanted[key]: (place, key) for place, key in enumerate(sorted(wanted))}
        with self._transaction() as connection:
            rows = [row for row in connection.execute(query) if row.series_id in by_id]
        rows.sort(key=lambda row: (by_id[row.series_id][0], row.run_id))
        return [self._sample(by_id[row.series_id][1], row) for row in rows]

    def rebuild(self, archive: Path) -> Rebuilt:
        """Make the index again from the archive; a run that can't be read is left out and reported.

        The new index is built beside the old one and takes its place in one transaction: a kill before that
        leaves the old one. A run that another process writes meanwhile stays. Raises IndexUnavailable where
        another process rebuilds the index, too.
        """
        scratch = self.path.with_name(f"{self.path.name}.new")
        with _locked(self.path):
            before = self._run_ids()
            _remove(scratch)
            runs, unreadable = LocalStore(scratch).fill(archive)
            try:
                self._replace_content(scratch, before)
            except IndexDamaged:  # nobody can use the old one
                _remove_log(self.path)
                put_in_place(scratch, self.path)
            _remove(scratch)
        return Rebuilt(tuple(runs), tuple(unreadable))

    def jobs(self) -> tuple[tuple[str, str], ...]:
        """Return lab and job of all runs, sorted."""
        with self._transaction() as connection:
            found = connection.execute(select(_RUNS.c.lab, _RUNS.c.job).distinct())
            return tuple(sorted((row.lab, row.job) for row in found))

    def _run_ids(self) -> frozenset[str]:
        """Return which runs are indexed; none where the file is no index that can be read."""
        try:
            with self._transaction() as connection:
                return frozenset(connection.scalars(select(_RUNS.c.run_id)))
        except IndexDamaged:
            return frozenset()

    def fill(self, archive: Path) -> tuple[list[str], list[ResultFileError]]:
        """Write all runs of an archive; return their ids, and the errors of those that can't be read."""
        with self._transaction():  # an empty archive makes an empty index
            pass
        runs: list[str] = []
        unreadable: list[ResultFileError] = []
        for folder in run_folders(archive):
            try:
                results = read_archive(folder)
            except ResultFileError as error:
                unreadable.append(error)
            else:
                self.write(results)
                runs.append(results.record.run_id)
        return runs, unreadable

    def _replace_content(self, scratch: Path, before: frozenset[str]) -> None:
        """Put all of another index in the place of this one's runs `before`, in one transaction."""
        with self._transaction(attached=scratch) as connection:
            fresh = set(connection.scalars(text("SELECT run_id FROM fresh.runs")))
            written = set(connection.scalars(select(_RUNS.c.run_id))) - before - fresh
            connection.execute(delete(_RUNS).where(_RUNS.c.run_id.not_in(written)))
            for statement in _TAKE_FRESH:
                connection.execute(text(statement))

    @contextmanager
    def _transaction(self, *, attached: Path | None = None) -> Iterator[Connection]:
        """Return a connection; its work is committed when the context ends. Another index may be `fresh`."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._engine.begin() as connection:
                if attached is not None:  # before anything else: SQLite attaches nothing inside a transaction
                    connection.execute(text("ATTACH DATABASE :file AS fresh"), {"file": str(attached)})
                    connection.execute(text("BEGIN IMMEDIATE"))
                if not self._ready:
                    self._prepare(connection)
                yield connection
                self._ready = True
        except DatabaseError as error:
            name = getattr(error.orig, "sqlite_errorname", "")
            kind = IndexDamaged if name.startswith(tuple(_DAMAGED)) else IndexUnavailable
            raise kind(path=self.path, reason=str(error.orig)) from error
        except OSError as error:
            raise IndexUnavailable(path=self.path, reason=error.strerror or str(error)) from error

    def _prepare(self, connection: Connection) -> None:
        version = connection.scalar(text("PRAGMA user_version"))
        if version == 0:
            for table in _METADATA.sorted_tables:  # another process may be doing the same
                connection.execute(CreateTable(table, if_not_exists=True))
                for index in table.indexes:
                    connection.execute(CreateIndex(index, if_not_exists=True))
            connection.execute(text(f"PRAGMA user_version = {_VERSION}"))
        elif version != _VERSION:
            raise IndexDamaged(path=self.path, reason=f"it is of version {version}, this is {_VERSION}")

    def _parsed(self, record: str) -> RunRecord:
        try:
            return record_from_json(record, str(self.path))
        except ArchiveError as error:
            raise IndexDamaged(path=self.path, reason=str(error)) from error

    def _sample(self, key: SeriesKey, row: Any) -> StoredSample:
        try:
            values = _array(row.samples)
        except ValueError as error:
            raise IndexDamaged(path=self.path, reason=f"{row.run_id}: {error}") from error
        return StoredSample(key, row.run_id, values, row.attempts, row.failures)

    def _measurement(self, row: Any) -> Measurement:
        try:
            values, timestamps = _floats(row.samples), _floats(row.timestamps)
        except ValueError as error:
            raise IndexDamaged(path=self.path, reason=f"{row.run_id}: {error}") from error
        return Measurement(_key(row), row.run_id, values, timestamps, row.attempts, row.failures)


def _engine(path: Path) -> Engine:
    url = URL.create("sqlite", database=str(path))
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": _BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: object) -> None:
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _series_ids(connection: Connection, results: RunResults) -> dict[SeriesKey, int]:
    """Return the id of each measured series, new ones included."""
    rows = [{name: str(getattr(m.key, name)) for name in _KEY_FIELDS} for m in results.measurements]
    connection.execute(sqlite_insert(_SERIES).on_conflict_do_nothing(), rows)
    record = results.record
    mine = select(_SERIES).where(_SERIES.c.lab == record.lab, _SERIES.c.job == record.job)
    return {_key(row): row.id for row in connection.execute(mine)}


def _row(series_id: int, measurement: Measurement) -> dict[str, Any]:
    return {
        "series_id": series_id,
        "run_id": measurement.run_id,
        "attempts": measurement.attempts,
        "failures": measurement.failures,
        "samples": _blob(measurement.values),
        "timestamps": _blob(measurement.timestamps),
    }


def _key(row: Any) -> SeriesKey:
    return SeriesKey(row.lab, row.job, row.scenario, row.arguments, row.action, Metric(row.metric))


def _blob(values: Sequence[float]) -> bytes:
    floats = array("d", values)
    if sys.byteorder == "big":
        floats.byteswap()
    return floats.tobytes()


def _array(blob: bytes) -> array[float]:
    floats = array("d")
    floats.frombytes(blob)
    if sys.byteorder == "big":
        floats.byteswap()
    return floats


def _floats(blob: bytes) -> tuple[float, ...]:
    return tuple(_array(blob))


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    _remove_log(path)


def _remove_log(path: Path) -> None:
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


@contextmanager
def _locked(index: Path) -> Iterator[None]:
    """Let one process at a time rebuild an index, by a lock on its folder; the lock ends with the process."""
    handle = None
    try:
        index.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(index.parent, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise IndexUnavailable(path=index, reason="another process is rebuilding it") from error
    except OSError as error:
        raise IndexUnavailable(path=index, reason=error.strerror or str(error)) from error
    finally:
        if handle is not None:
            os.close(handle)
