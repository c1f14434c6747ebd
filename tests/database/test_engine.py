"""The controller's database: opening it, its transactions, and what can be wrong with it."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from alembic import op
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from perfci.database import engine
from perfci.database.engine import HEAD, Database, LockHeld
from perfci.database.errors import DatabaseTooNew, DatabaseUnavailable
from perfci.database.migrate import scripts
from perfci.database.schema import metadata, quarantine, reservation
from perfci.errors import PerfciError

if TYPE_CHECKING:
    from pathlib import Path

OPENERS = 4


def raw(url: str) -> sa.Engine:
    return sa.create_engine(url, poolclass=sa.pool.NullPool)


def withhold(connection: sa.Connection, node: str) -> None:
    when = sa.func.current_timestamp()
    connection.execute(quarantine.insert().values(lab="x", node=node, reason="r", since=when))


def withheld(database: Database) -> set[str]:
    with database.reading() as connection:
        return set(connection.scalars(sa.select(quarantine.c.node)))


def test_the_newest_migration_is_the_one_that_the_engine_looks_for() -> None:
    assert scripts().get_current_head() == HEAD


def test_the_migrations_make_the_tables_of_the_schema(database_url: str) -> None:
    Database(database_url)
    with raw(database_url).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_the_tables_are_those_of_the_schema_in_every_column(database_url: str) -> None:
    Database(database_url)
    inspector = sa.inspect(raw(database_url))
    for name, table in metadata.tables.items():
        found = {column["name"]: column["nullable"] for column in inspector.get_columns(name)}
        assert found == {column.name: column.nullable for column in table.columns}, name
        assert set(inspector.get_pk_constraint(name)["constrained_columns"]) == {
            column.name for column in table.primary_key
        }


def test_many_processes_open_a_new_database_at_once(database_url: str) -> None:
    program = "import sys; from perfci.database.engine import Database; Database(sys.argv[1])"
    openers = [
        subprocess.Popen([sys.executable, "-c", program, database_url], stderr=subprocess.PIPE, text=True)
        for _ in range(OPENERS)
    ]
    for opener in openers:
        _, stderr = opener.communicate(timeout=90)
        assert opener.returncode == 0, stderr
    assert withheld(Database(database_url)) == set()


def test_tables_of_the_release_before_alembic_are_taken_over_with_their_rows(database_url: str) -> None:
    with raw(database_url).begin() as connection:
        metadata.create_all(connection, [metadata.tables["schema_version"], reservation, quarantine])
        connection.execute(sa.text("INSERT INTO schema_version VALUES (1)"))
        withhold(connection, "n1")
    database = Database(database_url)
    assert withheld(database) == {"n1"}
    with database.reading() as connection:
        # What that release reads: it refuses numbers above its own, 1.
        assert connection.scalar(sa.text("SELECT version FROM schema_version")) == 2
        assert sa.inspect(connection).has_table("bmc_operation_day")


def migrate_and_die(url: str, at: int) -> None:
    """Open a database, and be killed before one of the statements that make its tables."""
    whole, count = op.create_table, 0

    def create_table(*arguments, **options):
        nonlocal count
        count += 1
        if count == at:
            os._exit(9)
        return whole(*arguments, **options)

    op.create_table = create_table
    Database(url)


@pytest.mark.parametrize("at", [1, 3, len(metadata.tables)])
def test_killed_in_a_migration_the_next_one_begins_again(database_url: str, at: int) -> None:
    with raw(database_url).begin() as connection:
        metadata.create_all(connection, [metadata.tables["schema_version"], reservation, quarantine])
        connection.execute(sa.text("INSERT INTO schema_version VALUES (1)"))
        withhold(connection, "n1")
    missing = len(metadata.tables) - 3
    child = multiprocessing.get_context("spawn").Process(
        target=migrate_and_die, args=(database_url, min(at, missing))
    )
    child.start()
    child.join(60)
    assert child.exitcode == 9
    with raw(database_url).connect() as connection:
        assert not sa.inspect(connection).has_table("alembic_version")
        assert connection.scalar(sa.text("SELECT version FROM schema_version")) == 1
    assert withheld(Database(database_url)) == {"n1"}


def test_a_newer_schema_is_refused(database_url: str) -> None:
    Database(database_url)
    with raw(database_url).begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseTooNew, match=f"schema revision 9999; this perfci knows up to {HEAD}"):
        Database(database_url)


def test_an_error_undoes_the_whole_transaction(database_url: str) -> None:
    database = Database(database_url)

    def fail() -> None:
        with database.transaction() as connection:
            withhold(connection, "n1")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert withheld(database) == set()


def test_a_transaction_inside_another_is_part_of_it(database_url: str) -> None:
    database = Database(database_url)

    def fail() -> None:
        with database.transaction():
            with database.transaction() as connection:
                withhold(connection, "n1")
            assert withheld(database) == {"n1"}
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert withheld(database) == set()


def test_an_error_that_is_caught_undoes_the_inner_transaction_alone(database_url: str) -> None:
    database = Database(database_url)

    def fail() -> None:
        with database.transaction() as connection:
            withhold(connection, "n2")
            withhold(connection, "n1")

    with database.transaction() as connection:
        withhold(connection, "n1")
        with pytest.raises(DatabaseUnavailable, match=r"(?i)unique"):
            fail()
    assert withheld(database) == {"n1"}


def test_readers_wait_for_no_writer_and_see_what_is_committed(database_url: str) -> None:
    database, other = Database(database_url), Database(database_url)
    with database.transaction() as connection:
        withhold(connection, "n1")
        assert withheld(other) == set()
    assert withheld(other) == {"n1"}


def test_what_is_read_together_is_of_one_moment(database_url: str) -> None:
    database, other = Database(database_url), Database(database_url)
    with database.reading():
        assert withheld(database) == set()
        with other.transaction() as connection:
            withhold(connection, "n1")
        assert withheld(database) == set()
    assert withheld(database) == {"n1"}


def test_nothing_writes_inside_what_only_reads(database_url: str) -> None:
    database = Database(database_url)
    with database.reading(), pytest.raises(RuntimeError), database.transaction():
        pass


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "lab.db").write_text("not a database, but long enough to be taken for one\n" * 100)
    with pytest.raises(DatabaseUnavailable, match="file is not a database"):
        Database(f"sqlite:///{tmp_path}/lab.db")


def test_a_folder_in_the_files_place(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match="unable to open database file"):
        Database(f"sqlite:///{tmp_path}")


def test_a_file_in_the_folders_place(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(DatabaseUnavailable, match="state"):
        Database(f"sqlite:///{tmp_path}/state/lab.db")


def test_a_lock_is_held_by_one_and_ends_with_its_process(database_url: str) -> None:
    first, second = Database(database_url), Database(database_url)

    def take(name: str) -> None:
        with second.lock(name, wait=False):
            pass

    with first.lock("outbox"):
        with pytest.raises(LockHeld):
            take("outbox")
        take("deliveries")
        with second.transaction() as connection:
            withhold(connection, "n1")
    take("outbox")
    program = (
        "import os, sys; from perfci.database.engine import Database;"
        "database = Database(sys.argv[1]); lock = database.lock('outbox'); lock.__enter__(); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", program, database_url], check=False).returncode == 9
    take("outbox")


def test_a_writer_that_somebody_keeps_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BUSY_SECONDS", 0.05)
    first, second = (Database(f"sqlite:///{tmp_path}/lab.db") for _ in range(2))
    with (
        first.transaction(),
        pytest.raises(DatabaseUnavailable, match="database is locked"),
        second.transaction(),
    ):
        pass


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nonsense", "Could not parse"),
        ("nosuch://x/y", "nosuch"),
        ("postgresql+pg8000://x/y", "driver pg8000 is not installed"),
    ],
)
def test_urls_that_lead_nowhere(url: str, reason: str) -> None:
    with pytest.raises(DatabaseUnavailable, match=reason):
        Database(url)


def test_a_server_that_does_not_answer_does_not_get_its_password_told() -> None:
    with pytest.raises(DatabaseUnavailable, match=r"refused|failed") as caught:
        Database("postgresql+psycopg://perfci@127.0.0.1:1/perfci", "s3cret")
    assert isinstance(caught.value, PerfciError)
    assert "s3cret" not in str(caught.value)
    assert "perfci:***@127.0.0.1:1" in str(caught.value)
