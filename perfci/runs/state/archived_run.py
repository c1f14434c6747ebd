"""One run of the archive, as a value: what a stage after the archive takes in place of a folder."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from perfci.results.archive import RunFiles

if TYPE_CHECKING:
    from pathlib import Path

JOB = "job.yml"
"""The job that a run ran, as it was resolved."""


class ArchivedRun(RunFiles):
    """A run or re-run in the archive. It never changes, so each of its files is read once at most.

    See RunFiles for what was measured, and `jobs.archived_job` for its job.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)

    @property
    def run_id(self) -> str:
        """The run's id is the folder's name."""
        return self.folder.name

    @cached_property
    def job_file(self) -> str:
        """The text of job.yml. Raises OSError and UnicodeError."""
        return (self.folder / JOB).read_text(encoding="utf-8")

    @property
    def failure(self) -> dict[str, Any] | None:
        """Why the run failed, or which of its tasks gave nothing. Raises ArchiveError."""
        found: dict[str, Any] | None = self.document.get("failure") or self.document.get("partial")
        return found
