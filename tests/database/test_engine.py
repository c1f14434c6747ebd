"""The controller's database: opening it, its transactions, and what can be wrong with it."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg
import pytest
import sqlalchemy as sa
from alembic import op
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from perfci.database import engine
from perfci.database.engine import HEAD, Database, LockHeld
from perfci.database.errors import DatabaseTooNew, DatabaseUnavailable
from perfci.database.migrate import scripts
from perfci.database.schema import metadata, quarantine, reservation, reservation_node
from perfci.errors import PerfciError

if TYPE_CHECKING:
    from pathlib import Path

OPENERS = 4


FIRST_RELEASE = """
CREATE TABLE schema_version (version INTEGER NOT NULL);
CREATE TABLE reservation (
    id VARCHAR(16) PRIMARY KEY, lab TEXT NOT NULL, nodes JSON NOT NULL, holder TEXT NOT NULL,
    purpose TEXT NOT NULL, starts_at TIMESTAMP WITH TIME ZONE NOT NULL,
    ends_at TIMESTAMP WITH TIME ZONE NOT NULL, released_at TIMESTAMP WITH TIME ZONE,
    owner_host TEXT, owner_boot TEXT, owner_pid BIGINT, owner_started_ticks BIGINT
);
CREATE INDEX reservation_open ON reservation (lab, released_at);
CREATE TABLE quarantine (
    lab TEXT, node TEXT, reason TEXT NOT NULL, since TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (lab, node)
);
INSERT INTO schema_version VALUES (1)
"""
"""The tables as the release before Alembic made them."""


def raw(url: str) -> sa.Engine:
    return sa.create_engine(url, poolclass=sa.pool.NullPool)


def first_release(connection: sa.Connection) -> None:
    for statement in FIRST_RELEASE.split(";"):
        connection.execute(sa.text(statement))


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
        first_release(connection)
        withhold(connection, "n1")
    database = Database(database_url)
    assert withheld(database) == {"n1"}
    with database.reading() as connection:
        # What that release reads: it refuses numbers above its own, 1.
        assert connection.scalar(sa.text("SELECT version FROM schema_version")) == 2
        assert sa.inspect(connection).has_table("bmc_operation_day")


def test_reservations_of_the_release_before_are_moved_and_cut_where_they_overlap(database_url: str) -> None:
    """`a` was taken over after its end, and its lease made longer then: the row says that both had it."""
    with raw(database_url).begin() as connection:
        first_release(connection)
        add = sa.text(
            "INSERT INTO reservation VALUES (:id, 'x', :nodes, 'ann', 'a look', :start, :end, :released,"
            " 'host', 'boot', :pid, 5)"
        )
        for row in (
            ("late", ["a"], 0, 9, 8, 10),
            ("taken", ["a", "b"], 5, 7, None, None),
            ("early", ["b"], 0, 4, 2, 11),
            ("back", ["c"], 5, 6, 3, None),
        ):
            times = [None if hour is None else f"2026-03-01 0{hour}:00:00.000000+00:00" for hour in row[2:5]]
            if database_url.startswith("sqlite"):
                times = [time and time.removesuffix("+00:00") for time in times]
            names = dict(zip(("start", "end", "released"), times, strict=True))
            connection.execute(add, {"id": row[0], "nodes": json.dumps(row[1]), "pid": row[5], **names})
    database = Database(database_url)
    with database.reading() as connection:
        rows = connection.execute(sa.select(reservation).order_by(reservation.c.id)).all()
        places = connection.execute(sa.select(reservation_node).order_by(reservation_node.c.id)).all()
    assert {(row.id, row.state, row.priority, row.owner_pid, row.released_at is None) for row in rows} == {
        ("late", "over", 1, 10, False),
        ("taken", "ready", 0, None, True),
        ("early", "over", 1, 11, False),
        ("back", "over", 0, None, False),
    }
    assert {row.wish["count"] for row in rows} == {1, 2}
    assert [(row.reservation_id, row.node, row.starts_at.hour, row.ends_at.hour) for row in places] == [
        ("back", "c", 5, 5),
        ("early", "b", 0, 2),
        ("late", "a", 0, 5),
        ("taken", "a", 5, 7),
        ("taken", "b", 5, 7),
    ]


def test_the_database_refuses_two_reservations_of_one_node_at_one_time(database_url: str) -> None:
    database = Database(database_url)
    hour = [datetime(2026, 3, 1, hour, tzinfo=UTC) for hour in range(9)]

    def add(name: str, node: str, start: int, end: int, lab: str = "x") -> None:
        with database.transaction() as connection:
            connection.execute(
                reservation_node.insert().values(
                    id=name, reservation_id="r", lab=lab, node=node, starts_at=hour[start], ends_at=hour[end]
                )
            )

    def move(name: str, node: str, start: int, end: int) -> None:
        with database.transaction() as connection:
            connection.execute(
                reservation_node.update()
                .where(reservation_node.c.id == name)
                .values(node=node, starts_at=hour[start], ends_at=hour[end])
            )

    with database.transaction() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO reservation (id, lab, holder, purpose, state, priority, firm, asked_at,"
                " earliest_at, starts_at, ends_at, wish, os, cloud, contact, attempts)"
                " VALUES ('r', 'x', 'ann', 'x', 'ready', 0, :firm, :now, :now, :now, :now, '{}', '', '', '', 0)"
            ),
            {"firm": True, "now": "2026-03-01 00:00:00.000000"},
        )
    add("first", "a", 2, 4)
    add("before", "a", 0, 2)
    add("after", "a", 4, 6)
    add("another", "b", 2, 4)
    add("elsewhere", "a", 2, 4, "y")
    add("nothing", "a", 3, 3)
    for start, end in ((1, 3), (3, 5), (0, 8), (2, 3)):
        with pytest.raises(DatabaseUnavailable, match="reservation_node_no_overlap"):
            add("second", "a", start, end)
        with pytest.raises(DatabaseUnavailable, match="reservation_node_no_overlap"):
            move("another", "a", start, end)
    with pytest.raises(DatabaseUnavailable, match="reservation_node_order"):
        add("backwards", "c", 3, 2)


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
        first_release(connection)
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


def test_connections_that_are_kept_open_see_what_others_commit(database_url: str) -> None:
    mine, other = Database(database_url), Database(database_url)
    with mine.kept_open(), mine.kept_open():
        with mine.transaction() as first:
            withhold(first, "n1")
        with other.transaction() as connection:
            withhold(connection, "n2")
        assert withheld(mine) == {"n1", "n2"}
        with mine.transaction() as second:
            withhold(second, "n3")
            assert withheld(other) == {"n1", "n2"}
        assert second is first
        assert not first.in_transaction()
    assert first.closed
    assert withheld(other) == withheld(mine) == {"n1", "n2", "n3"}


@pytest.mark.slow
def test_a_connection_that_is_kept_open_and_lost_costs_one_transaction(postgresql: str) -> None:
    database = Database(postgresql)
    end_it = sa.text("SELECT pg_terminate_backend(pg_backend_pid())")
    with database.kept_open():
        with pytest.raises(DatabaseUnavailable), database.transaction() as connection:
            connection.execute(end_it)
        with database.transaction() as connection:
            assert connection.scalar(sa.text("SELECT 1")) == 1


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


def test_a_lock_that_was_given_back_is_free_before_the_server_has_ended_its_session(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    late: list[psycopg.Connection[object]] = []
    close = psycopg.Connection.close

    def keep(connection: psycopg.Connection[object]) -> None:
        late.append(connection)

    monkeypatch.setattr(psycopg.Connection, "close", keep)
    try:
        for one in (Database(database_url), Database(database_url)):
            with one.lock("outbox", wait=False):
                pass
    finally:
        for connection in late:
            close(connection)


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
