"""What there is of a virtual lab on this machine, found without its help, and how all of it is removed.

A lab is found by its names, which derive from its state folder, and by the marks in the environment
of its processes. So it does not matter who was killed when: what is left is found, by the next command.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from perfci.lab.virtual import cgroups, inventory, site
from perfci.lab.virtual.commands import run
from perfci.lab.virtual.errors import HostCommandFailed
from perfci.lab.virtual.folders import LabFolder
from perfci.lab.virtual.plan import site_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MARK, SERVICE = "PERFCI_STATE_DIR", "PERFCI_SERVICE"
"""All that perfci starts carries both in its environment."""
NAME = "virtual-lab"
"""The service that a lab's process and its machines are."""
KILL_SECONDS = 30.0
REMOVE_SECONDS = 900.0
"""A gigabyte of small files for each node takes its time on a slow disk."""


@dataclass(frozen=True, slots=True)
class Remains:
    """What there is of one lab."""

    processes: frozenset[int]
    namespaces: tuple[str, ...]
    control_groups: tuple[Path, ...]
    folder: Path | None
    inventory: Path | None

    def __bool__(self) -> bool:
        """Tell whether there is anything."""
        return any(self.as_dict().values())

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "processes": sorted(self.processes),
            "namespaces": list(self.namespaces),
            "control_groups": [str(path) for path in self.control_groups],
            "folder": str(self.folder) if self.folder else None,
            "inventory": str(self.inventory) if self.inventory else None,
        }


def find(state_dir: Path, project: Path) -> Remains:
    """Look what there is of the lab of a state folder."""
    name, folder = site_name(state_dir), LabFolder.of(state_dir)
    return Remains(
        processes=frozenset(_processes(state_dir)),
        namespaces=tuple(site.names(name)),
        control_groups=cgroups.existing(name),
        folder=folder.root if folder.root.exists() else None,
        inventory=inventory.file_of(project) if inventory.owner(project) == folder.root else None,
    )


def remove(state_dir: Path, project: Path) -> Remains:
    """End and remove all of it; return what there was. Raises HostCommandFailed where something stays."""
    found = find(state_dir, project)
    name, folder = site_name(state_dir), LabFolder.of(state_dir)
    cgroups.clear(name)
    _kill(state_dir)
    site.remove(name)
    if found.inventory:
        inventory.erase(project)
    if found.folder:
        removal = ("rm", "--recursive", "--force", "--one-file-system", str(folder.root))
        run(*removal, timeout_seconds=REMOVE_SECONDS)
    return found


def belongs(
    environment: Mapping[str, str], command: Sequence[str], state_dir: Path, *, in_site: bool
) -> bool:
    """Tell whether a process is part of the lab of a state folder.

    That is the lab's own process and its machines; what keeps its files in the lab's folder; what
    perfci has started inside the site; and what works there on files of the lab, such as connections
    that SSH shares.
    """
    state = Path(os.path.realpath(state_dir))
    folder = LabFolder.of(state).root
    if in_site and any(str(folder) in word for word in command):
        return True
    if SERVICE not in environment or not environment.get(MARK):
        return False
    marked = Path(os.path.realpath(environment[MARK]))
    if marked == state:
        return in_site or environment[SERVICE] == NAME
    return marked.is_relative_to(folder)


def _processes(state_dir: Path) -> set[int]:
    """Return the processes of the lab, without the caller and what it descends from."""
    name = site_name(state_dir)
    inside = site.inodes(name)
    found = cgroups.members(name)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            in_site = site.namespace_of(process.pid) in inside
            command = process.cmdline() if in_site else ()
            if belongs(process.environ(), command, state_dir, in_site=in_site):
                found.add(process.pid)
    me = psutil.Process()
    return found - {me.pid, *(parent.pid for parent in me.parents())}


def _kill(state_dir: Path) -> None:
    """Kill all, again and again: a supervisor starts what was killed before it."""
    deadline = time.monotonic() + KILL_SECONDS
    while left := _living(_processes(state_dir)):
        if time.monotonic() > deadline:
            raise HostCommandFailed(command="end the virtual lab", reason=f"processes {left} don't die")
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.05)


def _living(pids: set[int]) -> list[psutil.Process]:
    living = []
    for pid in sorted(pids):
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if process.status() != psutil.STATUS_ZOMBIE:
                living.append(process)
    return living
