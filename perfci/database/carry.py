"""Carrying a database elsewhere: a backup in one file, or all its rows into another database."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import sqlalchemy as sa

from perfci.database.errors import BackupFailed, DatabaseNotEmpty
from perfci.database.schema import metadata, writer_lock
from perfci.files import put_in_place

if TYPE_CHECKING:
    from pathlib import Path

    from perfci.database.engine import Database

_ROWS_AT_A_TIME = 1000
_TABLES = tuple(table for table in metadata.sorted_tables if table is not writer_lock)


def row_counts(database: Database) -> dict[str, int]:
    """Return how many rows each table has."""
    with database.reading() as connection:
        return {
            table.name: connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
            for table in _TABLES
        }


def copy_rows(source: Database, target: Database) -> dict[str, int]:
    """Copy all rows into a database that has none, and return how many of each table.

    The target changes in one transaction; nothing is written to the source while it is copied. Raises
    DatabaseNotEmpty.
    """
    with source.transaction() as reader, target.transaction() as writer:
        for table in _TABLES:
            if writer.execute(sa.select(table).limit(1)).first() is not None:
                raise DatabaseNotEmpty(url=target.shown, table=table.name)
            rows = reader.execute(sa.select(table)).mappings()
            while part := rows.fetchmany(_ROWS_AT_A_TIME):
                writer.execute(table.insert(), [dict(row) for row in part])
    return row_counts(target)


def back_up(database: Database, file: Path) -> None:
    """Copy an SQLite database into a file, as it is at one moment, while others use it.

    The file appears whole or not at all. Raises BackupFailed.
    """
    if database.file is None:
        raise BackupFailed(file=file, reason=f"{database.shown} is on a server; use its own program, pg_dump")
    if file.exists():
        raise BackupFailed(file=file, reason="it exists already")
    scratch = file.with_name(f".{file.name}.new")
    try:
        scratch.unlink(missing_ok=True)
        with closing(sqlite3.connect(database.file)) as source, closing(sqlite3.connect(scratch)) as copy:
            source.backup(copy)
        put_in_place(scratch, file)
    except (OSError, sqlite3.Error) as error:
        raise BackupFailed(file=file, reason=error) from error
