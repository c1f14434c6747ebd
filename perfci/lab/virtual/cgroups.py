"""Control groups: one per node, so that everything a node runs is found and ended, whatever it forked.

Works with version 2 alone (`/sys/fs/cgroup`, as systemd has it), with version 1 and with both together; see
cgroups(7). A group is named by a path below the root of each hierarchy, such as `pci-1a2b3c/node-1`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from perfci.lab.virtual.errors import HostCommandFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

MOUNTS = Path("/proc/self/mountinfo")
_CGROUP_TYPES = frozenset({"cgroup", "cgroup2"})
_UNFIT = "cpuset"
"""A new cpuset of version 1 has no CPUs and takes no process; nodes don't need one."""
_LAUNCHER = 'while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs" || exit 125; shift; done; shift; exec "$@"'
REMOVE_SECONDS = 30.0


def hierarchies(mounts: Path = MOUNTS) -> tuple[Path, ...]:
    """Return where the hierarchies are mounted; each once. The format is that of proc_pid_mountinfo(5)."""
    found: dict[str, Path] = {}
    for line in mounts.read_text(encoding="utf-8").splitlines():
        before, _, after = line.partition(" - ")
        place = before.split()[4]
        kind, _, options = after.split(maxsplit=2)
        if kind in _CGROUP_TYPES and _UNFIT not in options.split(","):
            found.setdefault(before.split()[2], Path(place))
    return tuple(sorted(found.values()))


def make(name: str, mounts: Path = MOUNTS) -> tuple[Path, ...]:
    """Make a group in every hierarchy; return its folders. Raises HostCommandFailed."""
    folders = tuple(root / name for root in hierarchies(mounts))
    if not folders:
        raise HostCommandFailed(command="control groups", reason="no hierarchy is mounted on /sys/fs/cgroup")
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HostCommandFailed(command=f"mkdir {folder}", reason=error.strerror) from error
    return folders


def entering(folders: Sequence[Path], command: Sequence[str]) -> list[str]:
    """Return the command line that runs a command within a group, from its first instruction on."""
    return ["/bin/sh", "-c", _LAUNCHER, "enter", *map(str, folders), "--", *command]


def existing(name: str, mounts: Path = MOUNTS) -> tuple[Path, ...]:
    """Return the folders of a group that exist."""
    return tuple(root / name for root in hierarchies(mounts) if (root / name).is_dir())


def members(name: str, mounts: Path = MOUNTS) -> set[int]:
    """Return the processes in a group and in all groups below it."""
    found: set[int] = set()
    for folder in existing(name, mounts):
        for place, _, _ in os.walk(folder):
            with contextlib.suppress(OSError):  # removed meanwhile
                found.update(map(int, (Path(place) / "cgroup.procs").read_text().split()))
    return found


def kill(name: str, mounts: Path = MOUNTS) -> bool:
    """Send SIGKILL to all members; return whether there were any, dying ones among them."""
    found = members(name, mounts)
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(found)


def clear(name: str, mounts: Path = MOUNTS) -> None:
    """End all members and remove the group, with all groups below it. Raises HostCommandFailed."""
    deadline = time.monotonic() + REMOVE_SECONDS
    while kill(name, mounts) or not remove(name, mounts):
        if time.monotonic() > deadline:
            left = sorted(members(name, mounts))
            raise HostCommandFailed(command=f"end control group {name}", reason=f"processes {left} don't die")
        time.sleep(0.02)


def remove(name: str, mounts: Path = MOUNTS) -> bool:
    """Remove an empty group with all groups below it; return whether it is gone everywhere."""
    for folder in existing(name, mounts):
        for place, _, _ in os.walk(folder, topdown=False):
            with contextlib.suppress(OSError):  # a member is still dying
                Path(place).rmdir()
    return not existing(name, mounts)
