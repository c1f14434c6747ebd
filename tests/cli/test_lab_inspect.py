"""`perfci lab inspect`, from the command line to a node that is this machine, and into the inventory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from perfci.cli import lab
from perfci.lab.inventory import nodes

PROJECT = Path(__file__).parents[2]
HOSTS = """\
nodes:
  hosts:
    node-1: {ansible_host: node-1.example.org, provision_firmware: bios, node_labels: {cores: "many", rack: "3"}}
    node-2: {ansible_host: silent.example.org}
"""
SSH = """\
#!/bin/sh
# Logs in on this machine: the last words are the host and the command.
case " $* " in *" silent.example.org "*) echo "ssh: connect to host silent.example.org: No route to host" >&2; exit 255 ;; esac
while [ "$1" != sh ]; do shift; done
exec "$@"
"""

app = typer.Typer()
app.add_typer(lab.app, name="lab")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An inventory of two nodes; ssh leads to this machine, or nowhere."""
    project = tmp_path / "project"
    (project / "playbooks").mkdir(parents=True)
    (project / "roles").symlink_to(PROJECT / "roles")
    inventory = project / "inventory" / "embedded"
    inventory.mkdir(parents=True)
    (inventory / "hosts.yml").write_text(HOSTS)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ssh").write_text(SSH)
    (tmp_path / "bin" / "ssh").chmod(0o755)
    monkeypatch.chdir(project)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    monkeypatch.setenv("PERFCI_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("PERFCI_CONFIG", raising=False)
    return inventory


def run(*arguments):
    return CliRunner().invoke(app, ["lab", "inspect", *arguments])


def test_a_node_is_shown_as_variables_to_paste(folder):
    done = run("node-1")
    assert done.exit_code == 0, done.output
    shown = yaml.safe_load(done.stdout)["node-1"]
    assert int(shown["node_facts"]["threads"]) > 0
    assert "provision_firmware" not in shown
    assert not (folder / "host_vars").exists()


def test_what_is_written_is_read_by_all_that_choose_nodes(folder):
    done = run("node-1", "--write")
    assert done.exit_code == 0, done.output
    written = yaml.safe_load((folder / "host_vars/node-1/inspected.yml").read_text())["node_facts"]
    (first, second) = nodes(folder)
    assert first.labels == {**written, "cores": "many", "rack": "3"}
    assert second.labels == {}


def test_a_node_that_does_not_answer_keeps_no_other_from_being_written(folder):
    done = run("--all", "--write")
    assert done.exit_code == 3
    assert "node-2: ssh: connect to host silent.example.org: No route to host" in done.stderr
    assert [one.name for one in (folder / "host_vars").iterdir()] == ["node-1"]


def test_for_programs(folder):
    done = run("--all", "--json")
    assert done.exit_code == 3
    told = json.loads(done.stdout)
    assert [one["name"] for one in told["nodes"]] == ["node-1"]
    assert told["nodes"][0]["facts"]["threads"] == str(told["nodes"][0]["threads"])
    assert "No route to host" in told["not_inspected"]["node-2"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("words", "reason"),
    [([], "names of nodes, or --all"), (["node-1", "--all"], "or --all"), (["node-9"], "node-9")],
)
def test_what_is_no_choice(words, reason):
    done = run(*words)
    assert done.exit_code == 2
    assert reason in done.stderr
