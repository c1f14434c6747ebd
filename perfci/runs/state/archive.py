"""What the archive holds, for people who look for a run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from perfci.errors import UsageError
from perfci.runs.state.state_folder import RERUNS
from perfci.runs.state.run_folder import RUN

if TYPE_CHECKING:
    from pathlib import Path


class RunNotFound(UsageError):
    """There is no archived run of that id."""

    template = "no run {run_id!r} in {archive}"
    help = "`perfci run list` shows the runs; the beginning of an id is enough where only one run begins so."


def run_folders(archive: Path) -> list[Path]:
    """Return the archived runs' folders, oldest first."""
    if not archive.is_dir():
        return []
    return sorted(path for path in archive.iterdir() if (path / RUN).is_file())


def rerun_folders(archive: Path) -> list[Path]:
    """Return the archived re-runs' folders, oldest first."""
    return run_folders(archive / RERUNS)


def find_run(archive: Path, run_id: str) -> Path:
    """Return the folder of a run or re-run, by its id, by the beginning of its id, or `last`.

    The last run is the last night. Raises RunNotFound.
    """
    nights = run_folders(archive)
    if run_id == "last" and nights:
        return nights[-1]
    folders = [*nights, *rerun_folders(archive)]
    found = [path for path in folders if path.name == run_id] or [
        path for path in folders if path.name.startswith(run_id)
    ]
    if len(found) != 1:
        raise RunNotFound(run_id=run_id, archive=archive)
    return found[0]


def read_document(folder: Path) -> dict[str, Any]:
    """Return an archived run's run.json."""
    document: dict[str, Any] = json.loads((folder / RUN).read_text(encoding="utf-8"))
    return document
