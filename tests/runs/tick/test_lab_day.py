"""A day of a lab: two people and a nightly job share four machines, and one of these breaks.

Everything is real but the machines and the clock: commands, ticks, Ansible, the night, the database, the mail
server. Playbooks are tiny; that of provisioning fails on the node that is broken.
"""

from __future__ import annotations

import email
import json
import socket
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email import policy
from types import SimpleNamespace

import pytest
from aiosmtpd.controller import Controller
from moved_clock import MovedClock
from typer.testing import CliRunner

from perfci.cli import lab_calendar
from perfci.cli.main import app
from perfci.lab import people
from perfci.runs.state import background
from perfci.runs.tick import tick as ticks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ANN, BOB, ADMIN = ("ann", 2001), ("bob", 2002), ("admin", 0)
JOB = """name: nightly
nodes: 2
schedule: {at: "22:00", every: day, time_zone: UTC}
limits: {provision: 600, deploy: 600, hammer: 600}
mail: {to: [night@example.org]}
scenarios:
  - {task: ports, times: 4, warmup: 2}
"""
SETTINGS = """[reservations]
admins = ["admin"]
nodes_per_person = 3

[mail]
transport = "smtp"
admins = ["admins@example.org"]

[mail.smtp]
host = "127.0.0.1"
port = {port}
"""
HOST = "{bmc_address: 192.0.2.%d, ansible_connection: local, ansible_python_interpreter: '{{ ansible_playbook_python }}'}"
INVENTORY = """all:
  children:
    controller: {hosts: {controller: {ansible_connection: local, ansible_python_interpreter: '{{ ansible_playbook_python }}'}}}
    nodes:
      hosts:
%s
    cloud: {hosts: {node-1: , node-2: , node-3: , node-4: }}
"""


class Mailbox:
    """A mail server that keeps what it gets."""

    def __init__(self):
        self.told = []
        self.mails = []

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        message = email.message_from_bytes(envelope.content, policy=policy.default)
        subject = message["Subject"]
        self.mails.append((envelope.rcpt_tos[0], subject, message.get_body(("plain",)).get_content()))
        self.told += [(to.partition("@")[0], subject.removeprefix("[day] ")) for to in envelope.rcpt_tos]
        return "250 OK"


class Day:
    """The lab, seen from the command line."""

    def __init__(self, project, monkeypatch, clock):
        self.project, self.clock = project, clock
        self._monkeypatch = monkeypatch
        self._background = []
        for module in (background, ticks):
            monkeypatch.setattr(module, "in_background", lambda _: self._background.append)

    def __call__(self, who, *words, code=0, text=False):
        """Run a command as somebody; what it starts in the background has ended when this returns."""
        self._be(who)
        done = CliRunner().invoke(app, [*words, *(() if text else ("--json",))])
        if done.exit_code != code:
            pytest.fail(f"{words}: exit code {done.exit_code}\n{done.output}\n{done.exception!r}")
        while self._background:
            self._be(ADMIN)
            inner = CliRunner().invoke(app, self._background.pop(0))
            assert inner.exit_code in {0, 1}, (inner.output, inner.exception)
        return done.output if text else json.loads(done.stdout)

    def tick(self, hours):
        """Let it be so many hours after midnight, and tick."""
        self.clock.move_to(DAY + timedelta(hours=hours))
        return self(ADMIN, "tick")

    def states(self):
        return {one["name"]: one["state"] for one in self(ADMIN, "lab", "nodes")["nodes"]}

    def reservation(self, made):
        return self(ADMIN, "lab", "show", made["id"])

    def _be(self, who):
        name, number = who
        self._monkeypatch.setattr(people, "me", lambda: name)
        self._monkeypatch.setattr(lab_calendar, "os", SimpleNamespace(getuid=lambda: number))


def free_port():
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


DAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


@pytest.fixture
def mailbox():
    kept = Mailbox()
    controller = Controller(kept, hostname="127.0.0.1", port=free_port())
    controller.start()
    kept.port = controller.port
    yield kept
    controller.stop()


@pytest.fixture
def day(project, mailbox, monkeypatch):
    hosts = "\n".join(f"        node-{number}: {HOST % number}" for number in range(1, 5))
    folder = project.root / "inventory" / "day"
    folder.mkdir()
    (folder / "hosts.yml").write_text(INVENTORY % hosts)
    (project.root / "jobs" / "nightly.yml").write_text(JOB)
    (project.root / "jobs" / "tasks" / "ports.yml.j2").write_text("{}\n")
    for name in ("check", "access"):
        project.playbook(name)
    broken = project.root / "broken"
    project.playbook(
        "provision",
        f"ansible.builtin.fail: {{msg: 'deploy: no DHCP'}}\n"
        f"when: inventory_hostname == lookup('ansible.builtin.file', '{broken}', errors='ignore')",
    )
    settings = project.root / "perfci.toml"
    settings.write_text(SETTINGS.format(port=mailbox.port))
    monkeypatch.chdir(project.root)
    for name, value in {
        "PERFCI_CONFIG": settings,
        "PERFCI_ROOT_DIR": project.root,
        "PERFCI_STATE_DIR": project.state,
        "PERFCI_LAB": "day",
    }.items():
        monkeypatch.setenv(name, str(value))
    lab = Day(project, monkeypatch, MovedClock(monkeypatch, DAY + timedelta(hours=8)))
    lab.broken = broken
    return lab


def test_two_people_and_a_night_share_four_machines(day, mailbox):  # noqa: PLR0915 - a day is one story
    day.broken.write_text("node-2")
    assert len(day.tick(8)["planned"]) == 14, "two weeks of nights are in the calendar"

    # Ann gets two machines. perfci replaces the one that does not come up, and writes to her.
    ann = day(
        ANN,
        "lab",
        "reserve",
        "--nodes",
        "2",
        "--for",
        "6h",
        "--mail",
        "ann@example.org",
        "--reason",
        "tuning",
    )
    assert (ann["state"], ann["nodes"]) == ("preparing", ["node-1", "node-2"])
    ann = day.reservation(ann)
    assert (ann["state"], ann["nodes"]) == ("ready", ["node-1", "node-3"])
    assert day(ANN, "lab", "reserve", "--nodes", "2", "--for", "1h", code=3)["error"] == "ReservationLimit"

    # Bob wants two as well. node-2 fails again, which is enough. He waits, and a mail says when and why.
    day.tick(9)
    bob = day(BOB, "lab", "reserve", "--nodes", "2", "--for", "4h", "--queue", "--mail", "bob@example.org")
    assert day.states() == {"node-1": "held", "node-2": "quarantined", "node-3": "held", "node-4": "free"}
    bob = day.reservation(bob)
    assert (bob["state"], bob["starts_at"]) == ("waiting", ann["ends_at"])
    assert [one["id"] for one in day(BOB, "lab", "why", bob["id"])["before"]] == [ann["id"]]
    day.tick(9.1)
    assert ("admins", "In quarantine: node-2") in mailbox.told

    # Nobody takes another's nodes, and nothing hands out a machine that is broken.
    assert day(BOB, "lab", "release", ann["id"], code=4)["error"] == "NotYours"
    assert day(BOB, "lab", "node", "restore", "node-2", code=4)["error"] == "AdminsOnly"
    assert day(BOB, "lab", "find", "--node", "node-2", "--for", "1h", code=5)["error"] == "NodesUnhealthy"
    assert day(ADMIN, "lab", "node", "restore", "node-2", code=5)["error"] == "NoCanary"

    # Ann hears of the end, gives one node back early, and Bob moves up.
    day.tick(13.1)
    day.tick(13.2)
    day(ANN, "lab", "release", ann["id"], "node-3")
    day.tick(13.3)
    bob = day.reservation(bob)
    assert (bob["state"], bob["nodes"]) == ("ready", ["node-3", "node-4"])
    assert day(BOB, "lab", "env", bob["id"])["PERFCI_NODES"] == "node-3 node-4"

    # Her time is over: the machine is taken back, and hers no more.
    day.tick(14.1)
    assert day.reservation(ann)["state"] == "over"
    assert day(ANN, "lab", "ssh", ann["id"], code=3)["error"] == "NotReady"
    assert day(ANN, "lab", "extend", ann["id"], "--for", "1h", code=3)["error"] == "ReservationOver"
    assert day.states()["node-1"] == "free"

    # Bob's time would reach into the night if he made it so: the night keeps its window.
    refused = day(BOB, "lab", "extend", bob["id"], "--for", "10h", code=3)
    assert refused["error"] == "NoSuchSlot"
    day(BOB, "lab", "release", bob["id"])
    assert day.reservation(bob)["state"] == "over"

    # The night reserves before it touches a node, and gives back though its hammer fails.
    day.project.playbook("hammer", "ansible.builtin.fail: {msg: 'rally is gone'}")
    (day.project.root / "trace").unlink()
    (night,) = day.tick(22.02)["nights"]
    night = day(ADMIN, "lab", "show", night)
    lived = [one["action"] for one in night["events"] if one["action"] not in {"planned", "moved", "swapped"}]
    assert lived == ["preparing", "ready", "released"]
    assert (night["state"], night["nodes"]) == ("over", ["node-1", "node-3"])
    assert "node-2" not in night["nodes"]
    trace = day.project.trace()
    assert trace.index("provision") < trace.index("hammer") < trace.index("teardown") < trace.index("reclaim")
    assert [one["status"] for one in day(ADMIN, "run", "list")] == ["failed"]

    # The admin mends the node: a canary passes, and it is given out again.
    day.broken.unlink()
    day(ADMIN, "lab", "node", "check", "node-2")
    day(ADMIN, "lab", "node", "restore", "node-2")
    day.tick(23)
    assert set(day.states().values()) == {"free"}

    told = dict.fromkeys(name for name, _ in mailbox.told)
    for name in told:
        told[name] = [subject for to, subject in mailbox.told if to == name]
    assert told["ann"] == [
        f"Ready: node-1, node-3 ({ann['id']})",
        f"Reservation {ann['id']} has another node",
        f"Ends soon: node-1, node-3 ({ann['id']})",
        f"Ended: node-1 ({ann['id']})",
    ]
    assert told["bob"][-1] == f"Ended: node-3, node-4 ({bob['id']})"
    assert not [subject for subject in told.get("night", ()) if "another node" in subject]
    assert len(set(mailbox.mails)) == len(mailbox.mails), "nobody gets a mail twice"
