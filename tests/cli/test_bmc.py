"""`perfci lab power` and its kin, from the command line down to simulated BMCs."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import pty
import subprocess
import sys
import termios
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import typer
from simulated_bmcs import PASSWORD, Thread
from typer.testing import CliRunner

from perfci import config
from perfci.cli import lab, lab_calendar, terminal
from perfci.cli.terminal import Escape, attach
from perfci.database.errors import DatabaseUnavailable
from perfci.lab import inventory, people
from perfci.lab.bmc import session as sessions
from perfci.lab.errors import NodesNotReserved
from perfci.lab.health import open_health
from perfci.lab.sql import open_ledger
from perfci.lab.virtual.machine import BootFrom

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

NODES = ("node-0", "node-1", "node-2")
app = typer.Typer()
app.add_typer(lab.app, name="lab")


@pytest.fixture(scope="module")
def rack() -> Iterator[Thread]:
    """Three simulated BMCs; node-2's is in the inventory with a wrong password."""
    with Thread(*NODES).running() as thread:
        yield thread


@pytest.fixture(scope="module")
def project(rack: Thread, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    (root / "playbooks").mkdir()
    embedded = root / "inventory" / "embedded"
    embedded.mkdir(parents=True)
    (embedded / "secret").write_text(PASSWORD)
    hosts = {
        node: {"bmc_address": one.target.address, "bmc_port": one.target.port}
        for node, one in rack.bmcs.items()
    }
    hosts["node-1"] |= {"pdu_outlet": "1", "pdu_command": f"touch {root}/cut-{{outlet}}"}
    hosts["node-2"]["bmc_password"] = "wrong"
    common = {"bmc_username": "perfci", "bmc_password_file": "secret"}
    (embedded / "hosts.yml").write_text(json.dumps({"nodes": {"hosts": hosts, "vars": common}}))
    return root


@pytest.fixture(scope="module")
def read_once():
    # Ansible takes a second to read an inventory; all tests here have the same one.
    return functools.cache(inventory.nodes), functools.cache(inventory.targets)


@pytest.fixture(autouse=True)
def _state(project, rack, read_once, tmp_path, monkeypatch):
    monkeypatch.chdir(project)
    monkeypatch.setenv("PERFCI_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("PERFCI_CONFIG", raising=False)
    nodes, targets = read_once
    monkeypatch.setattr(inventory, "nodes", nodes)
    monkeypatch.setattr(inventory, "targets", lambda folder, names: targets(folder, tuple(names)))
    monkeypatch.setattr(sessions, "RETRY_SECONDS", (0.1, 0.1, 0.2, 0.4))
    for one in rack.bmcs.values():
        one.machine.is_on = False
    yield
    for node in NODES:
        rack.faults(node, hang=False, delay_seconds=0)
    assert rack.sessions() == 0, "no session is left on any BMC"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["lab", *arguments])


def rows(result: Result) -> list[list[str]]:
    return [line.split("\t") for line in result.stdout.splitlines()[1:]]


def test_power_and_what_becomes_of_it(rack):
    on = run("power", "on", "node-0", "node-1")
    assert on.exit_code == 0, on.output
    assert [(row[0], row[1], row[4]) for row in rows(on)] == [
        ("node-0", "on", "changed"),
        ("node-1", "on", "changed"),
    ]
    assert [rack.bmcs[node].machine.is_on for node in NODES] == [True, True, False]
    assert [row[4] for row in rows(run("power", "on", "node-0"))] == ["ok"]
    assert [row[1] for row in rows(run("power", "status", "node-0"))] == ["on"]
    run("power", "off", "node-0")
    assert rack.bmcs["node-0"].machine.is_on is False


def test_one_nodes_failure_is_told_beside_the_others_success(rack):
    done = run("power", "on", "--all")
    assert done.exit_code == 3
    assert [row[1] for row in rows(done)] == ["on", "on", ""]
    assert "refuses user 'perfci'" in rows(done)[2][4]
    told = json.loads(run("power", "status", "--all", "--json").stdout)["nodes"]
    assert [told[node]["ok"] for node in NODES] == [True, True, False]
    assert told["node-2"]["error_kind"] == "BmcCredentialsWrong"
    assert PASSWORD not in done.output


def test_boot_order(rack):
    assert run("boot", "network", "node-0", "--uefi").exit_code == 0
    run("power", "cycle", "node-0")
    assert rack.bmcs["node-0"].machine.booted.device is BootFrom.NETWORK
    assert rack.bmcs["node-0"].machine.booted.uefi
    shown = run("boot", "disk", "node-0", "--persistent")
    assert rows(shown)[0][2] == "disk always"
    assert [row[4] for row in rows(run("boot", "disk", "node-0", "--persistent"))] == ["ok"]
    assert rows(run("boot", "default", "node-0"))[0][2] == "default"


def test_operations_are_counted_and_lock_ups_with_them(rack):
    rack.faults("node-0", hang=True)
    failed = run("power", "status", "node-0", "node-1")
    assert failed.exit_code == 3
    assert "does not answer" in failed.stdout
    run("power", "status", "node-1")
    tallies = open_health(config.load()).tallies()
    assert {node: (one.operations, one.lock_ups) for node, one in tallies.items()} == {
        "node-0": (1, 1),
        "node-1": (2, 0),
    }


def test_what_can_not_be_counted_is_told_beside_what_was_done(monkeypatch):
    def broken(_):
        raise DatabaseUnavailable(url="x", reason="the disk is full")

    monkeypatch.setattr("perfci.lab.health.open_health", broken)
    done = run("power", "on", "node-0", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["nodes"]["node-0"]["changed"] is True
    assert "not counted: the database x can't be used: the disk is full" in done.stderr


@pytest.mark.slow
def test_what_nothing_helps_goes_into_quarantine(rack):
    rack.faults("node-0", hang=True)
    given_up = run("power", "on", "node-0", "--recover")
    assert given_up.exit_code == 3
    assert "node-0: quarantine: done, since node-0: the BMC at" in given_up.stderr
    assert [entry.node for entry in open_ledger(config.load()).quarantined()] == ["node-0"]


@pytest.mark.slow
def test_no_look_at_the_power_ever_cuts_it(rack, project):
    assert run("power", "on", "node-1").exit_code == 0
    rack.faults("node-1", hang=True)
    for order in ("status", "on"):
        looked = run("power", order, "node-1", "--recover", *(["--force"] if order == "status" else []))
        assert looked.exit_code == 3
        assert "`perfci lab power cycle node-1 --recover` cuts them if nothing else helps" in looked.stderr
    assert rack.bmcs["node-1"].machine.is_on
    assert not (project / "cut-1").exists()
    assert open_ledger(config.load()).quarantined() == ()
    rack.faults("node-1", hang=False)


def test_what_others_hold_is_left_alone_unless_forced(rack):
    until = datetime.now(UTC) + timedelta(hours=1)
    ledger = open_ledger(config.load())
    ledger.reserve(nodes=frozenset({"node-0"}), holder="ann", purpose="tuning", until=until)
    ledger.reserve(nodes=frozenset({"node-1"}), holder=people.me(), purpose="mine", until=until)
    for command in (("power", "off", "--all"), ("boot", "network", "node-0")):
        refused = run(*command)
        assert refused.exit_code == 3
        assert "node-0: held by ann (tuning)" in refused.stderr
        assert "docs/errors.md#nodeheld" in refused.stderr
    assert run("power", "status", "node-0").exit_code == 0
    assert run("power", "on", "node-1").exit_code == 0
    assert run("power", "on", "node-0", "--force").exit_code == 0
    assert rack.bmcs["node-0"].machine.is_on

    history = json.loads(run("history", "--node", "node-0", "--json").stdout)["events"]
    assert [(one["action"], one["detail"]) for one in history] == [
        ("forced", "power on, though ann holds it")
    ]


def test_who_is_no_admin_gives_orders_to_nodes_that_they_have_alone(rack, monkeypatch):
    monkeypatch.setattr(lab_calendar, "os", SimpleNamespace(getuid=lambda: 65533))
    monkeypatch.setattr(terminal, "need_terminal", lambda: None)
    ledger, me = open_ledger(config.load()), people.me()
    until = datetime.now(UTC) + timedelta(hours=1)
    ledger.reserve(nodes=frozenset({"node-1"}), holder="ann", purpose="tuning", until=until)
    mine = ledger.reserve(nodes=frozenset({"node-0"}), holder=me, purpose="mine", until=until)
    assert run("power", "on", "node-0").exit_code == 0
    for command in (("power", "on", "node-1", "--force"), ("console", "node-1")):
        refused = run(*command)
        assert refused.exit_code == 4, command
        assert "docs/errors.md#adminsonly" in refused.stderr
    assert run("power", "status", "node-1").exit_code == 0
    ledger.release(mine.id)
    for command in (("power", "off", "node-0"), ("boot", "network", "node-0"), ("console", "node-0")):
        refused = run(*command)
        assert refused.exit_code == 4, command
        assert "docs/errors.md#nodesnotreserved" in refused.stderr
    assert rack.bmcs["node-0"].machine.is_on, "access ends with the reservation"


def done_to(*of: str) -> list[tuple[str, ...]]:
    """Who did what, by the history of a reservation or of a node."""
    told = json.loads(run("history", *of, "--json").stdout)["events"]
    return [(one["actor"], one["action"], one["detail"]) for one in told]


def test_a_reservation_is_all_of_its_nodes_and_its_history_says_who_switched_them(rack, monkeypatch):
    monkeypatch.setattr(lab_calendar, "os", SimpleNamespace(getuid=lambda: 65533))
    monkeypatch.setattr(terminal, "need_terminal", lambda: None)
    ledger, me = open_ledger(config.load()), people.me()
    until = datetime.now(UTC) + timedelta(hours=1)
    mine = ledger.reserve(nodes=frozenset({"node-0", "node-1"}), holder=me, purpose="mine", until=until)
    assert [row[:2] for row in rows(run("power", "on", mine.id))] == [["node-0", "on"], ["node-1", "on"]]
    assert [row[:2] for row in rows(run("power", "status", mine.id, "node-0"))] == [
        ["node-0", "on"],
        ["node-1", "on"],
    ]
    assert run("boot", "network", mine.id).exit_code == 0
    which = run("console", mine.id, "--json")
    assert json.loads(which.stdout)["error"] == "ChoiceUnclear"
    assert "node-0, node-1" in which.stdout
    other = run("console", mine.id, "node-2", "--json")
    assert json.loads(other.stdout)["error"] == "NodeNotHeld"
    # The simulated BMC has no serial port: it is asked for one, and refuses.
    assert "refuses to open the console" in run("console", mine.id, "node-1").stderr
    assert done_to(mine.id)[1:] == [
        (me, "power on", "node-0, node-1"),
        (me, "boot network", "node-0, node-1"),
        (me, "console", "node-1"),
    ]
    assert done_to("--node", "node-0") == [(me, "ordered", "power on"), (me, "ordered", "boot network")]
    assert json.loads(run("node", "health", "node-0", "--json").stdout)["operations"] == 0


@pytest.mark.parametrize(
    "command",
    [("power", "off"), ("power", "status"), ("power", "off", "--force"), ("boot", "disk"), ("console",)],
)
def test_somebody_elses_reservation_takes_no_orders(rack, monkeypatch, command):
    monkeypatch.setattr(lab_calendar, "os", SimpleNamespace(getuid=lambda: 65533))
    monkeypatch.setattr(terminal, "need_terminal", lambda: None)
    until = datetime.now(UTC) + timedelta(hours=1)
    ledger = open_ledger(config.load())
    hers = ledger.reserve(nodes=frozenset({"node-1"}), holder="ann", purpose="tuning", until=until)
    refused = run(*command, hers.id)
    assert refused.exit_code == 4
    assert "docs/errors.md#notyours" in refused.stderr
    assert len(done_to(hers.id)) == 1
    assert done_to("--node", "node-1") == []


def test_an_admin_orders_somebody_elses_reservation_by_force_and_its_holder_can_see_that(rack):
    until = datetime.now(UTC) + timedelta(hours=1)
    ledger = open_ledger(config.load())
    hers = ledger.reserve(nodes=frozenset({"node-1"}), holder="ann", purpose="tuning", until=until)
    assert run("power", "on", hers.id).exit_code == 3
    assert run("power", "on", hers.id, "--force").exit_code == 0
    assert done_to(hers.id)[1:] == [(people.me(), "power on", "node-1")]
    assert done_to("--node", "node-1") == [(people.me(), "forced", "power on, though ann holds it")]


def test_a_reservation_gives_orders_from_its_begin_to_its_end(rack):
    """Before and after it, its nodes are somebody else's."""
    later = json.loads(run("reserve", "--node", "node-0", "--for", "1h", "--from", "+2h", "--json").stdout)
    for order in ("on", "status"):
        refused = run("power", order, later["id"])
        assert refused.exit_code == 3
        assert "docs/errors.md#notready" in refused.stderr
    run("release", later["id"])
    assert "docs/errors.md#reservationover" in run("power", "on", later["id"]).stderr
    assert not rack.bmcs["node-0"].machine.is_on


def test_what_a_run_of_mine_holds_is_left_alone_too(rack):
    until = datetime.now(UTC) + timedelta(hours=1)
    with open_ledger(config.load()).lease(nodes=1, holder=people.me(), purpose="x", until=until):
        assert run("power", "off", "node-0").exit_code == 3


def test_identify_sensors_and_events(rack):
    assert rows(run("identify", "node-0", "--seconds", "30")) == [["node-0", "on for 30 s"]]
    assert rows(run("identify", "node-0", "--off")) == [["node-0", "off"]]
    assert all(row[0] == "node-0" for row in rows(run("sensors", "node-0")))
    run("power", "cycle", "node-0")
    assert rows(run("events", "node-0"))
    told = run("sensors", "--all", "--json")
    assert told.exit_code == 3
    document = json.loads(told.stdout)
    assert set(document["nodes"]) == {"node-0", "node-1"}
    assert document["errors"]["node-2"]["error"] == "BmcCredentialsWrong"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("power", "on"), "ChoiceUnclear"),
        (("power", "on", "node-0", "--all"), "ChoiceUnclear"),
        (("power", "on", "none"), "NodesUnknown"),
        (("sensors",), "ChoiceUnclear"),
        (("console", "node-0"), "ConsoleNeedsTerminal"),
    ],
)
def test_what_was_typed_wrong(arguments, error):
    result = run(*arguments, "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"] == error


@pytest.mark.slow
def test_a_console_in_a_terminal(project, rack, tmp_path):
    """A real terminal, a real process: what is shown, and the way out."""
    # The simulated BMC has no serial port: the terminal is put back, and the refusal told.
    environment = {**os.environ, "PERFCI_STATE_DIR": str(tmp_path), "TERM": "dumb"}
    leader, follower = pty.openpty()
    program = "import sys; from perfci.cli.main import app; app()"
    with subprocess.Popen(
        [sys.executable, "-c", program, "lab", "console", "node-0"],
        cwd=project,
        env=environment,
        stdin=follower,
        stdout=follower,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        _, stderr = process.communicate(timeout=60)
    os.close(leader)
    os.close(follower)
    assert process.returncode == 3
    assert "refuses to open the console" in stderr


class Line:
    """A console that prints what is typed, in capitals."""

    def __init__(self):
        self.printed = asyncio.Queue()
        self.typed = b""

    async def read(self):
        return await self.printed.get()

    async def write(self, data):
        self.typed += data
        if data:
            self.printed.put_nowait(data.upper())


@pytest.mark.parametrize("end", ["escape", "console", "reservation"])
def test_a_terminal_is_connected_and_put_back_as_it_was(end):
    leader, follower = pty.openpty()
    line = Line()
    before = termios.tcgetattr(follower)

    async def scenario():
        lost = asyncio.Event()

        async def until_lost():
            await lost.wait()
            raise NodesNotReserved(nodes="node-0", actor="ann")

        attached = asyncio.create_task(attach(line, follower, follower, until_lost))
        while termios.tcgetattr(follower)[3] & termios.ICANON:  # noqa: ASYNC110  (the terminal tells nobody)
            await asyncio.sleep(0.01)
        os.write(leader, b"ls\x03\r")
        shown = b""
        while len(shown) < 4:
            shown += await asyncio.to_thread(os.read, leader, 100)
        if end == "escape":
            os.write(leader, b"~.")
        elif end == "console":
            line.printed.put_nowait(b"")
        else:
            lost.set()
            with pytest.raises(NodesNotReserved):
                await attached
            return shown
        await attached
        return shown

    assert asyncio.run(scenario()) == b"LS\x03\r"
    assert line.typed == b"ls\x03\r"
    assert termios.tcgetattr(follower) == before
    os.close(leader)
    os.close(follower)


@pytest.mark.parametrize(
    ("typed", "passed", "over"),
    [
        ([b"ls\r"], b"ls\r", False),
        ([b"~."], b"", True),
        ([b"x~."], b"x~.", False),
        ([b"x\r~.y"], b"x\r", True),
        ([b"\r", b"~", b"."], b"\r", True),
        ([b"~~."], b"~.", False),
        ([b"~a~."], b"~a~.", False),
    ],
)
def test_the_way_out_of_a_console(typed, passed, over):
    escape = Escape()
    assert b"".join(escape.typed(part) for part in typed) == passed
    assert escape.over is over
