"""What a bisect deploys: the code after each suspect, and the newest code with one of them taken back.

A state is the commit of every service that moves between the ends and the version of every pin that does. It
is walked from the good end through all changes in their order, so that what is no suspect is there, too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from perfci.analysis.bisect.model import BisectPoint, Kind
from perfci.changes.errors import GitFailed
from perfci.changes.model import REQUIREMENTS
from perfci.changes.pin_moves import normal
from perfci.changes.suspects import reaches
from perfci.files import write_whole
from perfci.parsing import json_value, yaml_value
from perfci.runs.ansible.lab_playbooks import CONSTRAINTS_VARIABLE, REQUIREMENTS_VARIABLE
from perfci.runs.jobs.sources import Reference, Source, Sources
from perfci.runs.state.digests import digest
from perfci.runs.studies.bisect_revert import NotRevertedError, reverse_patch
from perfci.runs.studies.pins import CONSTRAINTS, ROLE, keep_copy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from perfci.changes.clones import Clones
    from perfci.changes.model import Change, PinMove
    from perfci.changes.suspects import Installed
    from perfci.config import Settings
    from perfci.runs.jobs.model import Job

FOLDER = "bisect"
"""Where patches and constraints files are kept, below the state folder."""
KEPT = "openstack_code_keep"
ENVIRONMENTS = 16
"""So many environments are kept while a bisect goes from one revision to another."""
_DIGITS = 12
_PIN = re.compile(r"^\s*(?P<name>[A-Za-z0-9][\w.-]*)\s*==")


@dataclass(frozen=True, slots=True)
class BisectStep:
    """One suspect: a change of a project, or one pin of a change of requirements (`pin`).

    `library` is the distribution whose code the change is of, where that is installed over its pin.
    """

    change: Change
    plausibility: float
    pin: PinMove | None = None
    library: str | None = None

    @property
    def name(self) -> str:
        """How people call it: `neutron 1f2e3d4c5b`, `requirements 1f2e3d4c5b (oslo.db 17.0 → 18.0)`."""
        if self.pin is None:
            return self.change.name
        moved = f"{self.pin.package} {self.pin.before or 'new'} → {self.pin.after or 'gone'}"
        return f"{self.change.name} ({moved})"


@dataclass(frozen=True, slots=True)
class CodeState:
    """What is deployed: commits by service, versions by pin, and commits by library that replaces its pin.

    A pin without a version (None) is taken out.
    """

    services: Mapping[str, str] = field(default_factory=dict)
    pins: Mapping[str, str | None] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)

    def after(self, change: Change, installed: Installed) -> CodeState:
        """Return the state with one more change merged; one of what is not deployed changes nothing."""
        if change.project in self.services:
            return replace(self, services={**self.services, change.project: change.commit})
        if change.project == REQUIREMENTS:
            moved = {one.package: one.after for one in change.pins if reaches(one, installed)}
            return replace(self, pins={**self.pins, **moved})
        return self

    def with_step(self, step: BisectStep, installed: Installed) -> CodeState:
        """Return the state after a step, which may be a pin alone or a change inside a library."""
        if step.library is not None:
            return replace(self, libraries={**self.libraries, step.library: step.change.commit})
        if step.pin is not None:
            return replace(self, pins={**self.pins, step.pin.package: step.pin.after})
        return self.after(step.change, installed)


def walked(
    start: CodeState, changes: Sequence[Change], steps: Mapping[int, BisectStep], installed: Installed
) -> tuple[tuple[CodeState, ...], tuple[CodeState, ...], tuple[CodeState, ...]]:
    """Return the revisions (one more than steps), and the states right before and right after each step.

    `steps` are the suspects by their place among all `changes`. The last revision is the bad end itself, with
    all that was merged after the last suspect.
    """
    state, before, after = start, [], []
    for place, change in enumerate(changes):
        if (step := steps.get(place)) is None:
            state = state.after(change, installed)
            continue
        before.append(state)
        state = state.with_step(step, installed)
        after.append(state)
    return (start, *after[:-1], state), tuple(before), tuple(after)


@dataclass(frozen=True, slots=True)
class BisectCourse:
    """Where a bisect can measure: its steps, the states between them, and the job that deploys each.

    `job` has the scenarios that are measured, and exact sources for what does not move. `head` is the newest
    state, None where the proof by revert is not wanted. `refused` says of steps, by number from 1, why they
    can't be the culprit. `beside` runs beside every state, so that both are measured in pairs; None where one
    cloud runs at a time.
    """

    settings: Settings
    clones: Clones
    job: Job
    steps: tuple[BisectStep, ...]
    revisions: tuple[CodeState, ...]
    before: tuple[CodeState, ...]
    after: tuple[CodeState, ...]
    head: CodeState | None
    addresses: Mapping[str, str]
    installed: Installed
    refused: Mapping[int, str] = field(default_factory=dict)
    beside: CodeState | None = None
    _jobs: dict[BisectPoint, Job] = field(default_factory=dict)

    def job_of(self, point: BisectPoint) -> Job:
        """Return the job that deploys a point. Raises NotRevertedError for one that can't be taken back."""
        if point not in self._jobs:
            self._jobs[point] = self._made(point)
        return self._jobs[point]

    def identity_of(self, point: BisectPoint) -> str:
        """Return what tells runs of this point's code from all others. Raises NotRevertedError."""
        return identity(self.job_of(point))

    def _made(self, point: BisectPoint) -> Job:
        index = point.index
        match point.kind:
            case Kind.REVISION:
                return self._job(self.revisions[index])
            case Kind.PARENT:
                return self._job(self.before[index - 1])
            case Kind.CHANGE:
                return self._job(self.after[index - 1])
            case Kind.HEAD:
                return self._job(self._newest())
            case Kind.REVERTED:
                return self._reverted(self.steps[index - 1])

    def _newest(self) -> CodeState:
        if self.head is None:
            raise NotRevertedError("the newest revision is not known")
        return self.head

    def _reverted(self, step: BisectStep) -> Job:
        head, change = self._newest(), step.change
        if change.project == REQUIREMENTS:
            return self._job(_pins_back(head, step))
        commit = head.services.get(change.project)
        if commit is None:
            raise NotRevertedError(f"{change.project} is not deployed from git")
        if self.job.cloud.kind == "devstack":
            raise NotRevertedError("clouds by devstack take no patches")
        try:
            patch = reverse_patch(self.clones.get(change.project), change, commit)
        except GitFailed as error:
            raise NotRevertedError(str(error)) from error
        folder = self.settings.state_dir / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{digest(patch)}.patch"
        write_whole(file, patch)
        return self._job(head, {change.project: file})

    def _job(self, state: CodeState, patches: Mapping[str, Path] | None = None) -> Job:
        variables = {**self.job.cloud.variables, KEPT: ENVIRONMENTS, **self._around(state)}
        if self.job.cloud.kind == "devstack":
            del variables[KEPT]
        return self.job.model_copy(
            update={
                "sources": self._sources(state, patches or {}),
                "cloud": self.job.cloud.model_copy(update={"variables": variables}),
                "reference": self._reference(state),
            }
        )

    def _sources(self, state: CodeState, patches: Mapping[str, Path]) -> Sources:
        sources: dict[str, Source] = {}
        for service, commit in state.services.items():
            known: Source = getattr(self.job.sources, service) or Source()
            more = (str(patches[service]),) if service in patches else ()
            sources[service] = known.model_copy(
                update={
                    "version": None,
                    "git": self.addresses[service],
                    "ref": commit,
                    "patches": (*known.patches, *more),
                }
            )
        return self.job.sources.model_copy(update=sources)

    def _reference(self, state: CodeState) -> Reference | None:
        """Return the code that runs beside a state; None where one cloud runs alone."""
        if self.beside is None:
            return None
        own, beside = self._around(state), self._around(self.beside)
        if REQUIREMENTS_VARIABLE in own and REQUIREMENTS_VARIABLE not in beside:
            beside[REQUIREMENTS_VARIABLE] = self.job.cloud.variables.get(REQUIREMENTS_VARIABLE)
        return Reference.of(self._sources(self.beside, {}), variables=beside)

    def _around(self, state: CodeState) -> dict[str, Any]:
        """Return the variables for what is installed around the services; none where nothing of it moves."""
        if not state.pins and not state.libraries:
            return {}
        known = self.job.cloud.variables.get(CONSTRAINTS_VARIABLE)
        text = (self.settings.root_dir / str(known or CONSTRAINTS)).read_text(encoding="utf-8")
        pinned = pins_moved(text, {**state.pins, **dict.fromkeys(state.libraries)})
        found: dict[str, Any] = {
            CONSTRAINTS_VARIABLE: str(keep_copy(self.settings.state_dir / FOLDER, pinned)),
        }
        if state.libraries:
            found[REQUIREMENTS_VARIABLE] = [
                *self._requirements(),
                *(self._library(name, one) for name, one in sorted(state.libraries.items())),
            ]
        return found

    def _requirements(self) -> list[str]:
        """Return what the job's clouds install beside the services."""
        own = self.job.cloud.variables.get(REQUIREMENTS_VARIABLE)
        if isinstance(own, list):
            return [str(one) for one in own]
        defaults = yaml_value(
            (self.settings.root_dir / ROLE / "defaults/main.yml").read_text(encoding="utf-8")
        )
        usual: list[str] = defaults[REQUIREMENTS_VARIABLE]
        return usual

    def _library(self, name: str, commit: str) -> str:
        url = self.addresses[name]
        return f"{name} @ git+{url if '://' in url else f'file://{url}'}@{commit}"


def identity(job: Job) -> str:
    """Return a digest over what a job deploys and measures: its runs can take each other's places."""
    parts = {"job": job.job_digest, "sources": json_value(job.sources.model_dump_json(exclude_none=True))}
    if job.reference is not None:
        parts["reference"] = json_value(job.reference.model_dump_json(exclude_none=True))
    return digest(parts)


def pins_moved(text: str, pins: Mapping[str, str | None]) -> str:
    """Return a constraints file with some pins at other versions; None takes a pin out.

    All lines of a package become one; a package that the file does not have is added.
    """
    left = {normal(name): version for name, version in pins.items()}
    lines: list[str] = []
    written: set[str] = set()
    for line in text.splitlines():
        found = _PIN.match(line)
        name = normal(found["name"]) if found else ""
        if name not in left:
            lines.append(line)
        elif name not in written and left[name] is not None:
            lines.append(f"{name}=={left[name]}")
        written.add(name)
    lines += [
        f"{name}=={version}" for name, version in sorted(left.items()) if version and name not in written
    ]
    return "\n".join(lines) + "\n"


def _pins_back(head: CodeState, step: BisectStep) -> CodeState:
    """Return the newest state with the pins of a step where they were. Raises NotRevertedError."""
    pins = [step.pin] if step.pin is not None else step.change.pins
    back: dict[str, str | None] = {}
    for pin in pins:
        if pin.package not in head.pins:
            continue
        if head.pins[pin.package] != pin.after:
            raise NotRevertedError(f"the pin of {pin.package} has moved on")
        back[pin.package] = pin.before
    return replace(head, pins={**head.pins, **back})
