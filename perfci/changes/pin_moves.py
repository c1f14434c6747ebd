"""Which pins a change of openstack/requirements moves, and what that brings of a library."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from perfci.changes.merged import as_changes, merged_between
from perfci.changes.model import PinMove

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from perfci.changes.git import Repository

CONSTRAINTS = "upper-constraints.txt"
_PIN = re.compile(
    r"^\s*(?P<name>[A-Za-z0-9][\w.-]*)\s*={2,3}\s*(?P<version>[^\s;#]+)\s*(?:;(?P<marker>[^#]*))?"
)
_DISTRIBUTION = re.compile(r"^\s*name\s*=\s*[\"']?([A-Za-z0-9][\w.-]*)[\"']?\s*$", re.MULTILINE)


def normal(package: str) -> str:
    """Return a distribution's name as the packaging specifications compare it."""
    return re.sub(r"[-_.]+", "-", package).lower()


def read_pins(text: str) -> dict[str, str]:
    """Return the versions of a constraints file by normalised name; one with several markers has them all."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if pin := _PIN.match(line):
            marker = (pin["marker"] or "").strip()
            found.setdefault(normal(pin["name"]), []).append(
                pin["version"] + (f" ({marker})" if marker else "")
            )
    return {name: ", ".join(versions) for name, versions in found.items()}


def moved_pins(before: str, after: str) -> Iterator[PinMove]:
    """Return the pins that differ between two constraints files, by name."""
    return moved_versions(read_pins(before), read_pins(after))


def moved_versions(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[PinMove]:
    """Return the packages whose versions differ, by normalised name."""
    old, new = ({normal(name): version for name, version in one.items()} for one in (before, after))
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield PinMove(name, old.get(name), new.get(name))


def opened(
    repository: Repository,
    old: str | None,
    new: str,
    projects: Mapping[str, str],
    clone: Callable[[str], Repository | None],
) -> tuple[PinMove, ...]:
    """Return the pins that a change of requirements moves, each with the changes of its library.

    `projects` names the projects of openstack/* by normalised distribution name (`distributions`).
    """
    before = repository.text(old, CONSTRAINTS) if old is not None else None
    after = repository.text(new, CONSTRAINTS)
    moves = moved_pins(before or "", after or "")
    return tuple(with_changes(one, projects.get(one.package), clone) for one in moves)


def with_changes(move: PinMove, project: str | None, clone: Callable[[str], Repository | None]) -> PinMove:
    """Return a moved pin with the changes of its library between the two tags, where its project is known."""
    if project is None:
        return move

    def told(note: str) -> PinMove:
        return PinMove(move.package, move.before, move.after, project, note=note)

    if move.before is None or move.after is None:
        return told("")
    repository = clone(project)
    if repository is None:
        return told(f"no clone of {project}: its changes are not known")
    old, new = (repository.find(f"refs/tags/{version}") for version in (move.before, move.after))
    if old is None or new is None:
        missing = move.before if old is None else move.after
        return told(f"{project} has no tag {missing}: its changes are not known")
    changes = as_changes(project, merged_between(repository, old, new))
    return PinMove(move.package, move.before, move.after, project, changes)


def distributions(projects: Mapping[str, str], clone: Callable[[str], Repository | None]) -> dict[str, str]:
    """Return the projects by normalised name of the distribution that each one builds.

    `projects` are commits by project. What its setup.cfg or pyproject.toml says counts, where there is a
    clone; else a project builds what it is called.
    """
    found: dict[str, str] = {}
    for project, commit in projects.items():
        repository = clone(project)
        told = distribution_of(repository, commit) if repository is not None else None
        found.setdefault(normal(told or project), project)
    return found


def distribution_of(repository: Repository, commit: str) -> str | None:
    """Return the name of the distribution that a project builds at a commit, None where it does not say."""
    for file, section in (("pyproject.toml", "project"), ("setup.cfg", "metadata")):
        part = _section(repository.text(commit, file) or "", section)
        if name := _DISTRIBUTION.search(part):
            return name[1]
    return None


def _section(text: str, name: str) -> str:
    """Return one section of a file with sections in brackets."""
    lines, inside = [], False
    for line in text.splitlines():
        if line.startswith("["):
            inside = line.strip() == f"[{name}]"
        elif inside:
            lines.append(line)
    return "\n".join(lines)
