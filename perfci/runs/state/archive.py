"""What the archive holds, for people who look for a run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from perfci.errors import UsageError
from perfci.names import is_run_id
from perfci.runs.state.state_folder import RERUNS
from perfci.runs.state.run_folder import RUN
from perfci.runs.state.run_names import named

if TYPE_CHECKING:
    from pathlib import Path


_CANDIDATES = 10
"""So many of the runs that can be meant are listed, the newest first."""


class RunNotFound(UsageError):
    """There is no archived run of that id."""

    template = "no run {run_id!r} in {archive}"
    help = "`perfci run list` shows the runs; any part of an id is enough, or last, yesterday, 2026-11-30."


class RunUnclear(UsageError):
    """Several archived runs match the given id."""

    template = "{run_id!r} matches {count} runs:\n{candidates}"
    help = "Type more of the id."


def run_folders(archive: Path) -> list[Path]:
    """Return the archived runs' folders, oldest first."""
    if not archive.is_dir():
        return []
    return sorted(path for path in archive.iterdir() if is_run_id(path.name) and (path / RUN).is_file())


def rerun_folders(archive: Path) -> list[Path]:
    """Return the archived re-runs' folders, oldest first."""
    return run_folders(archive / RERUNS)


def find_run(archive: Path, run_id: str) -> Path:
    """Return the folder of the run or re-run that is meant; see `run_names.named` for what can be given.

    Raises RunNotFound, and RunUnclear with the candidates.
    """
    folders = {path.name: path for path in (*run_folders(archive), *rerun_folders(archive))}
    nights = [name for name, path in folders.items() if path.parent == archive]
    reruns = [name for name in folders if name not in nights]
    found = named(run_id, nights, reruns, datetime.now(UTC).date())
    if not found:
        raise RunNotFound(run_id=run_id, archive=archive)
    if len(found) > 1:
        newest = found[: -_CANDIDATES - 1 : -1]
        rest = f"\n  and {len(found) - len(newest)} older" if len(found) > len(newest) else ""
        candidates = "\n".join(f"  {name}" for name in newest) + rest
        raise RunUnclear(run_id=run_id, count=len(found), candidates=candidates)
    return folders[found[0]]
