"""The super-repository (openstack/openstack): one commit for each merged change of any project.

Each first-parent commit, a *step*, moves the submodule of one project, rarely of several. `git ls-tree STEP`
is the state of all projects at that moment, and the order of the steps is the order of merging.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from perfci.changes.errors import MomentInvalid, StepsUnrelated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfci.changes.git import Repository

SUPER = "openstack"
"""The project that has all others as submodules."""
_FORMAT = "%x00%H%x00%P%x00%ct%x00%B%x00"
_FIELDS = 5
_SUBMODULE = "160000"
_NOTHING = re.compile(r"^0+$")
_RAW = re.compile(r"^:(\d{6}) (\d{6}) ([0-9a-f]+) ([0-9a-f]+) [A-Z]\d*\t(.+)$")
_CHANGE_ID = re.compile(r"^\s*Change-Id: (I[0-9a-f]{40})\s*$", re.MULTILINE)
_ENTRY = re.compile(r"^160000 commit ([0-9a-f]+)\t(.+)$")
_SUBJECT = re.compile(r"^  - (?!Merge )(.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Move:
    """One submodule that a step moves; `old` is None where the project is new, `new` where it goes."""

    project: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class MergeStep:
    """One first-parent commit of the super-repository.

    `subject` and `change_id` are what its message says of the change, empty and None where it says nothing
    or speaks of several: they serve where there is no clone of the project.
    """

    commit: str
    merged_at: datetime
    moves: tuple[Move, ...]
    subject: str = ""
    change_id: str | None = None


def steps_between(repository: Repository, old: str, new: str) -> tuple[MergeStep, ...]:
    """Return the steps after `old` up to `new`, oldest first; raises StepsUnrelated and RevisionUnknown."""
    first, last = repository.commit(old), repository.commit(new)
    if not repository.is_ancestor(first, last):
        turned = repository.is_ancestor(last, first)
        reason = "it is the newer one" if turned else "neither is an ancestor of the other"
        raise StepsUnrelated(old=old, new=new, reason=reason)
    printed = repository.run(
        "log",
        "--first-parent",
        "--diff-merges=first-parent",
        "--reverse",
        "--raw",
        "--no-abbrev",
        "--no-renames",
        "--ignore-submodules=none",
        f"--format=tformat:{_FORMAT}",
        f"{first}..{last}",
        "--",
    )
    return tuple(parse_steps(printed))


def parse_steps(printed: str) -> Iterator[MergeStep]:
    """Read what git log printed for steps; a commit that moves no submodule is none."""
    fields = printed.split("\0")[1:]
    for at in range(0, len(fields) - _FIELDS + 1, _FIELDS):
        commit, _, seconds, message, raw = fields[at : at + _FIELDS]
        moves = tuple(_moves(raw))
        if moves:
            subjects, ids = _SUBJECT.findall(message), _CHANGE_ID.findall(message)
            yield MergeStep(
                commit,
                datetime.fromtimestamp(int(seconds), UTC),
                moves,
                subjects[0] if len(moves) == 1 and subjects else "",
                ids[0] if len(ids) == 1 else None,
            )


def _moves(raw: str) -> Iterator[Move]:
    for line in raw.splitlines():
        found = _RAW.match(line)
        if found is None:
            continue
        before, after, old, new, path = found.groups()
        if _SUBMODULE in (before, after):
            was = old if before == _SUBMODULE and not _NOTHING.match(old) else None
            now = new if after == _SUBMODULE and not _NOTHING.match(new) else None
            yield Move(path, was, now)


def state_at(repository: Repository, step: str) -> dict[str, str]:
    """Return the commit of each project at a step, by project."""
    tree = repository.run("ls-tree", "-r", repository.commit(step))
    found = (_ENTRY.match(line) for line in tree.splitlines())
    return {entry[2]: entry[1] for entry in found if entry}


def step_before(repository: Repository, moment: datetime, branch: str = "HEAD") -> str:
    """Return the last step of a branch at a moment; raises MomentInvalid where the branch began later."""
    found = repository.run(
        "rev-list",
        "--first-parent",
        "-n",
        "1",
        f"--before={int(moment.timestamp())}",
        repository.commit(branch),
        "--",
    ).strip()
    if not found:
        raise MomentInvalid(text=moment.isoformat(), reason=f"{branch} of {repository.name} began later")
    return found
