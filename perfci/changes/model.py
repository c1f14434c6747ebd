"""The words of changes: who changed what in which project, and in which order it was merged.

Everything here is immutable and plain. Projects are named without their organisation (`neutron`); commits
are full object names; times are aware datetimes in UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

SHORT = 10
"""How many digits of a commit are shown to people."""
REQUIREMENTS = "requirements"
"""The project whose upper-constraints.txt pins all packages."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who wrote a change; `address` is None where the commit has none that a mail server would take."""

    name: str
    address: str | None


@dataclass(frozen=True, slots=True)
class PinMove:
    """One pin of the constraints that moved; `before` or `after` is None where there is no pin.

    `changes` are those of the library between its two tags, oldest first, where `project` names one of
    openstack/* of which there is a clone; `note` says what could not be found out.
    """

    package: str
    before: str | None
    after: str | None
    project: str | None = None
    changes: tuple[Change, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One merged change of one project.

    `commit` is what the branch got (a merge or the change itself), `parent` what the branch had before;
    None for a project's first commit. `author` and `files` (relative to the project) are None where no
    clone has the commit. `step` is the commit of the super-repository that brought it. `note` tells what
    is unusual about it.
    """

    project: str
    commit: str
    parent: str | None
    subject: str
    author: Person | None
    change_id: str | None
    merged_at: datetime
    files: tuple[str, ...] | None
    link: str
    step: str | None = None
    pins: tuple[PinMove, ...] = ()
    note: str = ""

    @property
    def name(self) -> str:
        """How people call it: `neutron 1f2e3d4c5b`."""
        return f"{self.project} {self.commit[:SHORT]}"


class MergeOrder(StrEnum):
    """What the order of the changes follows from."""

    STEPS = "steps"
    """Steps of the super-repository: it is exact."""
    DATES = "dates"
    """Dates of merge commits: changes that can't be ordered form one group."""


@dataclass(frozen=True, slots=True)
class ChangeHistory:
    """All changes from one moment to another, oldest first.

    Changes in one group can't be ordered among different projects. `old` and `new` are the states of all
    projects at both ends, by project; `notes` are sentences about what could not be found out.
    """

    groups: tuple[tuple[Change, ...], ...]
    order: MergeOrder
    old: Mapping[str, str] = field(default_factory=dict)
    new: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def changes(self) -> tuple[Change, ...]:
        """All changes, oldest first."""
        return tuple(change for group in self.groups for change in group)

    @property
    def ordered(self) -> bool:
        """Whether the order of all changes is known."""
        return all(len(group) == 1 for group in self.groups)
