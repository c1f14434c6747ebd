"""leftovers.json: what each Rally task left in the cloud, listed and removed after it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import RootModel

from perfci.results.errors import ArchiveError
from perfci.results.files import FromFile, Name, parse, read_bytes

if TYPE_CHECKING:
    from pathlib import Path

LEFTOVERS = "leftovers.json"


class Leftover(FromFile):
    """One thing that a task left; `error` says why it could not be removed, empty where it was."""

    kind: Name
    id: Name
    name: str
    error: str


class _Swept(FromFile):
    slug: Name
    found: list[Leftover] | None
    error: str | None = None


class _File(RootModel[list[_Swept]]):
    pass


@dataclass(frozen=True, slots=True)
class Swept:
    """What one task left; `found` is None where the cloud could not be asked, and `error` says why."""

    slug: str
    found: tuple[Leftover, ...] | None
    error: str = ""

    @property
    def kinds(self) -> dict[str, int]:
        """How many things of each kind."""
        return dict(Counter(one.kind for one in self.found or ()))

    @property
    def kept(self) -> tuple[Leftover, ...]:
        """What could not be removed."""
        return tuple(one for one in self.found or () if one.error)


def read_leftovers(folder: Path) -> dict[str, Swept]:
    """Read what the tasks of a run left, by the tasks' slugs; empty for a run that did not look.

    Raises ArchiveError.
    """
    path = folder / LEFTOVERS
    if not path.exists():
        return {}
    found = parse(read_bytes(path, ArchiveError), _File, path=path, error=ArchiveError).root
    return {
        one.slug: Swept(one.slug, None if one.found is None else tuple(one.found), one.error or "")
        for one in found
    }
