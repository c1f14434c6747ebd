"""The bisect inside a change of requirements: pin after pin, and a library's changes one by one.

A change inside a library is installed from git over the pin of that library.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from perfci.analysis.bisect.machine import End
from perfci.changes.effect import why_without_effect
from perfci.changes.errors import GitFailed
from perfci.changes.model import REQUIREMENTS
from perfci.changes.suspects import Installed, kind_of, reaches
from perfci.runs.studies.bisect_course import BisectStep
from perfci.runs.verdicts.repositories import address

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from perfci.analysis.bisect.machine import BisectResult
    from perfci.changes.clones import Clones
    from perfci.changes.model import PinMove
    from perfci.runs.studies.bisect_course import CodeState
    from perfci.runs.studies.bisect_question import AskedBisect

_Z95 = 1.96


def question_inside(asked: AskedBisect, result: BisectResult) -> AskedBisect | None:
    """Return the question inside a change of requirements; None where that is not what was found."""
    if result.end is not End.CULPRIT or len(result.steps) != 1:
        return None
    number = result.steps[0]
    step = asked.course.steps[number - 1]
    if step.change.project != REQUIREMENTS or step.pin is not None:
        return None
    course = asked.course
    pins = [one for one in step.change.pins if reaches(one, course.installed)]
    walk = _PinWalk(course.before[number - 1])
    for pin in pins:
        walk.go(step, pin, course.clones)
    if len(walk.steps) < 2:  # noqa: PLR2004 - one is the culprit already
        return None
    libraries = {
        pin.package: address(course.settings, pin.project, course.clones)
        for pin in pins
        if pin.project is not None and any(one.library == pin.package for one in walk.steps)
    }
    middle, low, high = (math.log1p(one or 0.0) for one in (result.effect, result.low, result.high))
    weights = tuple(one.plausibility for one in walk.steps)
    moved = ", ".join(f"{one.package} {one.before or 'new'} → {one.after or 'gone'}" for one in pins)
    return replace(
        asked,
        title=f"{step.change.name}, {moved}",
        question=replace(
            asked.question,
            plausibility=tuple(one / sum(weights) for one in weights),
            effect=middle,
            effect_error=(high - low) / (2 * _Z95),
            revert=False,
        ),
        course=replace(
            course,
            steps=tuple(walk.steps),
            revisions=(course.before[number - 1], *walk.after[:-1], course.after[number - 1]),
            before=tuple(walk.before),
            after=tuple(walk.after),
            head=None,
            addresses={**course.addresses, **libraries},
            refused=dict(_refused(walk.steps, course.clones, pins)),
            _jobs={},
        ),
        notes=(),
    )


class _PinWalk:
    """The way from the old pins to the new ones: pin after pin, a library's changes one by one."""

    def __init__(self, start: CodeState) -> None:
        self.state = start
        self.steps: list[BisectStep] = []
        self.before: list[CodeState] = []
        self.after: list[CodeState] = []

    def go(self, step: BisectStep, pin: PinMove, clones: Clones) -> None:
        """Move one pin."""
        known = pin.changes if pin.project is not None and clones.find(pin.project) is not None else ()
        for change in known:
            inside = BisectStep(change, 1.0, library=pin.package)
            if change.files is not None and all(kind_of(one) is not None for one in change.files):
                self.state = self.state.with_step(inside, _NOTHING)
            else:
                self._step(inside)
        if not any(one.library == pin.package for one in self.steps):
            self._step(BisectStep(step.change, 1.0, pin=pin))
        libraries = {name: one for name, one in self.state.libraries.items() if name != pin.package}
        self.state = replace(
            self.state, libraries=libraries, pins={**self.state.pins, pin.package: pin.after}
        )

    def _step(self, step: BisectStep) -> None:
        self.steps.append(step)
        self.before.append(self.state)
        self.state = self.state.with_step(step, _NOTHING)
        self.after.append(self.state)


_NOTHING = Installed(frozenset())


def _refused(steps: list[BisectStep], clones: Clones, pins: list[PinMove]) -> Iterator[tuple[int, str]]:
    """Say which changes of libraries can't be the culprit."""
    projects: Mapping[str, str | None] = {one.package: one.project for one in pins}
    for number, step in enumerate(steps, start=1):
        project = projects.get(step.library or "")
        repository = clones.find(project) if project else None
        if repository is None or project is None:
            continue
        try:
            why = why_without_effect(repository, step.change, Installed(frozenset({project})))
        except GitFailed:
            continue  # what the copy has not got stays a suspect
        if why is not None:
            yield number, why
