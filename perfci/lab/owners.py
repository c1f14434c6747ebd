"""Which processes live: those of this host by /proc, those of another host by the time of their leases."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from perfci.lab.model import Owner
from perfci.lab.scheduling import may_live

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from perfci.lab.scheduling import Lease

PROC = Path("/proc")
_STATE, _PARENT, _STARTED = 0, 1, 19
"""Places in /proc/PID/stat after the command's closing bracket; proc(5) counts them as 3, 4 and 22."""


def me(proc: Path = PROC) -> Owner:
    """Return the calling process."""
    status = _status(os.getpid(), proc)
    return Owner(socket.gethostname(), _boot(proc), os.getpid(), status[1] if status else 0)


def with_ancestors(proc: Path = PROC) -> frozenset[Owner]:
    """Return the calling process, and all that it descends from."""
    host, boot, pid = socket.gethostname(), _boot(proc), os.getpid()
    found = set()
    while pid and (fields := _fields(pid, proc)):
        found.add(Owner(host, boot, pid, int(fields[_STARTED])))
        pid = int(fields[_PARENT])
    return frozenset(found)


def dead(owners: Iterable[Owner], proc: Path = PROC) -> frozenset[Owner]:
    """Return those of the owners that ran on this host and do not run any more."""
    host, boot = socket.gethostname(), _boot(proc)
    return frozenset(owner for owner in owners if owner.host == host and not _runs(owner, boot, proc))


def of_leases(leases: Iterable[Lease], now: datetime) -> tuple[frozenset[Owner], frozenset[Owner]]:
    """Return which owners of leases are known to be dead, and which live or `scheduling.may_live`."""
    owned = [one for one in leases if one.owner is not None]
    gone = dead(one.owner for one in owned if one.owner is not None)
    return gone, may_live(owned, dead=gone, host=me().host, now=now)


def in_use(owner: Owner) -> bool:
    """Tell whether this is another process of this host that runs."""
    myself = me()
    return owner != myself and owner.host == myself.host and not dead([owner])


def _runs(owner: Owner, boot: str, proc: Path) -> bool:
    if owner.boot != boot:
        return False
    status = _status(owner.pid, proc)
    if status is None:
        return _hidden(owner.pid)
    # A killed process that nobody waited for is a zombie: its pid is there, it does nothing.
    return status[1] == owner.started_ticks and status[0] not in "ZX"


def _hidden(pid: int) -> bool:
    """Tell whether a process exists that /proc does not show: mounted with hidepid, it hides other users'."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is there, and another user's
    return True


def _boot(proc: Path) -> str:
    return (proc / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _status(pid: int, proc: Path) -> tuple[str, int] | None:
    """Return a process's state letter and its start in ticks since boot; None where there is none."""
    fields = _fields(pid, proc)
    return (fields[_STATE], int(fields[_STARTED])) if fields else None


def _fields(pid: int, proc: Path) -> list[str]:
    """Return what the kernel says of a process after its name; empty where there is none."""
    try:
        text = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.rpartition(")")[2].split()
