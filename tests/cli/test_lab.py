"""`perfci lab`, from the command line down to a real database and a real inventory."""

from __future__ import annotations

import functools
import getpass
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from perfci import config
from perfci.cli import lab
from perfci.lab import inventory, owners
from perfci.lab.health import OperationTally, open_health
from perfci.lab.sql import open_ledger

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

    from perfci.lab.ledger import Ledger

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


def book() -> Ledger:
    return open_ledger(config.load())


def test_from_free_to_held_to_free() -> None:
    assert [line.split("\t")[:2] for line in run("nodes").stdout.splitlines()[1:]] == [
        ["node-0", "free"],
        ["node-1", "free"],
    ]
    taken = run("reserve", "--for", "4h", "--purpose", "tuning neutron")
    assert taken.exit_code == 0
    assert taken.stdout.startswith("node-0: yours until ")
    reservation = taken.stdout.split()[-1]
    row = run("nodes").stdout.splitlines()[1].split("\t")
    assert row[:4] == ["node-0", "held", getpass.getuser(), "tuning neutron"]
    assert row[6] == reservation
    given_back = run("release", reservation)
    assert given_back.stdout == "node-0: given back (tuning neutron)\n"
    assert book().held() == ()


def test_json_of_each() -> None:
    taken = json.loads(run("reserve", "--node", "node-1", "--for", "90m", "--purpose", "x", "--json").stdout)
    assert taken["nodes"] == ["node-1"]
    start, end = (datetime.fromisoformat(taken[key]) for key in ("starts_at", "ends_at"))
    assert timedelta(minutes=89) < end - start <= timedelta(minutes=90)
    shown = json.loads(run("nodes", "--json").stdout)
    assert shown["lab"] == "embedded"
    never_asked = {"operations": 0, "lock_ups": 0, "lock_ups_per_100": None}
    assert shown["nodes"] == [
        {"name": "node-0", "reservation": None, "quarantine": None, "bmc": never_asked},
        {"name": "node-1", "reservation": taken, "quarantine": None, "bmc": never_asked},
    ]
    released = json.loads(run("release", "--mine", "--json").stdout)["released"]
    assert [one["id"] for one in released] == [taken["id"]]


def test_who_holds_is_said() -> None:
    run("reserve", "--nodes", "2", "--for", "2d", "--purpose", "tuning neutron")
    refused = run("reserve", "--for", "1h", "--purpose", "x")
    assert refused.exit_code == 3
    assert f"node-0, node-1: held by {getpass.getuser()} (tuning neutron) since " in refused.stderr
    assert "perfci lab nodes" in refused.stderr
    assert "docs/errors.md#nodesbusy" in refused.stderr
    assert (
        json.loads(run("reserve", "--for", "1h", "--purpose", "x", "--json").stdout)["error"] == "NodesBusy"
    )


def test_mine_leaves_what_others_and_runs_hold() -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    with book().lease(nodes=1, holder=getpass.getuser(), purpose="nightly", until=until) as lease:
        other = book().reserve(nodes=1, holder="somebody else", purpose="x", until=until)
        assert run("release", "--mine").stdout == "you hold no nodes\n"
        assert {one.id for one in book().held()} == {lease.id, other.id}


def test_what_a_killed_run_held_is_free_and_that_is_said() -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    dead = replace(owners.me(), started_ticks=1)
    book().reserve(nodes=2, holder="run", purpose="nightly", until=until, owner=dead)
    shown = run("nodes")
    assert [line.split("\t")[1] for line in shown.stdout.splitlines()[1:]] == ["free", "free"]
    assert "released, its process is gone: node-0, node-1: held by run (nightly)" in shown.stderr


def test_lock_ups_are_shown_for_100_operations() -> None:
    open_health(config.load()).count({"node-1": OperationTally(150, 3)})
    assert [line.split("\t")[7] for line in run("nodes").stdout.splitlines()[1:]] == ["", "2.0 (3 of 150)"]
    shown = json.loads(run("nodes", "--json").stdout)["nodes"][1]["bmc"]
    assert shown == {"operations": 150, "lock_ups": 3, "lock_ups_per_100": 2.0}


def test_into_quarantine_and_out_again() -> None:
    put = run("quarantine", "node-0", "--reason", "its fan is dead")
    assert put.exit_code == 0
    assert put.stdout.startswith("node-0: in quarantine since ")
    row = run("nodes").stdout.splitlines()[1].split("\t")
    assert (row[1], row[3]) == ("quarantined", "its fan is dead")
    assert run("reserve", "--for", "1h", "--purpose", "x").stdout.startswith("node-1: yours")
    refused = run("reserve", "--for", "1h", "--purpose", "x", "--node", "node-0")
    assert refused.exit_code == 3
    assert "node-0: since" in refused.stderr
    assert "docs/errors.md#nodesquarantined" in refused.stderr
    assert json.loads(run("nodes", "--json").stdout)["nodes"][0]["quarantine"]["reason"] == "its fan is dead"
    assert run("restore", "node-0").stdout == "node-0: given out again\n"
    assert json.loads(run("restore", "node-0", "--json").stdout) == {"node": "node-0", "restored": False}
    assert book().quarantined() == ()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("quarantine", "none", "--reason", "x"), "NodesUnknown"),
        (("quarantine", "node-0", "--reason", " "), "ReservationInvalid"),
        (("restore", "none"), "NodesUnknown"),
        (("reserve", "--for", "soon", "--purpose", "x"), "DurationInvalid"),
        (("reserve", "--for", "1h", "--purpose", ""), "ReservationInvalid"),
        (("reserve", "--for", "1h", "--purpose", "x", "--nodes", "3"), "NodesUnknown"),
        (("reserve", "--for", "1h", "--purpose", "x", "--node", "none"), "NodesUnknown"),
        (("reserve", "--for", "1h", "--purpose", "x", "--node", "node-0", "--nodes", "1"), "ChoiceUnclear"),
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
