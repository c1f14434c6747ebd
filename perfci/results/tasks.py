"""tasks.json: which Rally tasks a run carried out, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, RootModel

from perfci.results.errors import ArchiveError
from perfci.results.files import FromFile, Moment, Name, parse, read_bytes

if TYPE_CHECKING:
    from pathlib import Path


class Task(FromFile):
    """One Rally task that came to its end. Times: seconds since the epoch, of the machine that drove it."""

    status: Literal["finished"]
    slug: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    scenario: Name
    warmup: Annotated[int, Field(ge=0)]
    started_at: Moment
    finished_at: Moment


class _Crashed(FromFile):
    """A task that did not start, or was stopped: nothing of it counts."""

    status: Literal["crashed"]


class _Tasks(RootModel[list[Annotated[Task | _Crashed, Field(discriminator="status")]]]):
    pass


def read_tasks(path: Path) -> tuple[Task, ...]:
    """Read the tasks that finished from tasks.json, in the order in which they ran; raises ArchiveError."""
    found = parse(read_bytes(path, ArchiveError), _Tasks, path=path, error=ArchiveError).root
    return tuple(task for task in found if isinstance(task, Task))
