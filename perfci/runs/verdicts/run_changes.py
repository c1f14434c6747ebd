"""Which changes came between two runs, and which of them can have made a scenario slower."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from perfci.changes.between import CodeMoment, changes_between
from perfci.changes.model import REQUIREMENTS
from perfci.changes.pin_moves import distributions, moved_versions, normal, with_changes
from perfci.changes.suspects import Installed, sift
from perfci.results.record import record_from_dict
from perfci.runs.jobs.clouds import SERVICES
from perfci.wording import NBSP, counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from perfci.changes.clones import Clones
    from perfci.changes.model import Change, ChangeHistory, PinMove
    from perfci.changes.suspects import Left, SlowTarget, Suspect
    from perfci.results.model import ServiceRevision

STEP = "step"
"""Where run.json has the step of openstack/openstack that was deployed."""
_WHEEL = "wheel"
_DISTRIBUTIONS = frozenset({*SERVICES, "openstack-placement"})


@dataclass(frozen=True, slots=True)
class RunChanges:
    """What came between two moments, and what of it can matter.

    `suspects` are the most plausible first. `packages` are the versions of libraries that differ between
    the two runs themselves; None where it was not two runs that were asked for.
    """

    history: ChangeHistory
    suspects: tuple[Suspect, ...]
    left_out: tuple[tuple[Change, Left], ...]
    packages: tuple[PinMove, ...] | None = None

    @property
    def product_is_out(self) -> bool:
        """Whether nothing that the cloud runs changed, as far as git and the packages tell."""
        return not self.suspects and self.packages == () and not self.history.notes

    @property
    def summary(self) -> str:
        """How many there are: `35 changes, 2 suspects; left out: 32 (the cloud does not install it)`."""
        whole = f"{counted(len(self.history.changes), 'change')}, {counted(len(self.suspects), 'suspect')}"
        counts = Counter(str(why) for _, why in self.left_out)
        out = ", ".join(f"{number} ({why})" for why, number in counts.most_common())
        return (f"{whole}; left out: {out}" if out else whole).replace(NBSP, " ")

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a person has to know beside the list, one sentence a line."""
        found = [self.summary + "."]
        if not self.history.ordered:
            found.append("Merge dates do not tell the order of some changes in different projects.")
        found += ["; ".join(part for part in _words(one) if part) + "." for one in self.packages or ()]
        found += [f"{one}." for one in self.history.notes]
        if self.product_is_out:
            found.append("Nothing that the cloud runs changed, so the code under test can't be the cause.")
        return tuple(found)

    def as_dict(self) -> dict[str, Any]:
        """Return it for `--json`: every change in the order of merging, and why it is a suspect or not."""
        share = {one.place: one.plausibility for one in self.suspects}
        why = {(one.project, one.commit): str(left) for one, left in self.left_out}
        groups = [number for number, group in enumerate(self.history.groups) for _ in group]
        return {
            "order": str(self.history.order),
            "ordered": self.history.ordered,
            "notes": list(self.history.notes),
            "changes": [
                {
                    **change_as_dict(one),
                    "group": groups[place],
                    "suspect": place in share,
                    "plausibility": share.get(place),
                    "left_out": why.get((one.project, one.commit)),
                }
                for place, one in enumerate(self.history.changes)
            ],
            "packages": None if self.packages is None else [_pin(one) for one in self.packages],
        }


def _words(pin: PinMove) -> tuple[str, ...]:
    moved = f"{pin.package} {pin.before or 'new'} → {pin.after or 'gone'}"
    inside = counted(len(pin.changes), "change").replace(NBSP, " ") if pin.changes else ""
    return moved, inside, pin.note


def change_as_dict(change: Change) -> dict[str, Any]:
    """Return a change as plain values for JSON."""
    return {
        "project": change.project,
        "commit": change.commit,
        "parent": change.parent,
        "subject": change.subject,
        "author": change.author.name if change.author else None,
        "address": change.author.address if change.author else None,
        "change_id": change.change_id,
        "merged_at": change.merged_at.isoformat(),
        "files": None if change.files is None else list(change.files),
        "link": change.link,
        "step": change.step,
        "pins": [_pin(one) for one in change.pins],
        "note": change.note,
    }


def _pin(pin: PinMove) -> dict[str, Any]:
    return {
        "package": pin.package,
        "before": pin.before,
        "after": pin.after,
        "project": pin.project,
        "note": pin.note,
        "changes": [change_as_dict(one) for one in pin.changes],
    }


def between_runs(
    clones: Clones, before: Mapping[str, Any], after: Mapping[str, Any], target: SlowTarget | None = None
) -> RunChanges:
    """Return the changes between two runs, given their run.json.

    With the steps of both the super-repository orders them; else the revisions of their services do, where a
    release counts as its tag. Raises what `changes_between` raises.
    """
    ends = [_moment(one, clones) for one in (before, after)]
    packages = tuple(_packages(before, after, clones))
    services = frozenset(one.service for one in _services(after))
    history = changes_between(clones, *ends, only={*services, REQUIREMENTS})
    history = replace(history, notes=(*history.notes, *_unlike_steps(before), *_unlike_steps(after)))
    installed = Installed(services, frozenset(one.package for one in packages))
    sifted = sift(history, installed, target)
    return RunChanges(history, sifted.suspects, sifted.left_out, packages)


def between_moments(
    clones: Clones, old: CodeMoment, new: CodeMoment, installed: Installed, target: SlowTarget | None = None
) -> RunChanges:
    """Return the changes between two moments, for a cloud that installs this. Raises as `changes_between`."""
    history = changes_between(clones, old, new, only={*installed.projects, REQUIREMENTS})
    sifted = sift(history, installed, target)
    return RunChanges(history, sifted.suspects, sifted.left_out)


def moment_of_run(document: Mapping[str, Any], clones: Clones) -> CodeMoment:
    """Return the moment that a run deployed, given its run.json."""
    return _moment(document, clones)


def _moment(document: Mapping[str, Any], clones: Clones) -> CodeMoment:
    step = document.get(STEP)
    if isinstance(step, str) and step:
        return CodeMoment(step=step)
    found = {}
    for service in _services(document):
        repository = clones.find(service.service)
        name = f"refs/tags/{service.version}" if service.source == _WHEEL else service.revision
        commit = repository.find(name) if repository is not None else None
        # What no clone knows is kept as it is: the error then says which revision is missing where.
        found[service.service] = commit or name
    return CodeMoment(revisions=found)


def _services(document: Mapping[str, Any]) -> tuple[ServiceRevision, ...]:
    return record_from_dict(document).code.services


def _unlike_steps(document: Mapping[str, Any]) -> Iterator[str]:
    """Say which services of a run were changed beside its step."""
    if document.get(STEP):
        for one in _services(document):
            if one.changes:
                yield f"{one.service} of {document['run_id']} has {', '.join(one.changes)} on top"


def _packages(before: Mapping[str, Any], after: Mapping[str, Any], clones: Clones) -> Iterator[PinMove]:
    moves = [
        one
        for one in moved_versions(before.get("versions", {}), after.get("versions", {}))
        if one.package not in _DISTRIBUTIONS
    ]
    for move in moves:
        known = [
            name
            for name in dict.fromkeys((move.package, move.package.replace("-", ".")))
            if clones.find(name)
        ]
        names = {normal(one): one for one in known} | distributions(dict.fromkeys(known, "HEAD"), clones.find)
        yield with_changes(move, names.get(move.package), clones.find)
