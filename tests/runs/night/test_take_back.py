"""What killed nights and trials left on is taken back once, by whatever comes first: a tick, or the next run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from recorded_playbooks import Recorded

from perfci import config
from perfci.lab import inventory
from perfci.lab.reservations.model import BookingState
from perfci.lab.reservations.service import open_reservations
from perfci.runs.jobs.load import load_job
from perfci.runs.night import take_back
from perfci.runs.night.assemble import night
from perfci.runs.night.systems import KeptMachines, System
from perfci.runs.state.progress import Silent
from perfci.runs.state.state_folder import StateFolder
from perfci.runs.state.switched_on import switched_on
from perfci.runs.tick.prepare import work_on
from perfci.runs.tick.tick import tick

NODES = ("node-1", "node-2", "node-3")
KILLED = """
import os, signal, sys
from datetime import timedelta
from pathlib import Path
from perfci import config
from perfci.lab.sql import open_ledger
from perfci.runs.night.systems import KeptMachines, System
from perfci.runs.state.run_folder import utc_now
from perfci.runs.state.state_folder import StateFolder

settings = config.load()
if sys.argv[1] == "trial":  # between two of its runs nobody holds the machines
    KeptMachines(state=StateFolder(settings.state_dir)).keep(sys.argv[2:], System("r1", 1), "r1")
else:
    lease = open_ledger(settings).lease(
        nodes=frozenset(sys.argv[2:]), holder="x", purpose="run r1", until=utc_now() + timedelta(hours=9)
    )
    lease.__enter__()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def environ(tmp_path):
    for folder in ("playbooks", "inventory/embedded", "jobs/tasks"):
        (tmp_path / folder).mkdir(parents=True)
    hosts = {name: {"bmc_address": f"192.0.2.{place}"} for place, name in enumerate(NODES, 1)}
    (tmp_path / "inventory/embedded/hosts.yml").write_text(json.dumps({"cloud": {"hosts": hosts}}))
    (tmp_path / "jobs/tiny.yml").write_text(
        "name: tiny\nscenarios:\n  - {task: ports, times: 4, warmup: 2}\n"
    )
    (tmp_path / "jobs/tasks/ports.yml.j2").write_text("{}\n")
    return {
        "PERFCI_ROOT_DIR": str(tmp_path),
        "PERFCI_STATE_DIR": str(tmp_path / "state"),
        "PERFCI_INFLUX__URL": "http://127.0.0.1:9",
    }


@pytest.fixture
def settings(environ):
    return config.load(environ=environ)


@pytest.fixture
def played(monkeypatch):
    return Recorded().install(monkeypatch)


@pytest.fixture
def started(monkeypatch):
    """The commands that were started in the background."""
    words = []
    monkeypatch.setattr(take_back, "in_background", lambda _: words.append)
    return words


def killed(environ, what, *nodes):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, what, *nodes], env={**os.environ, **environ}, check=False
    )
    assert done.returncode == -signal.SIGKILL


def ticked(settings, lab):
    words = []
    assert tick(settings, reservations=lab, spawn=words.append).problems == []
    return words


@pytest.mark.parametrize("what", ["night", "trial"])
def test_a_tick_takes_back_once_what_was_left_on(environ, settings, played, what):
    killed(environ, what, "node-1", "node-3")
    lab = open_reservations(settings)
    ((*order, reservation),) = ticked(settings, lab)
    assert order == ["tick", "--work"]
    done = work_on(settings, lab, inventory.nodes(settings.inventory_dir), reservation, "one")
    assert done.state is BookingState.OVER
    assert played.played == ["reclaim"]
    assert played.given["provision_nodes"] == "node-1,node-3"
    assert ticked(settings, lab) == []
    assert not StateFolder(settings.state_dir).switched_on.exists()


def test_a_trial_that_lives_keeps_its_machines(settings, played):
    state, lab = StateFolder(settings.state_dir), open_reservations(settings)
    kept = KeptMachines(state=state)
    kept.keep(NODES, System("r1", 1), "r1")
    assert ticked(settings, lab) == []
    kept.forget(NODES[1:])
    assert json.loads(state.switched_on.read_text()).keys() == {"node-1"}
    kept.give_up(NODES)
    assert kept.systems == {}
    assert state.switched_on.exists(), "it is on: whoever comes after this process takes it back"
    assert played.played == []


def test_of_a_damaged_file_all_that_can_be_read_is_taken_back(settings, played, caplog):
    file = StateFolder(settings.state_dir).switched_on
    file.parent.mkdir(exist_ok=True)
    for damaged, begun in (("[", 0), ("7", 0), ('{"node-1": 7, "elsewhere": {"run": "r1"}}', 1)):
        file.write_text(damaged)
        assert len(ticked(settings, open_reservations(settings))) == begun
    assert played.played == []
    assert caplog.text.count("can't say which machines are on") == 2
    aside = file.with_name(file.name + ".damaged")
    assert aside.read_text() == "7", "an admin may still read which machines they were"


def test_a_file_that_can_not_be_read_now_is_not_written_over(settings):
    state = StateFolder(settings.state_dir)
    state.switched_on.mkdir(parents=True)  # reading it fails, as of a disk with faults
    with pytest.raises(IsADirectoryError), switched_on(state):
        pytest.fail("it was taken for an empty file")


def test_the_next_run_has_taken_back_what_it_does_not_use_itself(environ, settings, played, started):
    killed(environ, "night", "node-1", "node-2")
    killed(environ, "trial", "node-1", "node-3")
    lab, nodes, beside = open_reservations(settings), inventory.nodes(settings.inventory_dir), []

    def meanwhile(_folder):
        for *order, reservation in started:
            assert order == ["tick", "--work"]
            work_on(settings, lab, nodes, reservation, "one")
            beside.append((played.played[-1], played.given["provision_nodes"]))

    played.instead["provision"] = meanwhile
    outcome = night(load_job("tiny", settings.jobs_dir), settings, holder="x", progress=Silent()).run()
    assert outcome.run.document["nodes"] == ["node-1"]
    assert sorted(beside) == [("reclaim", "node-2"), ("reclaim", "node-3")]
    assert len(started) == 2
    assert ticked(settings, lab) == []
