"""People's SSH keys on the machines of a reservation: put there before they are ready, changed, and gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from programs import needs

from perfci import config
from perfci.database.engine import Database
from perfci.lab.model import Node
from perfci.lab.reservations.model import Actor, BookingState, NodeWish, Request
from perfci.lab.reservations.service import Reservations
from perfci.runs.ansible.playbook import PlaybookFailed, Playbooks
from perfci.runs.tick.prepare import let_in, work_on
from perfci.runs.tick.tick import tick

PROJECT = Path(__file__).parents[3]
NODES = (Node("node-1", has_bmc=True), Node("node-2", has_bmc=True))
ANN = Actor("ann")
ANNS, BOBS = (f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{letter * 43} {letter}" for letter in "AB")


@pytest.fixture
def settings(project):
    environ = {"PERFCI_ROOT_DIR": str(project.root), "PERFCI_STATE_DIR": str(project.state)}
    return config.load(environ=environ)


@pytest.fixture
def lab(settings):
    return Reservations(Database(settings.database_url), "embedded", NODES)


@pytest.fixture
def played(monkeypatch):
    """Which playbooks ran, each with its variables; one that is in `refusing` fails on node-1."""
    ran = []

    def run(_, name, *, variables, **__):
        ran.append((name, variables))
        if name in refusing and "node-1" in variables["provision_nodes"]:
            raise PlaybookFailed(playbook=name, where="a task on node-1", detail="node-1: no room", log="x")

    refusing = set()
    monkeypatch.setattr(Playbooks, "run", run)
    ran_names = lambda: [name for name, _ in ran]  # noqa: E731
    return ran, refusing, ran_names


def started(settings, lab):
    words = []
    assert tick(settings, reservations=lab, spawn=words.append).problems == []
    return words


def test_keys_are_on_machines_before_they_are_ready_and_change_with_their_holder(settings, lab, played):
    ran, refusing, names = played
    made = lab.reserve(Request(NodeWish(2), 3600, "x", keys=(ANNS,)), ANN)
    assert work_on(settings, lab, NODES, made.id, "one").state is BookingState.READY
    assert names() == ["supplies", "provision", "login", "check"]
    assert ran[2][1]["login_keys"] == [ANNS]
    assert ran[2][1]["provision_nodes"] == "node-1,node-2"
    assert started(settings, lab) == []

    lab.transfer(made.id, "bob", ANN, keys=[BOBS])
    assert started(settings, lab) == [["tick", "--login", made.id]]
    refusing.add("login")
    assert list(let_in(settings, lab, NODES, made.id, "one")) == ["node-1"]
    assert ran[-1][1]["login_keys"] == [BOBS]
    assert started(settings, lab) == [], "perfci reports what failed and does not try it for ever"
    told = lab.history(reservation_id=made.id)[-1].detail
    assert (told.startswith("on node-2; "), "no room" in told) == (True, True)

    refusing.clear()
    lab.admit(made.id, [], Actor("bob"))
    assert let_in(settings, lab, NODES, made.id, "one") == {}
    assert (names()[-1], ran[-1][1]["login_keys"]) == ("login", [])
    assert started(settings, lab) == []


def test_a_machine_on_which_the_keys_can_not_be_put_is_not_ready(settings, lab, played):
    _, refusing, names = played
    refusing.add("login")
    made = lab.reserve(Request(NodeWish(1), 3600, "x", keys=(ANNS,)), ANN)
    work_on(settings, lab, NODES, made.id, "one")
    assert lab.show(made.id).nodes == ("node-2",)
    assert names() == ["supplies", "provision", "login"] * 2 + ["check"]
    assert lab.show(made.id).state is BookingState.READY


def test_without_keys_there_is_no_such_playbook(settings, lab, played):
    made = lab.reserve(Request(NodeWish(1), 3600, "x"), ANN)
    work_on(settings, lab, NODES, made.id, "one")
    assert played[2]() == ["supplies", "provision", "check"]


def keys_in(file):
    return [line for line in file.read_text().splitlines() if not line.startswith("#")]


@needs("ssh-keygen")
def test_the_playbook_writes_whole_files_that_ssh_can_read(tmp_path):
    """The real playbook, on this machine in another folder."""
    folder = tmp_path / "ssh"
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(
        "nodes: {hosts: {here: {ansible_connection: local, ansible_python_interpreter: "
        f"{sys.executable}}}}}}}\n"
    )

    def play(*keys):
        lines = ", ".join(f'"{key}"' for key in keys)
        command = ["ansible-playbook", "-i", inventory, PROJECT / "playbooks" / "login.yml"]
        command += ["-e", f"login_folder={folder}"]
        command += ["-e", f'{{"login_keys": [{lines}]}}'] if keys else []
        environment = {
            **os.environ,
            "ANSIBLE_HOME": str(tmp_path / "ansible"),
            "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        }
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout

    play(ANNS, BOBS)
    file = folder / "authorized_keys2"
    assert keys_in(file) == [ANNS, BOBS]
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    said = subprocess.run(["ssh-keygen", "-lf", file], check=True, capture_output=True, text=True).stdout
    assert [line.split()[2] for line in said.splitlines()] == ["A", "B"]
    play(BOBS)
    assert keys_in(file) == [BOBS]
    play()
    assert keys_in(file) == []
