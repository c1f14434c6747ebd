"""A look at nodes: what counts as work, what can't be read, and what ticks do with it."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from virtual_labs import PROJECT

from perfci import config
from perfci.database.engine import Database
from perfci.lab.model import Node
from perfci.lab.reservations.model import Actor, BookingState, NodeWish, Request
from perfci.lab.reservations.service import Reservations
from perfci.runs.tick.look import look_at, works
from perfci.runs.tick.node_playbooks import folder_of
from perfci.runs.tick.prepare import work_on
from perfci.runs.tick.tick import tick

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
NODES = (Node("a", has_bmc=True, in_cloud=True), Node("b", has_bmc=True, in_cloud=True))
IDLE = "now 10000\ncores 4\nload 0.12\nterminal 100\n"


@pytest.mark.parametrize(
    ("text", "work"),
    [
        (IDLE, False),
        ("now 10000\ncores 4\nload 0.12\n", False),
        ("now 10000\ncores 4\nload 0.12\nterminal 100\nterminal 9500\n", True),
        ("now 10000\ncores 4\nload 0.41\n", True),
        ("", True),
        ("now 10000\ncores 4\n", True),
        ("now 1\nnow 2\ncores 4\nload 0\n", True),
        ("sh: nproc: not found\n", True),
        ("\x00\xff", True),
    ],
)
def test_what_counts_as_work(text, work):
    assert works(text) is work


def test_what_the_playbook_says_can_be_read():
    (play,) = yaml.safe_load((PROJECT / "playbooks" / "activity.yml").read_text())
    command = play["tasks"][0]["ansible.builtin.command"]["argv"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert {"now", "cores", "load"} <= {line.split()[0] for line in said.splitlines()}
    works(said)


class Lab:
    def __init__(self, settings):
        self.settings, self.now = settings, START
        self.service = Reservations(
            Database(settings.database_url), "embedded", NODES, clock=lambda: self.now
        )

    def tick(self):
        started = []
        report = tick(self.settings, reservations=self.service, spawn=started.append)
        assert report.problems == []
        return started

    def look(self, name, text, failed=()):
        def play(playbook, names, reason):
            assert playbook == "activity"
            for node in names:
                if node not in failed:
                    (folder_of(self.settings, name) / "activity" / node).write_text(text)
            return dict.fromkeys(failed, "unreachable")

        return look_at(self.settings, self.service, NODES, name, "one", play=play)


@pytest.fixture
def lab(project):
    environ = {
        "PERFCI_ROOT_DIR": str(project.root),
        "PERFCI_STATE_DIR": str(project.state),
        "PERFCI_RESERVATIONS__IDLE_HOURS": "1",
        "PERFCI_RESERVATIONS__IDLE_END_HOURS": "2",
    }
    return Lab(config.load(environ=environ))


def ready(lab):
    made = lab.service.reserve(Request(NodeWish(2), 86400, "x", contact="ann@example.org"), Actor("ann"))
    work_on(lab.settings, lab.service, NODES, made.id, "one", play=lambda *_: {})
    return made.id


def test_idle_machines_are_warned_of_once_and_taken_back(lab):
    name = ready(lab)
    looks = 0
    while lab.service.show(name).state is BookingState.READY:
        looks += ["tick", "--look", name] in lab.tick()
        lab.now += timedelta(minutes=10)
        assert lab.look(name, IDLE) is False
        assert looks < 30
    lab.tick()
    assert lab.service.show(name).released_at - START == timedelta(hours=2)
    with Database(lab.settings.database_url).reading() as connection:
        letters = connection.exec_driver_sql("SELECT id FROM letter ORDER BY queued_at, id").scalars().all()
    kinds = [one.split("-")[2] for one in letters]
    assert kinds == ["ready", "idle", "ended"]


def test_a_node_that_can_not_be_seen_counts_as_used(lab):
    name = ready(lab)
    lab.now += timedelta(minutes=10)
    assert lab.look(name, IDLE, failed=("b",)) is True
    assert lab.look(name, IDLE) is False


def test_no_look_without_a_policy(lab):
    ready(lab)
    lab.settings = lab.settings.model_copy(
        update={
            "reservations": config.load(
                environ={"PERFCI_STATE_DIR": str(lab.settings.state_dir)}
            ).reservations
        }
    )
    assert lab.tick() == []
