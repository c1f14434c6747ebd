"""`perfci lab`, from the command line down to a real database and a real inventory."""

from __future__ import annotations

import functools
import itertools
import json
import os
import re
import signal
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING

import icalendar
import pytest
import typer
from typer.testing import CliRunner

from perfci import config
from perfci.cli import lab, lab_run
from perfci.lab import inventory, owners, people
from perfci.lab.errors import NoSuchSlot
from perfci.lab.health import OperationTally, open_health
from perfci.lab.model import Node
from perfci.lab.reservations.model import Actor, BookingState, NodeWish, Request
from perfci.lab.reservations.service import Reservations, open_reservations
from perfci.lab.sql import open_ledger

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

    from perfci.lab.ledger import Ledger
    from perfci.lab.reservations.model import Booking

app = typer.Typer()
app.add_typer(lab.app, name="lab")


# Ansible takes a second to read an inventory; all tests here have the same one.
read_once = functools.cache(inventory.nodes)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one lab of two nodes."""
    root = tmp_path_factory.mktemp("project")
    (root / "playbooks").mkdir()
    embedded = root / "inventory" / "embedded"
    embedded.mkdir(parents=True)
    (embedded / "hosts.yml").write_text("nodes: {hosts: {node-0: {}, node-1: {}}}\n")
    return root


@pytest.fixture(autouse=True)
def _state(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty state folder, with the project as the working folder."""
    monkeypatch.chdir(project)
    monkeypatch.setenv("PERFCI_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("PERFCI_CONFIG", raising=False)
    monkeypatch.setattr(inventory, "nodes", read_once)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["lab", *arguments])


def service() -> Reservations:
    return open_reservations(config.load())


def book() -> Ledger:
    return open_ledger(config.load())


def test_from_free_to_held_to_free() -> None:
    assert [line.split("\t")[:2] for line in run("nodes").stdout.splitlines()[1:]] == [
        ["node-0", "free"],
        ["node-1", "free"],
    ]
    taken = run("reserve", "--for", "4h", "--reason", "tuning neutron")
    assert taken.exit_code == 0
    assert taken.stdout.startswith("node-0: yours until ")
    reservation = taken.stdout.split()[-1]
    row = run("nodes").stdout.splitlines()[1].split("\t")
    assert row[:4] == ["node-0", "held", "4h", people.me()]
    assert (row[5], row[6]) == (reservation, "tuning neutron")
    given_back = run("release", reservation)
    assert given_back.stdout == "node-0: given back (tuning neutron)\n"
    assert book().held() == ()


def test_at_80_columns_reservations_keep_their_reasons_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "bisecting the port list of neutron with many networks"
    run("reserve", "--node", "node-0", "--for", "2d", "--reason", reason)
    run("reserve", "--node", "node-1", "--for", "4h", "--reason", "x")
    in_a_pipe = run("mine").stdout.splitlines()[0]
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    for words in (("mine",), ("calendar",)):
        shown = re.sub(r"\x1b\[[0-9;]*m", "", run(*words).stdout).splitlines()
        assert max(map(len, shown)) <= 80
        assert len(shown) <= 1 + 4 + 2 + 2, shown
        assert "Not shown: for, left; a wider terminal, or a pipe, has them." in shown
    assert in_a_pipe.split("\t")[-3:] == ["for", "left", "reason"]
    told = re.sub(r"\x1b\[[0-9;]*m", "", run("show", service().of(people.me())[0].id).stdout)
    assert "In all rows: of" not in told


def test_json_of_each() -> None:
    taken = json.loads(run("reserve", "--node", "node-1", "--for", "90m", "--reason", "x", "--json").stdout)
    assert taken["nodes"] == ["node-1"]
    start, end = (datetime.fromisoformat(taken[key]) for key in ("starts_at", "ends_at"))
    assert timedelta(minutes=89) < end - start <= timedelta(minutes=90)
    shown = json.loads(run("nodes", "--json").stdout)
    assert shown["lab"] == "embedded"
    never_asked = {"operations": 0, "lock_ups": 0, "lock_ups_per_100": None}
    assert [(one["name"], one["state"], one["reservation"], one["bmc"]) for one in shown["nodes"]] == [
        ("node-0", "free", None, never_asked),
        ("node-1", "held", taken, never_asked),
    ]
    released = json.loads(run("release", "--mine", "--json").stdout)["released"]
    assert [one["id"] for one in released] == [taken["id"]]


def test_what_is_not_free_is_refused_with_the_earliest_time() -> None:
    run("reserve", "--nodes", "2", "--for", "2d", "--reason", "tuning neutron")
    refused = run("reserve", "--for", "1h")
    assert refused.exit_code == 3
    assert "1 node can't be had now. The earliest that works: " in refused.stderr
    assert "--queue" in refused.stderr
    assert "docs/errors.md#nosuchslot" in refused.stderr
    told = json.loads(run("reserve", "--for", "1h", "--json").stdout)
    assert (told["error"], told["slot"]["nodes"]) == ("NoSuchSlot", ["node-0"])
    found = json.loads(run("find", "--for", "1h", "--json").stdout)
    assert found["slots"][0] == told["slot"]


def test_a_place_in_the_queue_and_a_time_to_come() -> None:
    first = json.loads(run("reserve", "--nodes", "2", "--for", "2h", "--json").stdout)
    queued = run("reserve", "--nodes", "2", "--for", "1h30", "--queue")
    assert queued.exit_code == 0
    assert "node-0, node-1: yours from " in queued.stdout
    assert "(1h 30m)" in queued.stdout
    name = queued.stdout.split()[-1]
    why = run("why", name)
    assert first["id"] in why.stdout
    booked = json.loads(run("reserve", "--for", "2h", "--from", "tomorrow 09:00", "--json").stdout)
    assert (booked["state"], booked["firm"]) == ("waiting", True)
    assert datetime.fromisoformat(booked["starts_at"]).astimezone().strftime("%H:%M") == "09:00"
    assert {one["id"] for one in json.loads(run("mine", "--json").stdout)["reservations"]} == {
        first["id"],
        name,
        booked["id"],
    }
    shown = json.loads(run("show", name, "--json").stdout)
    assert [one["action"] for one in shown["events"]] == ["asked", "waiting"]
    run("release", first["id"])
    assert json.loads(run("show", name, "--json").stdout)["state"] == "waiting"
    run("nodes")
    assert json.loads(run("show", name, "--json").stdout)["state"] == "ready"
    assert "ready" in run("history", name).stdout


def test_changing_what_was_taken() -> None:
    taken = json.loads(run("reserve", "--node", "node-0", "--for", "1h", "--json").stdout)
    name = taken["id"]
    longer = json.loads(run("extend", name, "--for", "30m", "--json").stdout)
    assert longer["length_seconds"] == 5400
    assert json.loads(run("shorten", name, "--until", "+1h", "--json").stdout)["length_seconds"] < 3700
    told = run("history", name).stdout
    assert f"until {longer['ends_at'][:10]}" in told
    assert "+00:00" not in told, "times are for people"
    assert json.loads(run("swap", name, "node-0", "--to", "node-1", "--json").stdout)["nodes"] == ["node-1"]
    assert json.loads(run("transfer", name, "--to", "bob", "--json").stdout)["holder"] == "bob"
    assert run("extend", name, "--for", "1h").exit_code == 0, "this user owns the state folder: an admin"


def test_somebody_elses_reservation(monkeypatch: pytest.MonkeyPatch) -> None:
    name = json.loads(run("reserve", "--for", "1h", "--json").stdout)["id"]
    monkeypatch.setattr(people, "me", lambda: "eve")
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    monkeypatch.setenv("PERFCI_RESERVATIONS__ADMINS", '["root-of-the-lab"]')
    for order in (("release", name), ("extend", name, "--for", "1h"), ("ssh", name), ("env", name)):
        assert run(*order).exit_code == 4, order
    for order in (("node", "retire", "node-0"), ("node", "quarantine", "node-0")):
        assert run(*order, "--reason", "x").exit_code == 4, order
    monkeypatch.setattr(people, "me", lambda: "root-of-the-lab")
    assert run("release", name).exit_code == 0


def test_a_command_runs_on_nodes_that_are_given_back(tmp_path: Path) -> None:
    program = "import os, sys; print(os.environ['PERFCI_NODES']); sys.exit(7)"
    done = run("run", "--nodes", "2", "--for", "10m", "--", sys.executable, "-c", program)
    assert done.exit_code == 7
    assert book().held() == ()
    run("reserve", "--nodes", "2", "--for", "1d")
    refused = run("run", "--for", "10m", "--wait", "1h", "--", "true")
    assert refused.exit_code == 3


def test_who_waits_gets_the_nodes_or_gives_up_in_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lab, ann, bob = service(), Actor("ann"), Actor("bob")
    has = lab.reserve(Request(NodeWish(2), 3600, "x"), bob)
    wish = Request(NodeWish(1), 600, "x", wait_seconds=None)
    waits = lab.reserve(wish, ann)
    late = waits.asked_at + timedelta(seconds=61)
    with monkeypatch.context() as patch:
        patch.setattr(lab_run, "datetime", SimpleNamespace(now=lambda _: late))
        with pytest.raises(NoSuchSlot, match="given back"):
            lab_run.wait_until_ready(lab, waits, ann, 60)
    assert lab.show(waits.id).state is BookingState.OVER
    assert f"waiting; how far: perfci lab show {waits.id}\n" in capsys.readouterr().err
    again = lab.reserve(wish, ann)
    monkeypatch.setattr(lab_run, "time", SimpleNamespace(sleep=lambda _: lab.release(has.id, bob)))
    assert lab_run.wait_until_ready(lab, again, ann, 60).state is BookingState.READY


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("/no/such/program", 127, "There is no such file"),
        ("nosuchprogram", 127, "No folder in PATH"),
        ("echo hello", 127, "as separate words"),
        ("", 127, "after `--`"),
        ("./folder", 126, "That is a folder"),
        ("./plain", 126, "chmod +x ./plain"),
    ],
)
def test_a_command_that_can_not_be_started_reserves_nothing_and_says_what_to_do(
    command: str, code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    (tmp_path / "folder").mkdir()
    done = run("run", "--for", "10m", "--json", "--", command)
    assert done.exit_code == code
    assert said in json.loads(done.stdout)["help"]
    assert json.loads(run("history", "--json").stdout)["events"] == []


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [(b"#!/no/such/interpreter\n", 127, "`#!`"), (b"\x7fELF", 126, "not a program of this machine")],
)
def test_a_command_that_fails_to_start_on_its_nodes_gives_them_back(
    content: bytes, code: int, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "program"
    file.write_bytes(content)
    file.chmod(0o755)
    done = run("run", "--for", "10m", "--json", "--", str(file))
    assert done.exit_code == code
    assert said in (told := json.loads(done.stdout)["help"])
    assert told.endswith("perfci gave the nodes back.")
    assert book().held() == ()


def test_a_command_is_ended_with_its_reservation(tmp_path: Path) -> None:
    booking = service().reserve(
        Request(NodeWish(1, frozenset({"node-0"})), 3600, "x"), Actor("x"), owner=owners.me()
    )
    over = replace(booking, ends_at=datetime.now(UTC))
    assert lab_run._run(service(), ["sleep", "1000"], over, {}) == 128 + signal.SIGTERM


def test_a_command_goes_on_as_long_as_its_reservation_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is extended while the command runs, and given back in the end."""
    lab, begun = service(), datetime.now(UTC)
    wish = NodeWish(1, frozenset({"node-0"}))
    booking = lab.reserve(Request(wish, 3600, "x"), Actor("x"), owner=owners.me())
    short = replace(booking, ends_at=begun + timedelta(seconds=60))
    moments = (begun + timedelta(seconds=40 * number) for number in itertools.count())
    monkeypatch.setattr(lab_run, "datetime", SimpleNamespace(now=lambda _: next(moments)))
    monkeypatch.setattr(lab_run, "ASK_SECONDS", 0.01)
    looks = []

    def show(name: str) -> Booking:
        looks.append(name)
        if len(looks) == 5:
            lab.release(name, Actor("x"))
        return Reservations.show(lab, name)

    monkeypatch.setattr(lab, "show", show)
    assert lab_run._run(lab, ["sleep", "1000"], short, {}) == 128 + signal.SIGTERM
    assert len(looks) == 5


def test_keys_that_open_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "nodes", lambda _: (Node("node-0", has_bmc=True),))
    monkeypatch.setattr("perfci.runs.state.background.in_background", lambda _: lambda _: None)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    mine, other = (f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{letter * 43} {letter}@x" for letter in ("A", "B"))
    (tmp_path / ".ssh" / "id_ed25519.pub").write_text(f"{mine}\n")
    (tmp_path / ".ssh" / "id_old.pub").write_text("ssh-dss AAAA\n")
    file = tmp_path / "bob.pub"
    file.write_text(f"# a comment\n{other}\n")
    name = json.loads(run("reserve", "--for", "1h", "--json").stdout)["id"]
    assert service().show(name).keys == (mine,)
    (said,) = json.loads(run("keys", name, "--key", str(file), "--json").stdout)["keys"]
    assert (said.startswith("SHA256:"), said.endswith(" B@x")) == (True, True)
    assert service().show(name).keys == (other,)
    assert run("keys", name).stdout == f"{said}\n"
    assert "no keys" in run("keys", name, "--none").stdout
    assert run("keys", name, "--key", str(tmp_path / "none.pub")).exit_code == 2
    assert json.loads(run("transfer", name, "--to", "bob", "--key", str(file), "--json").stdout)["keys"] == [
        said
    ]
    monkeypatch.setattr(people, "me", lambda: "eve")
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    assert run("keys", name, "--none").exit_code == 4


def test_the_calendar_in_every_form(tmp_path: Path) -> None:
    run("reserve", "--for", "2d", "--reason", "<script>alert(1)</script>")
    assert "<script>alert(1)</script>" in run("calendar").stdout
    page, feed = tmp_path / "lab.html", tmp_path / "lab.ics"
    assert run("calendar", "--html", str(page), "--ics", str(feed)).exit_code == 0
    assert "<script>" not in page.read_text()
    assert "&lt;script&gt;" in page.read_text()
    calendar = icalendar.Calendar.from_ical(feed.read_text())
    (event,) = calendar.walk("VEVENT")
    assert event["SUMMARY"] == f"{people.me()}: node-0"
    assert event["DTEND"].dt - event["DTSTART"].dt == timedelta(days=2)
    assert len(json.loads(run("calendar", "--days", "1", "--json").stdout)["reservations"]) == 1


def test_facts_can_be_filtered_by() -> None:
    assert run("node", "add", "node-1", "--reason", "known now", "--fact", "cores=32").exit_code == 0
    assert run("node", "add", "node-1", "--reason", "x", "--fact", "cores").exit_code == 2
    taken = json.loads(run("reserve", "--where", "cores>=32", "--for", "1h", "--json").stdout)
    assert taken["nodes"] == ["node-1"]
    assert "cores=32" in run("nodes").stdout
    assert run("node", "health", "node-1").exit_code == 0


def test_mine_leaves_what_others_and_runs_hold() -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    with book().lease(nodes=1, holder=people.me(), purpose="nightly", until=until) as lease:
        other = book().reserve(nodes=1, holder="somebody else", purpose="x", until=until)
        assert run("release", "--mine").stdout == "you hold no nodes\n"
        assert {one.id for one in book().held()} == {lease.id, other.id}


def test_a_run_that_is_going_on_is_released_by_force_alone() -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    parent = os.getppid()
    with open(f"/proc/{parent}/stat") as stat:  # noqa: PTH123
        ticks = int(stat.read().rpartition(")")[2].split()[19])
    running = replace(owners.me(), pid=parent, started_ticks=ticks)
    lease = book().reserve(nodes=1, holder=people.me(), purpose="nightly", until=until, owner=running)
    assert json.loads(run("release", lease.id, "--json").stdout)["error"] == "LeaseInUse"
    assert run("release", lease.id, "--force").exit_code == 0
    assert "released by force" in run("history", lease.id).stdout


def test_what_a_killed_run_held_is_free_and_that_is_said() -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    dead = replace(owners.me(), started_ticks=1)
    book().reserve(nodes=2, holder="run", purpose="nightly", until=until, owner=dead)
    shown = run("nodes")
    assert [line.split("\t")[1] for line in shown.stdout.splitlines()[1:]] == ["free", "free"]
    assert "released, its process is gone: node-0, node-1: held by run (nightly)" in shown.stderr


def test_lock_ups_are_shown_for_100_operations() -> None:
    open_health(config.load()).count({"node-1": OperationTally(150, 3)})
    assert [line.split("\t")[9] for line in run("nodes").stdout.splitlines()[1:]] == ["", "2.0 (3 of 150)"]
    shown = json.loads(run("nodes", "--json").stdout)["nodes"][1]["bmc"]
    assert shown == {"operations": 150, "lock_ups": 3, "lock_ups_per_100": 2.0}


def test_into_quarantine_and_out_again() -> None:
    put = run("node", "quarantine", "node-0", "--reason", "its fan is dead")
    assert put.exit_code == 0
    assert put.stdout.startswith("node-0: in quarantine since ")
    row = run("nodes").stdout.splitlines()[1].split("\t")
    assert row[1] == "quarantined"
    assert row[6].startswith("its fan is dead (since ")
    assert run("reserve", "--for", "1h", "--reason", "x").stdout.startswith("node-1: yours")
    refused = run("reserve", "--for", "1h", "--reason", "x", "--node", "node-0")
    assert refused.exit_code == 5
    assert "node-0: since" in refused.stderr
    assert "docs/errors.md#nodesunhealthy" in refused.stderr
    assert json.loads(run("nodes", "--json").stdout)["nodes"][0]["quarantine"]["reason"] == "its fan is dead"
    assert run("node", "restore", "node-0").stdout == "node-0: given out again\n"
    assert json.loads(run("node", "restore", "node-0", "--json").stdout) == {
        "node": "node-0",
        "restored": False,
    }
    assert book().quarantined() == ()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("node", "quarantine", "none", "--reason", "x"), "NodesUnknown"),
        (("node", "quarantine", "node-0", "--reason", " "), "ReservationInvalid"),
        (("node", "restore", "none"), "NodesUnknown"),
        (("reserve", "--for", "soon", "--reason", "x"), "DurationInvalid"),
        (("reserve", "--for", "1h", "--reason", ""), "ReservationInvalid"),
        (("reserve", "--for", "1h", "--reason", "x", "--nodes", "3"), "NodesUnknown"),
        (("reserve", "--for", "9999d"), "ReservationInvalid"),
        (("reserve", "--for", "1h", "--from", "soon"), "TimeInvalid"),
        (("reserve", "--for", "1h", "--from", "+1h", "--queue"), "ChoiceUnclear"),
        (("reserve", "--for", "1h", "--where", "cores >"), "ReservationInvalid"),
        (("find", "--for", "1h", "--where", "cores >"), "ReservationInvalid"),
        (("show", "nosuch"), "ReservationNotFound"),
        (("calendar", "--node", "nosuch"), "NodesUnknown"),
        (("history", "--node", "nosuch"), "NodesUnknown"),
        (("reserve", "--for", "1h", "--reason", "x", "--node", "none"), "NodesUnknown"),
        (("reserve", "--for", "1h", "--reason", "x", "--node", "node-0", "--nodes", "1"), "ChoiceUnclear"),
        (("release",), "ChoiceUnclear"),
        (("release", "1234", "--mine"), "ChoiceUnclear"),
        (("release", "1234"), "ReservationNotFound"),
    ],
)
def test_what_was_typed_wrong(arguments: tuple[str, ...], error: str) -> None:
    result = run(*arguments, "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"] == error
    assert book().held() == ()


def test_wrong_settings_and_a_missing_inventory_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERFCI_LAB", "rack")
    result = run("nodes")
    assert result.exit_code == 2
    assert "does not exist; there are: embedded" in result.stderr
    monkeypatch.setenv("PERFCI_LAB", "Not A Name")
    assert "PERFCI_LAB: expected text of the form" in run("nodes").stderr


@pytest.mark.parametrize(
    ("words", "node", "command"),
    [
        ((), "node-0", []),
        (("--", "uptime", "-p"), "node-0", ["uptime", "-p"]),
        (("node-1", "--", "ls", "--json"), "node-1", ["ls", "--json"]),
        (("node-1", "uptime"), "node-1", ["uptime"]),
    ],
)
def test_what_ssh_runs_and_where(
    words: tuple[str, ...], node: str, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "ssh_arguments", lambda _, names: {name: (name,) for name in names})
    taken = json.loads(run("reserve", "--nodes", "2", "--for", "1h", "--json").stdout)
    told = json.loads(run("ssh", "--json", taken["id"], *words).stdout)
    assert told == {"node": node, "command": ["ssh", node, *command]}


def test_env_knows_these_nodes_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = json.loads(run("reserve", "--node", "node-1", "--for", "1h", "--json").stdout)
    folder = tmp_path / "access"
    told = json.loads(run("env", taken["id"], "--folder", str(folder), "--json").stdout)
    assert told["PERFCI_NODES"] == "node-1"
    written = (folder / "hosts.yml").read_text()
    assert told["ANSIBLE_INVENTORY"] == str(folder / "hosts.yml")
    assert "node-1" in written
    assert "node-0" not in written
    assert "OS_CLOUD" not in told
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert run("mine").exit_code == 0, "perfci works in the shell that was told"


def test_a_cloud_that_this_lab_can_not_deploy_is_refused() -> None:
    refused = run("reserve", "--nodes", "2", "--for", "1h", "--cloud", "multinode")
    assert refused.exit_code == 2
    assert "needs machines behind BMCs" in refused.stderr
    unknown = run("reserve", "--for", "1h", "--cloud", "multinod")
    assert unknown.exit_code == 2
    assert "multinode" in unknown.stderr
    assert run("reserve", "--for", "1h", "--os", "windows").exit_code == 2
    assert book().held() == ()
