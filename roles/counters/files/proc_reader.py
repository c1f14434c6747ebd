"""What /proc says: processes, their marks, and the machine's CPU time. Standard library only."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True)
class Process:
    """One line of /proc/PID/stat. CPU times are seconds; `reaped` is that of children waited for."""

    pid: int
    parent: int
    started: int
    own: float
    reaped: float
    rss_bytes: int

    @property
    def key(self) -> tuple[int, int]:
        """A process's identity: pids are used again, pid and start time together are not."""
        return self.pid, self.started


@dataclass(frozen=True, slots=True)
class Machine:
    """The first line of /proc/stat, in seconds since boot. Idle and waiting for disks is not busy."""

    busy: float
    steal: float
    cpus: int


def parse_stat(text: str) -> Process | None:
    """Return a process from the text of its stat file (proc(5)), None if it is not one.

    The command's name stands in parentheses and may itself hold parentheses and blanks.
    """
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    try:
        times = [int(field) / TICKS for field in fields[11:15]]
        return Process(
            pid=int(head.partition("(")[0]),
            parent=int(fields[1]),
            started=int(fields[19]),
            own=times[0] + times[1],
            reaped=times[2] + times[3],
            rss_bytes=int(fields[21]) * PAGE_BYTES,
        )
    except (ValueError, IndexError):
        return None


def started_at(ticks: int, now: float) -> float:
    """Return when a process started, in epoch seconds; `ticks` is what its stat file says, `now` the time."""
    running = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / TICKS
    return round(now - running, 2)


def processes(proc: Path = Path("/proc")) -> list[Process]:
    """Return all processes that could be read; one that ends meanwhile is left out."""
    found = []
    root = str(proc)
    for name in os.listdir(root):  # noqa: PTH208  once a second: Path.iterdir costs three times as much
        if not name.isdigit():
            continue
        text = _read(f"{root}/{name}/stat")
        if text is not None and (process := parse_stat(text.decode(errors="replace"))):
            found.append(process)
    return found


def environment(pid: int, proc: Path = Path("/proc")) -> dict[str, str] | None:
    """Return a process's environment as it was started, None if it can't be read or is empty.

    A program may have written its title over the beginning, as uWSGI does that devstack starts: then it is
    what systemd says of its unit.
    """
    text = _read(f"{proc}/{pid}/environ")
    if not text:
        return None
    entries = text.decode(errors="replace").split("\0")
    if "=" in entries[0]:
        return _variables(entries)
    try:
        return _environment_of_unit(_unit(pid, proc))
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}


def _unit(pid: int, proc: Path) -> str:
    """Return the systemd service that a process belongs to, empty where there is none."""
    parts = (_read(f"{proc}/{pid}/cgroup") or b"").decode(errors="replace").replace("\n", "/").split("/")
    return next((part for part in reversed(parts) if part.endswith(".service")), "")


@cache
def _environment_of_unit(unit: str) -> dict[str, str]:
    """Return the environment that systemd gives to a service; its specifiers are filled in.

    Raises OSError, SubprocessError and ValueError, so that what failed is not remembered.
    """
    if not unit:
        return {}
    command = ["systemctl", "show", "--property=Environment", "--value", "--", unit]
    shown = subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=True, timeout=10
    ).stdout
    return _variables(shlex.split(shown))


def _variables(entries: list[str]) -> dict[str, str]:
    pairs = (entry.partition("=") for entry in entries)
    return {name: value for name, separator, value in pairs if separator}


def machine(proc: Path = Path("/proc")) -> Machine:
    """Return the machine's CPU time."""
    lines = (proc / "stat").read_text().splitlines()
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(f) / TICKS for f in lines[0].split()[1:9])
    cpus = sum(1 for line in lines if line.startswith("cpu")) - 1
    return Machine(busy=user + nice + system + irq + softirq, steal=steal, cpus=cpus)


def _read(path: str) -> bytes | None:
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return os.read(handle, 1 << 20)
    except OSError:
        return None
    finally:
        os.close(handle)
