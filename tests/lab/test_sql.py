"""The book in a database: processes that fight for it, processes that are killed, and broken databases."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from perfci.database import engine
from perfci.database.engine import Database
from perfci.database.errors import DatabaseUnavailable
from perfci.lab.model import Node
from perfci.lab.scheduling import EndReason
from perfci.lab.sql import SqlLedger

RIVAL = Path(__file__).with_name("rival.py")
NODES = ("a", "b")
PROCESSES = 8
ROUNDS_EXPECTED = 20


def book(database_url: str) -> SqlLedger:
    return SqlLedger(Database(database_url), "lab", [Node(name) for name in NODES])


def start(database_url: str, seconds: float, log: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(RIVAL), database_url, ",".join(NODES), str(seconds), str(log)]
    return subprocess.Popen(command, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def test_of_many_processes_never_two_hold_one_node(database_url: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    # They make the tables at the same time as well.
    rivals = [start(database_url, 4, log) for _ in range(PROCESSES)]
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
    assert book(database_url).held() == ()


def test_the_lease_of_a_killed_process_is_freed_by_the_next_sweep(database_url: str, tmp_path: Path) -> None:
    ledger = book(database_url)
    with start(database_url, 0, tmp_path / "log") as rival:
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


def test_a_database_that_breaks_later(tmp_path: Path) -> None:
    ledger = book(f"sqlite:///{tmp_path}/lab.db")
    with sa.create_engine(f"sqlite:///{tmp_path}/lab.db", poolclass=sa.pool.NullPool).begin() as connection:
        connection.execute(sa.text("DROP TABLE reservation"))
    with pytest.raises(DatabaseUnavailable, match="no such table: reservation"):
        ledger.held()


def test_a_book_that_somebody_keeps_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BUSY_SECONDS", 0.05)
    ledger, other = (book(f"sqlite:///{tmp_path}/lab.db") for _ in range(2))
    with other._transaction(), pytest.raises(DatabaseUnavailable, match="database is locked"):
        ledger.held()
    assert ledger.held() == ()
