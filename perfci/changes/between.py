"""All changes between two moments, over all repositories, in the order in which they were merged."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from perfci.changes.errors import MomentInvalid, RevisionUnknown
from perfci.changes.merged import as_changes, link_to, merged_between
from perfci.changes.model import REQUIREMENTS, Change, ChangeHistory, MergeOrder
from perfci.changes.pin_moves import distributions, normal, opened
from perfci.changes.super_repository import SUPER, MergeStep, Move, state_at, step_before, steps_between
from perfci.changes.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from perfci.changes.git import Repository
    from perfci.changes.merged import Merged

_COMMIT = re.compile(r"^[0-9a-f]{7,64}$")


class Repositories(Protocol):
    """Where repositories are found: `clones.Clones`, or a stand-in."""

    def find(self, project: str) -> Repository | None:
        """Return a project's repository, None where there is none."""

    def get(self, project: str) -> Repository:
        """Return a project's repository; raises RepositoryMissing."""


@dataclass(frozen=True, slots=True)
class CodeMoment:
    """One end of a range: a step of the super-repository, or the revisions of some projects."""

    step: str | None = None
    revisions: Mapping[str, str] = field(default_factory=dict)


def moment_of(text: str, repositories: Repositories) -> CodeMoment:
    """Read what a person gives for one end: a step, a date, or `neutron=REVISION`.

    A date without a zone is UTC; revisions are separated by commas. Raises MomentInvalid, RevisionUnknown and
    RepositoryMissing.
    """
    text = text.strip()
    if "=" in text:
        return CodeMoment(revisions=dict(_revisions(text, repositories)))
    if _COMMIT.match(text):
        return CodeMoment(step=repositories.get(SUPER).commit(text))
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        pass
    else:
        date = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
        return CodeMoment(step=step_before(repositories.get(SUPER), date))
    known = repositories.get(SUPER).find(text)
    if known is None:
        raise MomentInvalid(
            text=one_line(text, 60), reason=f"{SUPER} has no such revision, and it is not a date"
        )
    return CodeMoment(step=known)


def _revisions(text: str, repositories: Repositories) -> Iterator[tuple[str, str]]:
    for part in text.split(","):
        project, _, revision = part.strip().partition("=")
        if not project or not revision:
            raise MomentInvalid(text=one_line(text, 60), reason="expected PROJECT=REVISION")
        yield project, repositories.get(project).commit(revision)


def changes_between(
    repositories: Repositories, old: CodeMoment, new: CodeMoment, *, only: Iterable[str] | None = None
) -> ChangeHistory:
    """Return the changes after `old` up to `new`.

    With two steps the super-repository orders them. Else the dates of merge commits do, over the projects
    whose revisions both ends know. `only` names the projects whose clones are asked for authors and files:
    of the others the step says subject and review. Raises what git's answers are wrong for.
    """
    if old.step is not None and new.step is not None:
        return _by_steps(repositories, old.step, new.step, None if only is None else frozenset(only))
    states = [
        dict(one.revisions) if one.step is None else state_at(repositories.get(SUPER), one.step)
        for one in (old, new)
    ]
    return _by_dates(repositories, *states)


def _by_steps(repositories: Repositories, old: str, new: str, only: frozenset[str] | None) -> ChangeHistory:
    top = repositories.get(SUPER)
    steps = steps_between(top, old, new)
    asked = _Asked(repositories, steps, only, state_at(top, new) if steps else {})
    groups: list[tuple[Change, ...]] = []
    for step in steps:
        parts = [asked.changes_of(step, move) for move in step.moves]
        if len(parts) == 1:
            groups += [(change,) for change in parts[0]]
        elif any(parts):  # one step that moved several projects orders them not
            groups.append(tuple(change for part in parts for change in part))
    return ChangeHistory(
        tuple(groups), MergeOrder.STEPS, state_at(top, old), state_at(top, new), tuple(sorted(asked.notes))
    )


@dataclass(slots=True)
class _Asked:
    """What the clones know of the steps; each project's log is read once for the whole range."""

    repositories: Repositories
    steps: tuple[MergeStep, ...]
    only: frozenset[str] | None
    state: Mapping[str, str]
    notes: set[str] = field(default_factory=set)
    _ranges: dict[str, tuple[Change, ...] | None] = field(default_factory=dict)
    _libraries: dict[str, str] | None = None

    def changes_of(self, step: MergeStep, move: Move) -> tuple[Change, ...]:
        if move.new is None:
            self.notes.add(f"{move.project} was taken out")
            return ()
        merged = self._merged(move)
        if merged is None:
            return (self._told(step, move),)
        changes = tuple(replace(one, step=step.commit, merged_at=step.merged_at) for one in merged)
        if move.project == REQUIREMENTS:
            changes = tuple(self._opened(one) for one in changes)
        return changes

    def _merged(self, move: Move) -> tuple[Change, ...] | None:
        if move.new is None or (self.only is not None and move.project not in self.only):
            return None
        repository = self.repositories.find(move.project)
        if repository is None:
            self.notes.add(f"no clone of {move.project}: authors and files of its changes are not known")
            return None
        if move.old is None:
            self.notes.add(f"{move.project} is new: perfci does not look at its earlier history")
            return None
        whole = self._whole(move.project, repository)
        found = _part(whole, move.old, move.new) if whole is not None else None
        if found is not None:
            return found
        try:
            return as_changes(move.project, merged_between(repository, move.old, move.new))
        except RevisionUnknown:
            self.notes.add(f"the clone of {move.project} is too old: some commits are not in it")
            return None

    def _whole(self, project: str, repository: Repository) -> tuple[Change, ...] | None:
        """Return a project's changes over all steps; None where its ends are not on one line."""
        if project not in self._ranges:
            moves = [move for step in self.steps for move in step.moves if move.project == project]
            self._ranges[project] = None
            first, last = moves[0].old, moves[-1].new
            if first is not None and last is not None:
                with contextlib.suppress(RevisionUnknown):
                    merged = merged_between(repository, first, last)
                    self._ranges[project] = None if merged.rewritten else as_changes(project, merged)
        return self._ranges[project]

    def _told(self, step: MergeStep, move: Move) -> Change:
        """Return what the step's own message says."""
        commit = move.new or ""
        return Change(
            project=move.project,
            commit=commit,
            parent=move.old,
            subject=one_line(step.subject) or "(no subject)",
            author=None,
            change_id=step.change_id,
            merged_at=step.merged_at,
            files=None,
            link=link_to(move.project, commit, step.change_id),
            step=step.commit,
        )

    def _opened(self, change: Change) -> Change:
        repository = self.repositories.get(REQUIREMENTS)
        if self._libraries is None:
            self._libraries = {normal(project): project for project in self.state}
            # Only those that have clones can say that they build something of another name.
            cloned = {one: commit for one, commit in self.state.items() if self.repositories.find(one)}
            self._libraries.update(distributions(cloned, self.repositories.find))
        pins = opened(repository, change.parent, change.commit, self._libraries, self.repositories.find)
        return replace(change, pins=pins)


def _part(whole: tuple[Change, ...], old: str, new: str) -> tuple[Change, ...] | None:
    """Return a project's changes after one commit up to another; None where they are not on its line."""
    ends = [number for number, one in enumerate(whole, start=1) if one.commit == new]
    starts = [number for number, one in enumerate(whole) if one.parent == old]
    if not ends or not starts or starts[0] >= ends[0]:
        return None
    return whole[starts[0] : ends[0]]


def _by_dates(repositories: Repositories, old: Mapping[str, str], new: Mapping[str, str]) -> ChangeHistory:
    notes: list[str] = []
    dated: list[tuple[datetime, datetime, str, int, Change]] = []
    for project in sorted(old.keys() & new.keys()):
        if old[project] == new[project]:
            continue
        repository = repositories.find(project)
        if repository is None:
            notes.append(f"no clone of {project}: its changes are not known")
            continue
        merged = merged_between(repository, old[project], new[project])
        changes = as_changes(project, merged)
        if project == REQUIREMENTS:
            libraries = distributions(dict.fromkeys(new, "HEAD"), repositories.find)
            changes = tuple(
                replace(one, pins=opened(repository, one.parent, one.commit, libraries, repositories.find))
                for one in changes
            )
        spans = _merge_times(merged)
        dated += [
            (first, last, project, number, change)
            for number, ((first, last), change) in enumerate(zip(spans, changes, strict=True))
        ]
    only = sorted(old.keys() ^ new.keys())
    notes += [f"{one} is known at one end alone" for one in only]
    return ChangeHistory(tuple(_grouped(dated)), MergeOrder.DATES, old, new, tuple(notes))


def _merge_times(merged: Merged) -> list[tuple[datetime, datetime]]:
    """Return between which moments each commit of a line was merged.

    The date of a merge commit is that of merging. A commit that was put on the branch as it is (a
    fast-forward) has the date at which its author made it, hours to weeks earlier: only the merges around
    it say when it came.
    """
    earliest = datetime.min.replace(tzinfo=UTC)
    latest = datetime.max.replace(tzinfo=UTC)
    exact = [one.committed_at if one.is_merge else None for one in merged.line]
    spans = []
    for number, at in enumerate(exact):
        before = [one for one in exact[:number] if one is not None]
        after = [one for one in exact[number + 1 :] if one is not None]
        # A commit can't be merged before it was made.
        made = max([*before, merged.line[number].committed_at], default=earliest)
        spans.append((at, at) if at is not None else (made, min(after, default=latest)))
    return spans


def _grouped(
    dated: list[tuple[datetime, datetime, str, int, Change]],
) -> Iterator[tuple[Change, ...]]:
    """Order changes by the time at which they were merged; what can't be ordered is one group."""
    group: list[tuple[datetime, datetime, str, int, Change]] = []
    until: datetime | None = None
    for one in sorted(dated, key=lambda one: (one[0], one[2], one[3])):
        if group and until is not None and one[0] > until:
            yield from _split(group)
            group, until = [], None
        group.append(one)
        until = one[1] if until is None else max(until, one[1])
    yield from _split(group)


def _split(
    group: list[tuple[datetime, datetime, str, int, Change]],
) -> Iterator[tuple[Change, ...]]:
    """Give the changes of a single project one by one: their order is known."""
    if len({project for _, _, project, _, _ in group}) == 1:
        for one in sorted(group, key=lambda one: one[3]):
            yield (one[4],)
    elif group:
        yield tuple(one[4] for one in sorted(group, key=lambda one: (one[0], one[2], one[3])))
