"""The working folder of a run, and how it becomes the archive folder.

`start.json` says which run it is and which process owns it; it is written once, before the folder has its
name. `progress.json` says which stage the run is at. Sealing writes `run.json`, from then on the run has
ended as that file says; then `manifest.json`, and moves the folder into the archive in one step. A folder
in the archive is whole, and a run that is killed while it is sealed is sealed by the next start.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfci.files import GONE, folder_is_held, hold_folder, locked, move, remove_folder, remove_scratch, sync_folder, write_json
from perfci.lab import owners
from perfci.lab.model import Owner
from perfci.parsing import json_value
from perfci.runs.state.archived_run import ArchivedRun

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import psutil

START = "start.json"
PROGRESS = "progress.json"
RUN = "run.json"
MANIFEST = "manifest.json"
_SCRATCH = ".new-"
_MAKING = ".lock"
"""Locked in between: a folder that is begun without being held is a dead process's."""
_held: dict[Path, int] = {}
"""Handles of the folders that this process holds."""
_numbers: dict[str, int] = {}
"""The number that this process gave last, by its second."""


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """One run's working folder."""

    path: Path

    @property
    def run_id(self) -> str:
        """The run's id is the folder's name."""
        return self.path.name

    def note(self, **fields: Any) -> None:
        """Add fields to `progress.json`. Raises OSError."""
        progress = self.read(PROGRESS)
        write_json(self.path / PROGRESS, {**(progress if isinstance(progress, dict) else {}), **fields})

    def notes(self) -> dict[str, Any]:
        """Read which run it is and where it is at; without what is missing or damaged."""
        found = (self.read(name) for name in (START, PROGRESS))
        return {key: value for notes in found if isinstance(notes, dict) for key, value in notes.items()}

    def alive(self) -> bool:
        """Tell whether the process that owns the run still runs.

        Where the folder does not say who that is, because the file is damaged, the lock on the folder tells.
        """
        try:
            owner = Owner(**self.notes()["owner"])
        except (KeyError, TypeError):
            return folder_is_held(self.path)
        return not owners.dead([owner])

    def process(self) -> psutil.Process | None:
        """Return the process that owns a living run; None where it is of another host, or not known."""
        import psutil

        try:
            owner = Owner(**self.notes()["owner"])
            process = psutil.Process(owner.pid)
        except (KeyError, TypeError, psutil.NoSuchProcess):
            return None
        # Asked for last: the process that has the number now is the one that is returned.
        return process if owners.in_use(owner) else None

    def read(self, name: str) -> Any:
        """Return a JSON file that a stage left, or None where it left none or half of one."""
        try:
            return json_value((self.path / name).read_bytes())
        except (OSError, ValueError):
            return None


def new_run_id(job: str, now: datetime) -> str:
    """Return an id that sorts by time: `20261121T041500Z-nightly-1f2e`.

    Those that a process gives a job within one second sort as it gave them; of two processes, by chance.
    """
    second = f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    last = _numbers.get(second)
    number = secrets.randbelow(0x8000) if last is None else last + 1 + secrets.randbelow(0x10)
    _numbers.clear()
    _numbers[second] = number
    return f"{second}-{job}-{number:04x}"


def create(runs: Path, run_id: str, **identity: Any) -> WorkFolder:
    """Make a run's working folder, owned by the calling process; it appears with its identity or not at all.

    Raises OSError, and leaves nothing then.
    """
    scratch = runs / f"{_SCRATCH}{run_id}"
    with locked(runs / _MAKING):
        scratch.mkdir()
        handle = hold_folder(scratch)
    try:
        write_json(scratch / START, {"owner": asdict(owners.me()), "run_id": run_id, **identity})
        folder = WorkFolder(move(scratch, runs / run_id))
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        if handle is not None:
            os.close(handle)
        raise
    if handle is not None:
        _let_go(folder)
        _held[folder.path] = handle
    return folder


def unfinished(runs: Path) -> list[WorkFolder]:
    """Return all working folders, oldest first; `alive()` tells which of them go on."""
    if not runs.is_dir():
        return []
    return [WorkFolder(path) for path in sorted(runs.iterdir()) if path.is_dir() and path.name[0] != "."]


def sweep(runs: Path) -> None:
    """Remove what a kill left of folders that were being made or removed. Raises OSError."""
    if not runs.is_dir():
        return
    with locked(runs / _MAKING):
        for path in runs.iterdir():
            begun = path.name.startswith(_SCRATCH) and not folder_is_held(path)
            if begun or path.name.startswith(GONE):
                shutil.rmtree(path, ignore_errors=True)


def seal(folder: WorkFolder, archive: Path, record: Mapping[str, Any]) -> ArchivedRun:
    """Write run.json and the manifest, and move the folder into the archive; return the archived run.

    A kill at any moment leaves a folder that says which run it is; once run.json stands, `seal_again` goes
    on from there. Of a run that is in the archive already the working folder is removed, and nothing else
    changes. Raises OSError.
    """
    if not (archive / folder.run_id).exists():
        write_json(folder.path / RUN, record)
    return seal_again(folder, archive)


def seal_again(folder: WorkFolder, archive: Path) -> ArchivedRun:
    """Move a folder whose run.json stands into the archive; see `seal`."""
    target = archive / folder.run_id
    if target.exists():
        remove_folder(folder.path)
    else:
        # run.json has all that it said. What is left out here can't be missing: the owner is in start.json.
        (folder.path / PROGRESS).unlink(missing_ok=True)
        remove_scratch(folder.path)
        write_json(folder.path / MANIFEST, {"files": dict(_digests(folder.path))})
        archive.mkdir(parents=True, exist_ok=True)
        move(folder.path, target)
    _let_go(folder)
    return ArchivedRun(target)


def _let_go(folder: WorkFolder) -> None:
    handle = _held.pop(folder.path, None)
    if handle is not None:
        os.close(handle)


def _digests(root: Path) -> Iterable[tuple[str, str]]:
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.relative_to(root).parts[0] != MANIFEST:
            with path.open("rb") as source:
                yield str(path.relative_to(root)), hashlib.file_digest(source, "sha256").hexdigest()


def utc_now() -> datetime:
    """Return the time now, aware, in UTC, without parts of a millisecond."""
    return datetime.fromtimestamp(round(time.time(), 3), UTC)
