"""tasks.json: which Rally tasks a run carried out, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, RootModel

from perfci.results.errors import ArchiveError
from perfci.results.files import FromFile, Moment, Name, parse, read_bytes

if TYPE_CHECKING:
    from pathlib import Path


class Task(FromFile):
    """One Rally task of a run. Times are seconds since the epoch, of the machine that drove it."""

    slug: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    warmup: Annotated[int, Field(ge=0)]
    started_at: Moment
    finished_at: Moment
    status: Literal["finished", "crashed"]
    scenario: Name | None = None
    error: str | None = None


class _Tasks(RootModel[list[Task]]):
    pass


def read_tasks(path: Path) -> tuple[Task, ...]:
    """Read tasks.json, in the order in which the tasks ran; raises ArchiveError."""
    return tuple(parse(read_bytes(path, ArchiveError), _Tasks, path=path, error=ArchiveError).root)
