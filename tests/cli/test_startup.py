"""What commands import before they do anything: seconds are benchmarks/startup.py's matter, names are ours."""

from __future__ import annotations

import subprocess
import sys

import pytest

from perfci.cli.groups import Entry, LazyGroup
from perfci.cli.lab import COMMANDS as LAB_COMMANDS
from perfci.cli.lab import WEB_COMMANDS
from perfci.cli.main import COMMANDS

STATISTICS = ("numpy", "scipy", "matplotlib")
CLIENTS = ("ansible_runner", "influxdb_client", "grafana_client", "requests", "pyghmi")
DATABASE = ("sqlalchemy",)
SETTINGS = ("pydantic_settings", "perfci.config", "yaml")
WEB = ("fastapi", "starlette", "uvicorn", "jinja2", "perfci.lab.web")
ROOMS = (
    "perfci.runs.night",
    "perfci.runs.publish",
    "perfci.runs.verdicts",
    "perfci.runs.studies",
    "perfci.lab.virtual",
)

NOT_IMPORTED = {
    "--version": (*STATISTICS, *CLIENTS, *DATABASE, *SETTINGS, *ROOMS, "rich"),
    "--help": (*STATISTICS, *CLIENTS, *DATABASE, *SETTINGS, *ROOMS),
    "run --help": (*STATISTICS, *CLIENTS, *DATABASE, *SETTINGS, *ROOMS),
    "run nightly --help": (*STATISTICS, *CLIENTS, *DATABASE, *SETTINGS, *ROOMS),
    "analyse --help": (*STATISTICS, *CLIENTS, *DATABASE, *SETTINGS, *ROOMS),
    "lab power --help": (*STATISTICS, *CLIENTS, *DATABASE, *SETTINGS, *ROOMS),
    "lab --help": (*STATISTICS, *CLIENTS, *DATABASE, *SETTINGS, *ROOMS, *WEB),
    "lab serve --help": (*STATISTICS, *CLIENTS, *DATABASE, *SETTINGS, *ROOMS, *WEB),
    "lab token list": (*STATISTICS, *CLIENTS, *ROOMS, *WEB),
    "run list": (*STATISTICS, *CLIENTS, "perfci.runs.night", "perfci.runs.studies", "perfci.lab.virtual"),
    "lab nodes": (*STATISTICS, *CLIENTS, *ROOMS, *WEB),
    "alerts list": (*STATISTICS, *CLIENTS, "perfci.runs.night", "perfci.runs.studies", "perfci.lab.virtual"),
    "status": (*STATISTICS, *CLIENTS, "perfci.runs.night", "perfci.runs.studies", "perfci.runs.jobs.model"),
    "config show": (*STATISTICS, *CLIENTS, *DATABASE, *ROOMS),
}
PROGRAM = """
import atexit, sys
atexit.register(lambda: print("\\n".join(sys.modules), file=sys.stderr))
from perfci.cli.main import run_command
run_command()
"""


@pytest.mark.parametrize("words", NOT_IMPORTED)
def test_a_command_imports_only_what_it_needs(words, tmp_path, monkeypatch):
    monkeypatch.setenv("PERFCI_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("PERFCI_CONFIG", raising=False)
    command = [sys.executable, "-c", PROGRAM, *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = set(done.stderr.split())
    assert "perfci.cli.main" in imported
    assert sorted(imported & set(NOT_IMPORTED[words])) == []


@pytest.mark.parametrize("entry", [*COMMANDS, *LAB_COMMANDS, *WEB_COMMANDS], ids=lambda entry: entry.name)
def test_the_list_of_commands_says_what_the_command_itself_says(entry):
    first, *_ = (entry.load().help or "").split("\n\n")
    assert entry.help == first


def test_a_command_that_does_not_exist_is_an_error_where_it_is_used():
    class Group(LazyGroup):
        entries = (Entry("gone", "perfci.cli.main:nothing_here", "Not there."),)

    with pytest.raises(AttributeError):
        Group(name="perfci").resolve_command(None, ["gone"])
