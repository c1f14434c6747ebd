"""The help of each command, word for word.

After a change of words: `PERFCI_WRITE_HELP=1 python -m pytest tests/cli/test_help.py`, and read the diff.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HELP = Path(__file__).with_name("help")
COMMANDS = (
    "lab",
    "lab nodes",
    "lab reserve",
    "lab release",
    "config",
    "config show",
    "config example",
)
PROGRAM = """
import sys, typer
from perfci.cli import config, lab
app = typer.Typer(add_completion=False)
app.add_typer(lab.app, name="lab")
app.add_typer(config.app, name="config")
app(prog_name="perfci")
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_as_written_down(command: str) -> None:
    # The width of the terminal is read when typer is imported: hence a process of its own.
    environment = {**os.environ, "TERMINAL_WIDTH": "100", "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    environment.pop("FORCE_COLOR", None)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *command.split(), "--help"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    printed = "".join(f"{line.rstrip()}\n" for line in done.stdout.strip().splitlines())
    file = HELP / f"{command.replace(' ', '-')}.txt"
    if os.environ.get("PERFCI_WRITE_HELP"):
        file.write_text(printed)
    assert printed == file.read_text()
