"""Which processes belong to a state folder, and how they are ended; standard library only.

Everything that the roles start carries `PERFCI_STATE_DIR` and `PERFCI_SERVICE` in its environment. What
a killed deployment left behind is found by that, without pid files. What belongs to a run, or to a
deployment by hand, carries `PERFCI_RUN` as well; the controller's own services carry none.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

PROC = Path("/proc")
ANSIBLE = "deploy"
"""The service that Ansible's own processes carry."""


def environment_of(pid: int) -> dict[str, str]:
    """Return the environment a process was started with; empty where it is gone or another user's."""
    try:
        raw = (PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return {}
    pairs = (item.partition(b"=") for item in raw.split(b"\0") if item)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def pids() -> list[int]:
    """Return all process ids."""
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def parent_of(pid: int) -> int:
    """Return the parent's id, 0 where there is none or the process is gone."""
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def alive(pid: int) -> bool:
    """Say whether a process still runs; one that only waits to be collected does not."""
    fields = _stat(pid)
    return bool(fields) and fields[0] not in "ZX"


def ancestors_of(pid: int) -> set[int]:
    """Return a process and everything above it."""
    found: set[int] = set()
    while pid > 0 and pid not in found:
        found.add(pid)
        pid = parent_of(pid)
    return found


def services(state_dir: str) -> dict[int, str]:
    """Return the name of the service by process id, for all processes of this state folder.

    A process that has the folder but no service is a person's own command, such as `make status`: it
    is not ours to end.
    """
    wanted = os.path.realpath(state_dir)
    found = {}
    for pid in pids():
        marks = environment_of(pid)
        name = marks.get("PERFCI_SERVICE")
        if name and os.path.realpath(marks.get("PERFCI_STATE_DIR") or "/") == wanted and alive(pid):
            found[pid] = name
    return found


def on_behalf_of(pid: int, run: str) -> bool:
    """Say whether a run may end a process: its own, and the cloud of an earlier one.

    Nodes are one run's at a time, so what other runs left of a cloud is left over. Their Ansible is not:
    it may be at work on other nodes.
    """
    marks = environment_of(pid)
    owner = marks.get("PERFCI_RUN")
    return bool(owner) and (owner == run or marks.get("PERFCI_SERVICE") != ANSIBLE)


def reap(
    state_dir: str,
    *,
    run: str = "",
    keep: Collection[str] = (),
    only: Collection[str] = (),
    grace_seconds: float = 5,
) -> list[str]:
    """End the processes of this state folder, TERM first and KILL after the grace; return their services.

    The caller, what it descends from, the services in `keep` and what runs those are left alone. With
    `run`, only what that run may end is; with `only`, nothing but these services. Supervisors go first
    and at once: they would start again what is ended.
    """
    ended: set[str] = set()
    for _ in range(5):  # until nothing is left that was forked while we looked
        found = targets(state_dir, run=run, keep=keep, only=only)
        if not found:
            break
        ended.update(found.values())
        _signal((pid for pid, name in found.items() if name == "supervisord"), signal.SIGKILL)
        _signal(found, signal.SIGTERM)
        if not _wait(found, grace_seconds):
            _signal(found, signal.SIGKILL)
            _wait(found, grace_seconds)
    return sorted(ended)


def targets(
    state_dir: str, *, run: str = "", keep: Collection[str] = (), only: Collection[str] = ()
) -> dict[int, str]:
    """Return the processes that `reap` would end now, with their services."""
    found = services(state_dir)
    spared = ancestors_of(os.getpid())
    for pid, name in found.items():
        if name in keep:
            spared |= ancestors_of(pid)
    return {
        pid: name
        for pid, name in found.items()
        if pid not in spared and (not only or name in only) and (not run or on_behalf_of(pid, run))
    }


def _stat(pid: int) -> list[str]:
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _signal(targets: Iterable[int], number: signal.Signals) -> None:
    for pid in targets:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _wait(targets: Iterable[int], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while any(map(alive, targets)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
