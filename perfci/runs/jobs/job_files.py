"""Which job files there are. It imports next to nothing: commands that start no job ask it, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = (".yml", ".yaml")


def job_files(jobs_dir: Path) -> tuple[Path, ...]:
    """Return the job files of a folder, sorted by name."""
    files = (file for file in jobs_dir.glob("*") if file.suffix in SUFFIXES and file.is_file())
    return tuple(sorted(files, key=lambda file: file.stem))


def may_have_schedule(file: Path) -> bool:
    """Tell whether a job file may say when it starts: one without that word, or an escaped one, does not."""
    try:
        text = file.read_bytes()
    except OSError:
        return True  # whoever reads it says why it can't be read
    return b"schedule" in text or b"\\" in text
