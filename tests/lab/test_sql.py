"""The book in a database: processes that fight for it, processes that are killed, and broken databases."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from perfci.errors import PerfciError
from perfci.lab import sql
from perfci.lab.errors import LedgerTooNew, ReservationsUnavailable
from perfci.lab.model import Node
from perfci.lab.scheduling import EndReason
from perfci.lab.sql import SqlLedger

if TYPE_CHECKING:
    from collections.abc import Iterator

RIVAL = Path(__file__).with_name("rival.py")
NODES = ("a", "b")
PROCESSES = 8
ROUNDS_EXPECTED = 20


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without any table yet."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/lab.db"
        return
    server = request.getfixturevalue("postgresql")
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool)
    with admin.connect() as connection:
        connection.execute(sa.text("CREATE DATABASE race"))
    yield server.replace("/postgres?", "/race?")
    with admin.connect() as connection:
        connection.execute(sa.text("DROP DATABASE race WITH (FORCE)"))


def book(url: str) -> SqlLedger:
    return SqlLedger(url, "lab", [Node(name) for name in NODES])


def start(url: str, seconds: float, log: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(RIVAL), url, ",".join(NODES), str(seconds), str(log)]
    return subprocess.Popen(command, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def test_of_many_processes_never_two_hold_one_node(url: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    # They make the tables at the same time as well.
    rivals = [start(url, 4, log) for _ in range(PROCESSES)]
    for rival in rivals:
        _, stderr = rival.communicate(timeout=90)
        assert rival.returncode == 0, stderr
    held: Counter[str] = Counter()
    changes = log.read_text().split()
    for change in changes:
        held[change[1:]] += 1 if change[0] == "+" else -1
        assert held[change[1:]] in (0, 1), "two processes held one node"
    assert set(held) == set(NODES)
    assert sum(held.values()) == 0
    assert len(changes) > ROUNDS_EXPECTED
    assert book(url).held() == ()


def test_the_lease_of_a_killed_process_is_freed_by_the_next_sweep(url: str, tmp_path: Path) -> None:
    ledger = book(url)
    with start(url, 0, tmp_path / "log") as rival:
        while not ledger.held():
            assert rival.poll() is None
            time.sleep(0.02)
        (lease,) = ledger.held()
        assert ledger.sweep() == ()
        rival.kill()
        os.waitid(os.P_PID, rival.pid, os.WEXITED | os.WNOWAIT)
        ((freed, reason),) = ledger.sweep()
        rival.communicate()
    assert (freed.id, freed.holder, reason) == (lease.id, f"rival {rival.pid}", EndReason.OWNER)
    assert freed.released_at is not None
    assert ledger.held() == ()
    with ledger.lease(nodes=2, holder="x", purpose="x", until=datetime.now(UTC) + timedelta(hours=1)) as mine:
        assert mine.nodes == NODES


def test_a_newer_schema_is_refused(url: str) -> None:
    book(url)
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE schema_version SET version = 2"))
    with pytest.raises(LedgerTooNew, match="schema version 2; this perfci knows up to 1"):
        book(url)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "lab.db").write_text("not a database, but long enough to be taken for one\n" * 100)
    with pytest.raises(ReservationsUnavailable, match="file is not a database"):
        book(f"sqlite:///{tmp_path}/lab.db")


def test_a_folder_in_the_files_place(tmp_path: Path) -> None:
    with pytest.raises(ReservationsUnavailable, match="unable to open database file"):
        book(f"sqlite:///{tmp_path}")


def test_a_file_in_the_folders_place(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(ReservationsUnavailable, match="state"):
        book(f"sqlite:///{tmp_path}/state/lab.db")


def test_a_database_that_breaks_later(tmp_path: Path) -> None:
    ledger = book(f"sqlite:///{tmp_path}/lab.db")
    with sa.create_engine(f"sqlite:///{tmp_path}/lab.db", poolclass=sa.pool.NullPool).begin() as connection:
        connection.execute(sa.text("DROP TABLE reservation"))
    with pytest.raises(ReservationsUnavailable, match="no such table: reservation"):
        ledger.held()


def test_a_book_that_somebody_keeps_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "BUSY_SECONDS", 0.05)
    ledger = book(f"sqlite:///{tmp_path}/lab.db")
    with ledger._transaction(), pytest.raises(ReservationsUnavailable, match="database is locked"):
        ledger.held()
    assert ledger.held() == ()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nonsense", "Could not parse"),
        ("nosuch://x/y", "nosuch"),
        ("postgresql+pg8000://x/y", "driver pg8000 is not installed"),
    ],
)
def test_urls_that_lead_nowhere(url: str, reason: str) -> None:
    with pytest.raises(ReservationsUnavailable, match=reason):
        book(url)


def test_a_server_that_does_not_answer_does_not_get_its_password_told() -> None:
    pytest.importorskip("psycopg", reason="the PostgreSQL driver psycopg is not installed")
    with pytest.raises(ReservationsUnavailable, match=r"refused|failed") as caught:
        SqlLedger("postgresql+psycopg://perfci@127.0.0.1:1/perfci", "lab", [], password="s3cret")
    assert isinstance(caught.value, PerfciError)
    assert "s3cret" not in str(caught.value)
    assert "perfci:***@127.0.0.1:1" in str(caught.value)
