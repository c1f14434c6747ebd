"""The help of each command, word for word.

After a change of words: `PERFCI_WRITE_HELP=1 python -m pytest tests/cli/test_help.py`, and read the diff.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HELP = Path(__file__).with_name("help")
PROGRAM = """
import json, typer
from typer.testing import CliRunner
from perfci.cli.main import app

def commands(command, name):
    yield name
    for word in getattr(command, "commands", {}):
        context = command.context_class(command, info_name=name)
        _, inner, _ = command.resolve_command(context, [word])
        if not inner.hidden:
            yield from commands(inner, f"{name} {word}".strip())

runner = CliRunner()
names = list(commands(typer.main.get_command(app), ""))
print(json.dumps({name: runner.invoke(app, [*name.split(), "--help"], prog_name="perfci").output for name in names}))
"""


@pytest.fixture(scope="module")
def shown() -> dict[str, str]:
    """The help of every command by its name; the empty name is perfci itself."""
    # The width of the terminal is read when typer is imported: hence a process of its own.
    environment = {**os.environ, "TERMINAL_WIDTH": "100", "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    environment.pop("FORCE_COLOR", None)
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_help_is_as_written_down(shown):
    if os.environ.get("PERFCI_WRITE_HELP"):
        for file in HELP.glob("*.txt"):
            file.unlink()
        for name, text in shown.items():
            (HELP / f"{name.replace(' ', '-') or 'perfci'}.txt").write_text(text)
    written = {file.stem: file.read_text() for file in HELP.glob("*.txt")}
    assert {name.replace(" ", "-") or "perfci": text for name, text in shown.items()} == written


def test_every_command_can_print_json(shown):
    groups = {name for name, text in shown.items() if "COMMAND [ARGS]" in text} - {
        "run",
        "analyse",
        "schedule",
    }
    silent = [name for name in shown.keys() - groups if "--json" not in shown[name]]
    assert silent == ["config example"], "it prints TOML"


def test_every_command_says_what_its_exit_codes_mean(shown):
    groups = {name for name, text in shown.items() if "COMMAND [ARGS]" in text}
    for name, text in shown.items():
        assert "Exit codes:" not in text, "a line for each: Exit code 3: the lab can't do it now."
        codes = re.findall(r"^ Exit code (\d): \S", text, re.MULTILINE)
        if name in groups - {"run", "analyse", "schedule"}:
            assert codes == []
        else:
            assert {"0", "2", "3"} <= set(codes), name
            assert codes == sorted(set(codes)), name
