"""What goes on in a state folder, without touching anything."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from perfci.runs.state.processes import processes_of, service_of
from perfci.runs.state.run_folder import unfinished

if TYPE_CHECKING:
    from perfci.runs.state.state_folder import StateFolder


@dataclass(frozen=True, slots=True)
class RunningRun:
    """A run that goes on, or was killed and waits for the next start to archive it."""

    run_id: str
    stage: str
    since: str
    alive: bool


@dataclass(frozen=True, slots=True)
class RunningService:
    """All processes of one service; in the sum of their resident sets shared pages count each time."""

    service: str
    processes: int
    rss_bytes: int


def runs(state: StateFolder) -> list[RunningRun]:
    """Return the runs that have not been archived, oldest first."""
    return [
        RunningRun(
            folder.run_id,
            str(folder.notes().get("stage", "start")),
            str(folder.notes().get("stage_started_at", "")),
            folder.alive(),
        )
        for folder in unfinished(state.runs)
    ]


def services(state: StateFolder) -> list[RunningService]:
    """Return what runs of this state folder, by service."""
    count: Counter[str] = Counter()
    memory: Counter[str] = Counter()
    for process in (process for root in state.clouds for process in processes_of(root)):
        try:
            rss = process.memory_info().rss
        except psutil.Error:
            continue  # ended meanwhile
        count[service_of(process)] += 1
        memory[service_of(process)] += rss
    return [RunningService(name, count[name], memory[name]) for name in sorted(count)]
