"""The working folder of a run, and how it becomes the archive folder.

While a run lives, `progress.json` in its folder says who owns it and which stage it is at, so that a
killed run can be told from a living one and archived by the next start. Sealing writes `run.json`
and `manifest.json` and moves the folder into the archive in one step: a folder in the archive is whole.
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
from typing import TYPE_CHECKING, Any

from perfci.lab import owners
from perfci.lab.model import Owner

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

PROGRESS = "progress.json"
RUN = "run.json"
MANIFEST = "manifest.json"
_SCRATCH = ".new-"


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """One run's working folder."""

    path: Path

    @property
    def run_id(self) -> str:
        """The run's id is the folder's name."""
        return self.path.name

    def note(self, **fields: Any) -> None:
        """Write `progress.json` anew with these fields added."""
        write_json(self.path / PROGRESS, {**self.notes(), **fields})

    def notes(self) -> dict[str, Any]:
        """Read `progress.json`; empty where it is missing or damaged."""
        notes = self.read(PROGRESS)
        return notes if isinstance(notes, dict) else {}

    def alive(self) -> bool:
        """Tell whether the process that owns the run still runs."""
        try:
            owner = Owner(**self.notes()["owner"])
        except (KeyError, TypeError):
            return False  # who can't be named can't be asked
        return not owners.dead([owner])

    def read(self, name: str) -> Any:
        """Return a JSON file that a stage left, or None where it left none or half of one."""
        try:
            return json.loads((self.path / name).read_text())
        except (OSError, ValueError):
            return None


def new_run_id(job: str, now: datetime) -> str:
    """Return an id that sorts by time: `20261121T041500Z-nightly-1f2e`."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{job}-{secrets.token_hex(2)}"


def create(runs: Path, run_id: str, **notes: Any) -> WorkFolder:
    """Make a run's working folder, owned by the calling process; it appears with its notes or not at all."""
    scratch = runs / f"{_SCRATCH}{run_id}"
    scratch.mkdir(parents=True)
    WorkFolder(scratch).note(owner=asdict(owners.me()), run_id=run_id, **notes)
    return WorkFolder(scratch.rename(runs / run_id))


def unfinished(runs: Path) -> list[WorkFolder]:
    """Return all working folders, oldest first; `alive()` tells which of them go on."""
    if not runs.is_dir():
        return []
    folders = (path for path in sorted(runs.iterdir()) if path.is_dir())
    return [WorkFolder(path) for path in folders if not path.name.startswith(_SCRATCH)]


def seal(folder: WorkFolder, archive: Path, record: Mapping[str, Any]) -> Path:
    """Write run.json and the manifest, and move the folder into the archive; return where it is now.

    Doing it again for a run that is in the archive already removes the working folder and changes
    nothing else.
    """
    target = archive / folder.run_id
    if target.exists():
        shutil.rmtree(folder.path)
        return target
    (folder.path / PROGRESS).unlink(missing_ok=True)
    write_json(folder.path / RUN, record)
    write_json(folder.path / MANIFEST, {"files": dict(_digests(folder.path))})
    archive.mkdir(parents=True, exist_ok=True)
    folder.path.rename(target)
    _sync_folder(archive)
    return target


def write_json(path: Path, value: object) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a half."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with scratch.open("w", encoding="utf-8") as target:
        json.dump(value, target, indent=1, sort_keys=True)
        target.write("\n")
        target.flush()
        os.fsync(target.fileno())
    scratch.replace(path)


def _digests(root: Path) -> Iterable[tuple[str, str]]:
    for path in sorted(root.rglob("*")):
        if path.is_file():
            with path.open("rb") as source:
                yield str(path.relative_to(root)), hashlib.file_digest(source, "sha256").hexdigest()


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def utc_now() -> datetime:
    """Return the time now, aware, in UTC, without parts of a millisecond."""
    return datetime.fromtimestamp(round(time.time(), 3), UTC)
