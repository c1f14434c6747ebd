"""Every command of the lab's users and admins on the inventories that perfci brings: embedded, example, virtual."""

from __future__ import annotations

import json
import shutil
from ipaddress import IPv4Network
from pathlib import Path

import icalendar
import pytest
import typer
from typer.testing import CliRunner

from perfci.cli import lab, tick
from perfci.lab.virtual import inventory as virtual_inventory
from perfci.lab.virtual.folders import LabFolder
from perfci.lab.virtual.plan import MachineKind, Plan
from perfci.runs.state import background
from perfci.runs.tick import tick as ticks

PROJECT = Path(__file__).parents[2]
app = typer.Typer()
app.add_typer(lab.app, name="lab")
app.command("tick")(tick.tick)
app.add_typer(tick.schedule_app, name="schedule")


@pytest.fixture(params=["embedded", "example", "virtual"])
def a_lab(request, tmp_path, monkeypatch):
    """A project with these inventories; what would be started in the background is noted."""
    name = request.param
    shutil.copytree(PROJECT / "inventory", tmp_path / "inventory", symlinks=True)
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "jobs").mkdir()
    state = tmp_path / "state"
    plan = Plan(tmp_path, state, MachineKind.NSPAWN, 4, IPv4Network("192.168.240.0/24"))
    virtual_inventory.write(plan, LabFolder.of(state))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PERFCI_STATE_DIR", str(state))
    monkeypatch.setenv("PERFCI_LAB", name)
    monkeypatch.delenv("PERFCI_CONFIG", raising=False)
    started = []
    for module in (background, ticks):
        monkeypatch.setattr(module, "in_background", lambda _: started.append)
    return name, started


def run(*words, code=0):
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == code, (words, done.output, done.exception)
    plain = CliRunner().invoke(app, [*words, "--help"])
    assert plain.exit_code == 0
    return json.loads(done.stdout)


def test_every_command_on_every_inventory(a_lab, tmp_path):
    name, started = a_lab
    nodes = run("lab", "nodes")["nodes"]
    first, machines = nodes[0]["name"], nodes[0]["has_bmc"]
    assert machines == (name != "embedded")
    assert run("lab", "find", "--for", "2d")["slots"][0]["nodes"] == [first]
    made = run("lab", "reserve", "--for", "2h", "--reason", "trying it out")
    assert made["state"] == ("preparing" if machines else "ready")
    assert (started == [["tick", "--work", made["id"]]]) is machines
    queued = run("lab", "reserve", "--node", first, "--for", "1h", "--queue")
    assert queued["starts_at"] == made["ends_at"]
    assert run("lab", "why", queued["id"])["before"][0]["id"] == made["id"]
    assert run("lab", "reserve", "--node", first, "--for", "1h", code=3)["slot"]["nodes"] == [first]
    assert run("lab", "show", made["id"])["holder"] == made["holder"]
    assert {one["id"] for one in run("lab", "mine")["reservations"]} == {made["id"], queued["id"]}
    assert run("lab", "extend", made["id"], "--for", "30m")["length_seconds"] == 9000
    assert run("lab", "shorten", made["id"], "--until", "+1h")["length_seconds"] < 3700
    assert run("lab", "calendar", "--days", "2")["reservations"]
    CliRunner().invoke(app, ["lab", "calendar", "--ics", "lab.ics", "--html", "lab.html"])
    assert len(icalendar.Calendar.from_ical((tmp_path / "lab.ics").read_bytes()).walk("VEVENT")) == 2
    assert "trying it out" in (tmp_path / "lab.html").read_text()
    if len(nodes) > 1:
        assert run("lab", "swap", made["id"], first)["nodes"] == [nodes[1]["name"]]
    assert run("lab", "transfer", queued["id"], "--to", "bob")["holder"] == "bob"
    if not machines:
        run("lab", "env", made["id"])
        told = run("lab", "ssh", made["id"])
        assert told["command"][0] == "ssh"
    for one in (made, queued):
        run("lab", "release", one["id"])
    assert run("lab", "history")["events"]
    assert run("lab", "history", "--node", first)["events"] == []
    run("lab", "node", "quarantine", first, "--reason", "fan broken")
    assert run("lab", "find", "--node", first, "--for", "1h", code=5)["error"] == "NodesUnhealthy"
    assert run("lab", "node", "restore", first, code=5 if machines else 0)
    run("lab", "node", "restore", first, "--force")
    run("lab", "node", "retire", first, "--reason", "sold")
    run("lab", "node", "add", first, "--reason", "back", "--fact", "cores=8")
    assert run("lab", "find", "--where", "cores >= 8", "--for", "1h")["slots"][0]["nodes"] == [first]
    assert run("lab", "node", "health", first)["failures_per_100"] is None
    assert run("schedule") == {"nights": [], "problems": []}
    assert "perfci tick" in run("schedule", "install")["command"] or run("schedule", "install", "--cron")
    assert run("tick")["problems"] == []
