"""Which processes belong to a state folder, and how they are ended.

Everything that perfci starts carries `PERFCI_STATE_DIR` and `PERFCI_SERVICE` in its environment, so
that what a killed run left behind is found without pid files: by these marks in `/proc/PID/environ`.
The first one alone is no mark: a person may have set it in a shell. What a run starts carries
`PERFCI_RUN` as well, its id, so that two runs of one state folder never end each other's processes;
the controller's own services carry none and outlive all runs.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from perfci.runs.state.state_folder import StateFolder

MARK = "PERFCI_STATE_DIR"
SERVICE = "PERFCI_SERVICE"
RUN = "PERFCI_RUN"
TERM_SECONDS = 10.0

_SERVICE = f"{SERVICE}=".encode()

Chosen = Callable[[psutil.Process], bool]


def processes_of(state_dir: Path) -> list[psutil.Process]:
    """Return the live processes marked with this state folder, without the caller and its ancestors."""
    me = psutil.Process()
    spared = {me.pid, *(parent.pid for parent in me.parents())}
    wanted = os.path.realpath(state_dir)
    found = []
    for pid in psutil.pids():
        if pid in spared or not _is_marked(pid, wanted):
            continue
        try:
            process = psutil.Process(pid)
            # Another process may have got the number meanwhile.
            if _is_marked(pid, wanted) and process.is_running():
                found.append(process)
        except (psutil.Error, OSError):
            continue  # gone meanwhile
    return found


def _is_marked(pid: int, state_dir: str) -> bool:
    """Tell whether a process has the marks of a state folder, whose path has no links.

    Nearly none has any, and there are hundreds: of those the environment is not taken apart.
    """
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False  # gone meanwhile, or another user's
    if _SERVICE not in environment:
        return False
    marks = dict(entry.partition(b"=")[::2] for entry in environment.split(b"\0"))
    place = os.fsdecode(marks.get(MARK.encode(), os.sep.encode()))
    return SERVICE.encode() in marks and os.path.realpath(place) == state_dir


def service_of(process: psutil.Process) -> str:
    """Return the service that a process belongs to, or its own name where it carries none."""
    try:
        return process.environ().get(SERVICE) or process.name()
    except (psutil.Error, OSError):
        return "?"


def run_of(process: psutil.Process) -> str:
    """Return the id of the run that a process belongs to; empty for the controller's own."""
    try:
        return process.environ().get(RUN, "")
    except (psutil.Error, OSError):
        return ""


def of_run(run_id: str) -> Chosen:
    """Choose what belongs to one run."""
    return lambda process: run_of(process) == run_id


def end(processes: Collection[psutil.Process], *, grace_seconds: float = TERM_SECONDS) -> list[str]:
    """End these processes, TERM first and KILL after the grace; return what they were, sorted."""
    names = sorted({service_of(process) for process in processes})
    for process in processes:
        _signal(process, kill=False)
    _, alive = psutil.wait_procs(list(processes), timeout=grace_seconds)
    for process in alive:
        _signal(process, kill=True)
    psutil.wait_procs(alive, timeout=grace_seconds)
    return names


def reap(
    state_dir: Path,
    chosen: Chosen = lambda _: True,
    *,
    keep: Collection[str] = (),
    grace_seconds: float = TERM_SECONDS,
) -> list[str]:
    """End what is chosen of this state folder, but the services in `keep`; return what was ended.

    A supervisor would start its children again, so it goes first; one that runs a service to keep
    is left alone, and so are its other children: they must be stopped through it.
    """
    found = processes_of(state_dir)
    kept = {process.pid for process in found if service_of(process) in keep}
    spared = kept | {parent.pid for process in found if process.pid in kept for parent in process.parents()}
    targets = [process for process in found if process.pid not in spared and chosen(process)]
    ended = end(targets, grace_seconds=grace_seconds)
    # What was forked while we looked.
    late = [process for process in processes_of(state_dir) if process.pid not in spared and chosen(process)]
    return sorted({*ended, *end(late, grace_seconds=grace_seconds)}) if late else ended


def reap_run(state: StateFolder, run_id: str) -> list[str]:
    """End what still runs of one run, of all its clouds; return what was ended."""
    return [name for root in state.clouds for name in reap(root, of_run(run_id))]


def _signal(process: psutil.Process, *, kill: bool) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill() if kill else process.terminate()
