"""Units of systemd that run what belongs to a state folder: on a controller they come back after its reboot.

The role service writes them, with the state folder in their environment as all that perfci starts has it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from perfci.errors import LabError
from perfci.runs.state.processes import MARK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FOLDER = Path("/etc/systemd/system")
_STATE = re.compile(
    rf'^Environment="{MARK}=(.*)"$|^ExecStart=/usr/sbin/logrotate --state (.*)/logs/', re.MULTILINE
)
_SECONDS = 120


class UnitsStay(LabError):
    """Units of systemd could not be removed."""

    template = "systemctl {order} failed: {reason}"
    help = "As root: systemctl disable --now 'perfci-*', then remove the files /etc/systemd/system/perfci-*."


def units_of(state_dir: Path, folder: Path = FOLDER) -> list[Path]:
    """Return the files of the units that belong to a state folder, with their timers, sorted."""
    wanted = os.path.realpath(state_dir)
    found = []
    for file in sorted(folder.glob("perfci-*.service")):
        match = _STATE.search(file.read_text(encoding="utf-8", errors="replace"))
        if match and os.path.realpath(_plain(match[1]) if match[1] else match[2]) == wanted:
            timer = file.with_suffix(".timer")
            found += [file, *([timer] if timer.exists() else [])]
    return found


def _plain(text: str) -> str:
    """Return a quoted word of a unit without its escapes."""
    return re.sub(r"\\(.)", r"\1", text.replace("%%", "%"))


def remove(state_dir: Path, folder: Path = FOLDER, *, systemctl: Callable[[Sequence[str]], None] | None = None) -> list[str]:
    """End the units of a state folder and remove them; return their names.

    Raises UnitsStay, and leaves the files for the next attempt, where systemd does not end them.
    """
    files = units_of(state_dir, folder)
    if not files:
        return []
    order = systemctl or _systemctl
    order(["disable", "--now", *(file.name for file in files)])
    for file in files:
        file.unlink(missing_ok=True)
    order(["daemon-reload"])
    return [file.name for file in files]


def _systemctl(words: Sequence[str]) -> None:
    program = shutil.which("systemctl")
    if program is None or not Path("/run/systemd/system").is_dir():
        return  # systemd does not run here: files are all there is
    try:
        done = subprocess.run(
            [program, *words], capture_output=True, text=True, errors="replace", check=False, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise UnitsStay(order=words[0], reason=f"no answer within {_SECONDS} s") from error
    if done.returncode:
        raise UnitsStay(order=words[0], reason=done.stderr.strip())
