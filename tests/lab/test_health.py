"""How often BMCs lock up: counted, added up, and forgotten."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from perfci.database.engine import Database
from perfci.lab.bmc.errors import BmcCredentialsWrong, BmcSilent
from perfci.lab.bmc.ladder import Rung, Step
from perfci.lab.bmc.orders import Result
from perfci.lab.health import KEPT_DAYS, MemoryHealth, OperationTally, SqlHealth, write_down
from perfci.lab.ledger import MemoryLedger
from perfci.lab.model import Node

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SILENT = BmcSilent(node="b", address="192.0.2.1", reason="no\nanswer")


class Clock:
    def __init__(self):
        self.now = START

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def health(request, clock, tmp_path):
    if request.param == "memory":
        return MemoryHealth()
    if request.param == "sqlite":
        return SqlHealth(Database(f"sqlite:///{tmp_path}/lab.db"), "lab", clock=clock)
    return SqlHealth(Database(request.getfixturevalue("postgresql")), f"lab-{tmp_path.name}", clock=clock)


def test_tallies_add_up(health):
    assert health.tallies() == {}
    health.count({"a": OperationTally(1, 1), "b": OperationTally(1, 0)})
    health.count({"a": OperationTally(3, 0), "c": OperationTally(1, 0)})
    health.count({})
    assert health.tallies() == {
        "a": OperationTally(4, 1),
        "b": OperationTally(1, 0),
        "c": OperationTally(1, 0),
    }


def test_a_fleet_at_once(health):
    nodes = [f"node-{number}" for number in range(1000)]
    health.count(dict.fromkeys(nodes, OperationTally(1, 0)))
    health.count(dict.fromkeys(nodes, OperationTally(1, 1)))
    assert set(health.tallies().values()) == {OperationTally(2, 1)}


def test_lock_ups_of_100():
    assert OperationTally(150, 3).per_100 == 2.0
    assert OperationTally().per_100 is None


def test_old_days_are_forgotten_and_dropped(clock, tmp_path):
    url = f"sqlite:///{tmp_path}/lab.db"
    health = SqlHealth(Database(url), "lab", clock=clock)
    health.count({"a": OperationTally(1, 1)})
    clock.now = START + timedelta(days=KEPT_DAYS - 1)
    health.count({"a": OperationTally(1, 0)})
    assert health.tallies() == {"a": OperationTally(2, 1)}
    clock.now = START + timedelta(days=KEPT_DAYS)
    assert health.tallies() == {"a": OperationTally(1, 0)}
    health.count({"b": OperationTally(1, 0)})
    with sa.create_engine(url, poolclass=sa.pool.NullPool).connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM bmc_operation_day")) == 2


def test_labs_do_not_see_each_other(tmp_path, clock):
    database = Database(f"sqlite:///{tmp_path}/lab.db")
    SqlHealth(database, "here", clock=clock).count({"a": OperationTally(1, 1)})
    assert SqlHealth(database, "there", clock=clock).tallies() == {}


def result(node, error=None, *rungs):
    return Result(
        node, 1.0, error=error, steps=tuple(Step(node, rung, "x", ok=True, seconds=1.0) for rung in rungs)
    )


def test_results_are_counted_and_hopeless_nodes_put_away():
    health, ledger = MemoryHealth(), MemoryLedger("lab", [Node(name) for name in "abcd"])
    wrong = BmcCredentialsWrong(node="d", address="192.0.2.1", username="x", reason="wrong")
    results = [
        result("a", None, Rung.RETRY),
        result("b", SILENT, Rung.RETRY, Rung.QUARANTINE),
        result("c", None, Rung.RETRY, Rung.WARM_RESET),
        result("d", wrong),
    ]
    write_down(results, health, lambda: ledger)
    assert {node: tally.lock_ups for node, tally in health.tallies().items()} == {
        "a": 0,
        "b": 1,
        "c": 1,
        "d": 0,
    }
    (entry,) = ledger.quarantined()
    assert entry.node == "b"
    assert "no answer" in entry.reason


def test_the_ledger_is_not_opened_where_nothing_is_hopeless():
    write_down([result("a")], MemoryHealth(), lambda: pytest.fail("opened"))
