"""Asking nodes what they are, over SSH; and writing it into the inventory."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from perfci.files import write_whole
from perfci.lab import inspection
from perfci.lab.errors import HostVariablesElsewhere, InspectionUnreadable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from perfci.lab.inspection import Inspection

SCRIPTS = "roles/deploy_ramdisk/files"
"""Where the scripts are, in the project's folder; the deploy ramdisk runs the same ones."""
ASK_SECONDS = 60
AT_ONCE = 32
HEAD = "---\n# `perfci lab inspect --write` replaces this file; other variables belong in another one.\n"


def script(root_dir: Path) -> str:
    """Return the script that a node runs."""
    folder = root_dir / SCRIPTS
    return "".join((folder / name).read_text(encoding="utf-8") for name in ("disks.sh", "inspect.sh"))


def ask(commands: Mapping[str, Sequence[str]], text: str) -> dict[str, Inspection | str]:
    """Return by node what it is, or why that is not known. `commands` lead to a shell on each node."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(commands, pool.map(lambda one: _ask(one, text), commands.values()), strict=True))


def _ask(command: Sequence[str], text: str) -> Inspection | str:
    try:
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ASK_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {ASK_SECONDS} s"
    except OSError as error:
        return f"{command[0]}: {error.strerror}"
    if done.returncode:
        return " ".join(done.stderr.split()) or f"the script ended with exit code {done.returncode}"
    try:
        return inspection.read(done.stdout)
    except InspectionUnreadable as error:
        return str(error)


def write(folder: Path, node: str, lines: Sequence[str]) -> Path:
    """Write a node's variables beside its others, all of them or nothing; return the file.

    Raises HostVariablesElsewhere where a file of the node would hide them, or they it.
    """
    variables = folder / "host_vars" / node
    for taken in (variables, *(variables.with_name(f"{node}{end}") for end in (".yml", ".yaml", ".json"))):
        if taken.is_file():
            raise HostVariablesElsewhere(file=taken, wanted=variables, folder=variables)
    variables.mkdir(parents=True, exist_ok=True)
    file = variables / "inspected.yml"
    write_whole(file, HEAD + "".join(f"{line}\n" for line in lines))
    return file
