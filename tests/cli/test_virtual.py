"""`perfci virtual`, from the command line down to a lab of its own."""

from __future__ import annotations

import json
import os

import pytest
import typer
from programs import needs_root
from typer.testing import CliRunner
from virtual_labs import NO_TRACES, project_in, traces

from perfci.cli import virtual
from perfci.lab.virtual.plan import site_name

app = typer.Typer()
app.add_typer(virtual.app, name="virtual")


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """A project and an empty state folder."""
    monkeypatch.chdir(project_in(tmp_path))
    monkeypatch.setenv("PERFCI_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("PERFCI_CONFIG", raising=False)
    return tmp_path / "state"


def run(*words):
    return CliRunner().invoke(app, ["virtual", *words])


def test_who_is_not_root_is_told(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    done = run("up")
    assert done.exit_code == 3
    assert "needs root" in done.stderr
    assert "Run it with sudo." in done.stderr


@pytest.mark.parametrize("network", ["192.168.240.1/24", "here", "", "fd00::/64", "10.0.0.0/40"])
def test_a_network_that_is_none(network):
    done = run("up", "--network", network, "--json")
    assert done.exit_code == 2
    assert json.loads(done.stdout)["error"] == "NetworkInvalid"


@needs_root
def test_a_network_that_is_a_single_address():
    done = run("up", "--network", "192.168.240.0")
    assert done.exit_code == 2
    assert "192.168.240.0/32 has addresses for 0 nodes; wanted: 4" in done.stderr


def test_without_a_lab(state):
    for words in (["status"], ["fault", "node-1", "hang"], ["outlet", "node-1"]):
        done = run(*words)
        assert done.exit_code == 2
        assert f"no virtual lab is up for {state}" in done.stderr
        assert "VirtualLabDown".lower() in done.stderr


@pytest.mark.parametrize("words", [[], ["hang", "--clear"]])
def test_faults_or_their_end(words):
    done = run("fault", "node-1", *words)
    assert done.exit_code == 2
    assert "expected either faults or --clear" in done.stderr


@pytest.mark.slow
@needs_root
def test_a_lab_from_up_to_down(state):
    up = run("up", "--kind", "null", "--nodes", "3")
    try:
        assert up.exit_code == 0, up.stderr
        assert up.stdout.splitlines()[0] == "Up: 3 null nodes in 192.168.240.0/24."
        assert f"nsenter --net=/run/netns/{site_name(state)} COMMAND" in up.stdout
        assert run("fault", "node-2", "drop=0.5", "hang").stdout == "node-2: hang drop=0.5\n"
        rows = [line.split("\t") for line in run("status").stdout.splitlines()]
        assert rows[0][0] == "node"
        assert rows[2] == ["node-2", "off", "off", "default", "127.90.0.2", "", "0", "hang drop=0.5"]
        assert run("outlet", "node-2").stdout == "node-2: drop=0.5\n"
        assert run("fault", "node-2", "--clear").stdout == "node-2: no faults\n"
        assert json.loads(run("fault", "node-9", "hang", "--json").stdout)["message"].startswith(
            "the virtual lab has no"
        )
        assert [node["name"] for node in json.loads(run("status", "--json").stdout)["nodes"]][-1] == "node-3"
        assert run("up", "--kind", "null", "--nodes", "4").exit_code == 2
    finally:
        down = run("down")
    assert down.stdout == "Down. Ended 1 process(es); nothing of it is left.\n"
    assert traces(site_name(state)) == NO_TRACES
    assert run("down").stdout == "There was no virtual lab.\n"
