"""The embedded InfluxDB among several users: it runs until the last one leaves, or stays where it was."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from perfci.runs.ansible.embedded_influx import controller_runs, in_use, start_controller, stop_controller
from perfci.runs.ansible.playbook import PlaybookFailed
from perfci.runs.state.processes import reap
from perfci.runs.state.state_folder import StateFolder

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Controller:
    """Stands for the playbook `controller`: starts a process with InfluxDB's mark, unless one runs."""

    state: StateFolder
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, _name: str, *, log: Path, limit_seconds: float, on_step: object) -> None:
        if not controller_runs(self.state):
            marks = {"PERFCI_STATE_DIR": str(self.state.root), "PERFCI_SERVICE": "influxdb"}
            self.started.append(subprocess.Popen(["sleep", "60"], env={**os.environ, **marks}))


@pytest.fixture
def state(tmp_path):
    return StateFolder(tmp_path / "state")


@pytest.fixture
def books(state):
    made = Controller(state)
    yield made
    reap(state.root, grace_seconds=1)
    for process in made.started:
        process.wait()


def test_it_runs_while_it_is_used(state, books):
    with in_use(books, state):
        assert controller_runs(state)
    assert not controller_runs(state)


def test_of_two_users_the_last_one_stops_it(state, books):
    with in_use(books, state):
        with in_use(books, state):
            pass
        assert controller_runs(state), "the other one is still at it"
    assert not controller_runs(state)
    assert len(books.started) == 1


def test_the_one_who_started_it_may_leave_first(state, books):
    first, second = in_use(books, state), in_use(books, state)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert controller_runs(state)
    second.__exit__(None, None, None)
    assert not controller_runs(state)


def test_one_that_was_started_by_hand_stays(state, books):
    start_controller(books, state)
    with in_use(books, state):
        pass
    assert controller_runs(state)
    stop_controller(state)
    assert not controller_runs(state)


def test_one_that_is_started_by_hand_while_it_is_used_stays(state, books):
    with in_use(books, state):
        start_controller(books, state)
    assert controller_runs(state)


def test_what_a_killed_user_left_running_is_stopped_by_the_next_one(state, books):
    code = (
        "import os; from pathlib import Path; from perfci.files import shared;"
        f"shared(Path({str(state.influx_users)!r})).__enter__(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    state.influx_on_demand.touch()
    books.run("controller", log=state.root, limit_seconds=1, on_step=None)
    with in_use(books, state):
        pass
    assert not controller_runs(state)


def test_where_it_does_not_start_nothing_stays_locked(state, books, monkeypatch):
    def fails(*_args: object, **_options: object) -> None:
        raise PlaybookFailed(playbook="controller", where="x", detail="y", log="z")

    with monkeypatch.context() as broken:
        broken.setattr(books, "run", fails)
        with pytest.raises(Exception, match="did not start"), in_use(books, state):
            pass
    with in_use(books, state):
        assert controller_runs(state)
