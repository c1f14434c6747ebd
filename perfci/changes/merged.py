"""The changes of one project between two of its commits, as they were merged."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from perfci.changes.model import Change, Person
from perfci.changes.text import one_line
from perfci.validation import MAIL_ADDRESS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from perfci.changes.git import Repository

REVIEW = "https://review.opendev.org/q/{change_id}"
BROWSE = "https://opendev.org/openstack/{project}/commit/{commit}"
_FORMAT = "%x00%H%x00%P%x00%an%x00%ae%x00%ct%x00%s%x00%(trailers:key=Change-Id,valueonly,separator=%x20)%x00"
_FIELDS = 8
_CHANGE_ID = re.compile(r"^I[0-9a-f]{40}$")
_ADDRESS = re.compile(MAIL_ADDRESS)
_LONGEST_ADDRESS = 254


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit as git has it; `files` are those that differ from its first parent."""

    name: str
    parents: tuple[str, ...]
    author: Person
    committed_at: datetime
    subject: str
    change_id: str | None
    files: tuple[str, ...]

    @property
    def is_merge(self) -> bool:
        """Whether it has several parents."""
        return len(self.parents) > 1


@dataclass(frozen=True, slots=True)
class Merged:
    """The first-parent line from one commit of a project to another one, with every commit on the way.

    `line` is oldest first. `rewritten` says that the old end is not on it: the branch was force-pushed or
    the project moved to another branch, and `gone` are the commits that it lost, newest first.
    """

    line: tuple[Commit, ...]
    known: Mapping[str, Commit]
    rewritten: bool = False
    gone: tuple[str, ...] = ()


def merged_between(repository: Repository, old: str | None, new: str) -> Merged:
    """Return what a project got after `old` (None: from its beginning) up to `new`.

    Raises RevisionUnknown where the clone has not got one of them.
    """
    last = repository.commit(new)
    first = repository.commit(old) if old is not None else None
    known = {one.name: one for one in commits_between(repository, first, last)}
    line = _line(known, last)
    rewritten = first is not None and not repository.is_ancestor(first, last)
    gone: tuple[str, ...] = ()
    if rewritten:
        gone = tuple(repository.run("rev-list", f"{last}..{first}", "--").split())
    return Merged(line, known, rewritten, gone)


def commits_between(repository: Repository, old: str | None, new: str) -> tuple[Commit, ...]:
    """Return all commits that `new` has and `old` has not, newest first."""
    span = f"{old}..{new}" if old is not None else new
    printed = repository.run(
        "log",
        "--topo-order",
        "--diff-merges=first-parent",
        "--name-only",
        "--no-renames",
        f"--format=tformat:{_FORMAT}",
        span,
        "--",
    )
    return tuple(parse_commits(printed))


def parse_commits(printed: str) -> Iterator[Commit]:
    """Read what git log printed; a message can't hold NUL, so fields can't run into each other."""
    fields = printed.split("\0")[1:]
    for at in range(0, len(fields) - _FIELDS + 1, _FIELDS):
        name, parents, author, address, seconds, subject, ids, files = fields[at : at + _FIELDS]
        wanted = [one for one in ids.split() if _CHANGE_ID.match(one)]
        yield Commit(
            name,
            tuple(parents.split()),
            Person(one_line(author) or "unknown", _address(address)),
            datetime.fromtimestamp(int(seconds), UTC),
            one_line(subject) or "(no subject)",
            wanted[-1] if wanted else None,
            tuple(line for line in files.splitlines() if line),
        )


def _address(text: str) -> str | None:
    return text if len(text) <= _LONGEST_ADDRESS and _ADDRESS.fullmatch(text) else None


def _line(known: Mapping[str, Commit], last: str) -> tuple[Commit, ...]:
    """Return the first-parent line down to what is not new, oldest first."""
    line: list[Commit] = []
    at: str | None = last
    while at is not None and at in known:
        commit = known[at]
        line.append(commit)
        at = commit.parents[0] if commit.parents else None
    return tuple(reversed(line))


def as_changes(project: str, merged: Merged) -> tuple[Change, ...]:
    """Return one change for each commit of the line, oldest first; a merge is the change it merged."""
    changes: list[Change] = []
    seen: set[str] = set()
    for commit in merged.line:
        seen.add(commit.name)
        brought = _reach(commit.parents[1:], merged.known, seen)
        seen |= brought.keys()
        changes.append(_change(project, commit, [one for one in brought.values() if not one.is_merge]))
    if merged.rewritten and changes:
        lost = f"{len(merged.gone)} commit{'s' if len(merged.gone) != 1 else ''}"
        notes = [one for one in (f"the branch was rewritten: it lost {lost}", changes[0].note) if one]
        changes[0] = replace(changes[0], note="; ".join(notes))
    return tuple(changes)


def _change(project: str, commit: Commit, brought: Sequence[Commit]) -> Change:
    told = brought[0] if brought else commit
    return Change(
        project=project,
        commit=commit.name,
        parent=commit.parents[0] if commit.parents else None,
        subject=told.subject,
        author=told.author,
        change_id=told.change_id,
        merged_at=commit.committed_at,
        files=commit.files,
        link=link_to(project, commit.name, told.change_id),
        note=f"a merge of {len(brought)} changes" if len(brought) > 1 else "",
    )


def _reach(start: Sequence[str], known: Mapping[str, Commit], without: set[str]) -> dict[str, Commit]:
    """Return the new commits that a merge's side brings: those that the line has not got before it.

    Nearest first. A merge of nothing, whose side the branch has already, brings none.
    """
    found: dict[str, Commit] = {}
    left = list(start)
    while left:
        name = left.pop(0)
        if name in known and name not in without and name not in found:
            found[name] = known[name]
            left += known[name].parents
    return found


def link_to(project: str, commit: str, change_id: str | None) -> str:
    """Return where a change can be read: its review, or the commit where it names none."""
    if change_id is not None:
        return REVIEW.format(change_id=change_id)
    return BROWSE.format(project=project, commit=commit)
