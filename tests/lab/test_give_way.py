"""Leases that give way: a real process holds nodes, and gives them back when somebody else wants them."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from perfci import config
from perfci.lab.errors import NodesBusy
from perfci.lab.give_way import GIVES_WAY, ask, lease, taken
from perfci.lab.sql import open_ledger

HOLDS = """
import signal, sys
from datetime import UTC, datetime, timedelta
from perfci import config
from perfci.lab.sql import open_ledger

def stop(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGTERM, stop)
ledger = open_ledger(config.load(environ={"PERFCI_STATE_DIR": sys.argv[1]}))
try:
    with ledger.lease(nodes=1, holder="timer", purpose=sys.argv[2], until=datetime.now(UTC) + timedelta(hours=1)):
        print("held", flush=True)
        signal.pause()
except KeyboardInterrupt:
    pass
"""


@pytest.fixture
def ledger(tmp_path):
    return open_ledger(config.load(environ={"PERFCI_STATE_DIR": str(tmp_path)}))


@pytest.fixture
def holding(tmp_path, ledger):
    """Start processes that hold the node for a purpose, and end them."""
    started = []

    def start(purpose):
        one = subprocess.Popen(
            [sys.executable, "-c", HOLDS, str(tmp_path), purpose], stdout=subprocess.PIPE, text=True
        )
        started.append(one)
        assert one.stdout.readline() == "held\n"
        return one

    yield start
    for one in started:
        one.kill()
        one.wait()
        one.stdout.close()


def wish(ledger):
    return ledger.reserve(
        nodes=1, holder="ada", purpose="a run", until=datetime.now(UTC) + timedelta(hours=1)
    )


def test_it_gives_the_nodes_back_to_who_wants_them(ledger, holding):
    process = holding(f"run a bisect{GIVES_WAY}")
    assert taken(lambda: wish(ledger)).holder == "ada"
    assert process.wait(10) == 0


def test_a_lease_waits_likewise(ledger, holding):
    holding(f"run a bisect{GIVES_WAY}")
    until = datetime.now(UTC) + timedelta(hours=1)
    with lease(lambda: ledger.lease(nodes=1, holder="ada", purpose="a run", until=until)) as held:
        assert held.holder == "ada"
    assert ledger.held() == ()


def test_nobody_else_is_asked(ledger, holding):
    process = holding("run nightly")
    with pytest.raises(NodesBusy):
        taken(lambda: wish(ledger))
    assert process.poll() is None


def test_between_two_that_give_way_the_first_keeps_them(ledger, holding):
    process = holding(f"run a bisect{GIVES_WAY}")
    with pytest.raises(NodesBusy):
        taken(lambda: wish(ledger), gives_way=True)
    assert process.poll() is None


def test_a_persons_reservation_with_these_words_has_no_process_to_ask(ledger):
    until = datetime.now(UTC) + timedelta(hours=1)
    ledger.reserve(nodes=1, holder="eve", purpose=f"mine{GIVES_WAY}", until=until)
    with pytest.raises(NodesBusy) as busy:
        wish(ledger)
    assert ask(busy.value) == ()


def test_who_does_not_give_back_in_time_is_told(ledger, holding, monkeypatch):
    monkeypatch.setattr("perfci.lab.give_way.os.kill", lambda *_: None)
    process = holding(f"run a bisect{GIVES_WAY}")
    with pytest.raises(NodesBusy):
        taken(lambda: wish(ledger), seconds=0)
    assert process.poll() is None
