"""Why a command that a person named can't be started, and what they can do about it."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from perfci.errors import PerfciError

if TYPE_CHECKING:
    from collections.abc import Mapping

NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""Exit codes that a shell gives, too."""
_REFUSED = {
    errno.EACCES: "Make it executable (`chmod +x {command}`), or name its interpreter: `-- sh {command}`.",
    errno.ENOEXEC: "It is not a program of this machine. A script needs a first line such as `#!/bin/sh`.",
    errno.E2BIG: "Its arguments are too long. Put them into a file.",
}
_OTHER = "Start it without perfci to see whether it works at all."
_PACKAGES = {"ssh": "openssh-client", "nsenter": "util-linux"}
"""Debian's packages of the programs that perfci itself starts."""


class CommandUnusable(PerfciError):
    """The command of `lab run` or `lab ssh` can't be started."""

    template = "{command} can't be started: {reason}"
    help = "{what_to_do}"
    exit_code = NOT_FOUND

    def __init__(self, command: str, error: OSError, *, note: str = "") -> None:
        what_to_do = " ".join(filter(None, (advice(command, error.errno), note)))
        reason = error.strerror or str(error)
        super().__init__(command=command, reason=reason, what_to_do=what_to_do)


class CommandNotExecutable(CommandUnusable):
    """There is such a file, and the system does not run it."""

    exit_code = NOT_EXECUTABLE


def unusable(command: str, error: OSError, *, note: str = "") -> CommandUnusable:
    """Return the error of a command that can't be started; `note` says what perfci did about it."""
    missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
    return (CommandUnusable if missing else CommandNotExecutable)(command, error, note=note)


def check_startable(command: str, environment: Mapping[str, str] = os.environ) -> None:
    """Raise CommandUnusable or CommandNotExecutable where a command surely can't be started."""
    if shutil.which(command, path=environment.get("PATH", os.defpath)) is not None:
        return
    there = "/" in command and Path(command).exists()
    number = errno.EACCES if there else errno.ENOENT
    raise unusable(command, OSError(number, os.strerror(number)))


def advice(command: str, number: int | None) -> str:
    """Say what a person can do about a command that the system does not start for this reason (`errno`)."""
    if command in _PACKAGES and number == errno.ENOENT:
        return f"Install it: `apt install {_PACKAGES[command]}`."
    if number in (errno.ENOENT, errno.ENOTDIR):
        return _missing(command)
    if number == errno.EACCES and Path(command).is_dir():
        return "That is a folder. Name a program in it."
    return _REFUSED.get(number or 0, _OTHER).format(command=command)


def _missing(command: str) -> str:
    file = Path(command)
    if not command.strip():
        return "Write the command after `--`: `-- make test`."
    if " " in command.strip():
        words = "Write the program and its arguments as separate words, not in one pair of quotes"
        return f"{words}: `-- {command}`."
    if "/" not in command:
        return (
            "No folder in PATH has a program of this name. Check its spelling, or install it. What only a "
            f"shell knows, such as `cd` or an alias, needs one: `-- bash -ic '{command} ...'`."
        )
    if file.is_file():
        return "The file is there, but not the interpreter that its first line (`#!`) names. Install that."
    return f"There is no such file. perfci looks from {Path.cwd()} on."
