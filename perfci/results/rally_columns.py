"""What the iterations of one Rally workload took, in columns: a number in memory is a number, not an object.

`WorkloadColumns.add` takes one iteration at a time as JSON; nothing else of it is kept. An iteration that is
as Rally writes it is taken as it is. All others are checked by their model first (`_Iteration`).
"""

from __future__ import annotations

import json
import re
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from perfci.results.errors import ReportError
from perfci.results.files import FromFile, Moment, Name, parse
from perfci.results.model import TOTAL

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_REPETITION = re.compile(r" \(\d+\)$")
_LATEST, _SHORTEST, _LONGEST = 8e9, -8e9, 1e18
_NONE = float("nan")
_Duration = Annotated[float, Field(ge=_SHORTEST, le=_LONGEST, allow_inf_nan=False)]
"""Seconds; negative where the clock was set back."""
_FAILED, _BACKWARDS = 1, 2


class _Action(FromFile):
    name: Name
    started_at: Moment | None
    finished_at: Moment | None = None
    failed: bool = False
    children: list[_Action] = Field(default_factory=list)


class Output(FromFile):
    """What a scenario put into the report beside its timings, by its title; what `data` is, it knows."""

    title: str
    data: Any


class _Outputs(FromFile):
    complete: list[Output] = Field(default_factory=list)


class _Iteration(FromFile):
    timestamp: Moment
    duration: _Duration
    error: list[Any]
    atomic_actions: list[_Action]
    output: _Outputs = _Outputs()


class _Unusual(Exception):
    """An iteration is not quite as Rally writes it: it may be wrong, or only have more in it."""


@dataclass(frozen=True, slots=True)
class ActionColumn:
    """One atomic action: the numbers of the iterations that had it, and its seconds there, NaN for none."""

    iterations: array[int] = field(default_factory=lambda: array("L"))
    seconds: array[float] = field(default_factory=lambda: array("d"))


@dataclass(slots=True)
class WorkloadColumns:
    """The iterations of one workload, in the order of the report."""

    started: array[float] = field(default_factory=lambda: array("d"))
    durations: array[float] = field(default_factory=lambda: array("d"))
    flags: bytearray = field(default_factory=bytearray)
    actions: dict[str, ActionColumn] = field(default_factory=dict)
    outputs: dict[int, tuple[Output, ...]] = field(default_factory=dict)
    """By the iteration's number."""
    _plain: dict[str, str] = field(default_factory=dict)
    """The name of each action without the number of its repetition."""

    def __len__(self) -> int:
        return len(self.flags)

    def add(self, iteration: Any, *, path: Path, place: str) -> None:
        """Take one iteration. Raises ReportError, which calls the iteration `place`."""
        try:
            self._add(iteration)
        except _Unusual:
            text = json.dumps(iteration).encode()
            checked = parse(text, _Iteration, path=path, error=ReportError, inside=place)
            if checked.output.complete:
                self.outputs[len(self)] = tuple(checked.output.complete)
            self._add(checked.model_dump(exclude={"output"}))

    @property
    def failed(self) -> NDArray[np.bool_]:
        """Which iterations failed."""
        return self._flagged(_FAILED)

    @property
    def backwards(self) -> NDArray[np.bool_]:
        """During which iterations the clock was set back."""
        return self._flagged(_BACKWARDS)

    def has(self, action: str) -> NDArray[np.bool_]:
        """Return which iterations had an action."""
        found = np.zeros(len(self), dtype=bool)
        if column := self.actions.get(action):
            found[np.asarray(column.iterations)] = True
        return found

    def seconds(self, action: str) -> NDArray[np.float64]:
        """Return the seconds of an action, or `total`, in each iteration; NaN where it has none."""
        if action == TOTAL:
            return np.frombuffer(self.durations, np.float64)
        found = np.full(len(self), np.nan)
        if column := self.actions.get(action):
            found[np.asarray(column.iterations)] = column.seconds
        return found

    def _flagged(self, flag: int) -> NDArray[np.bool_]:
        flags: NDArray[np.uint8] = np.frombuffer(self.flags, np.uint8)
        return np.bitwise_and(flags, flag).astype(np.bool_)

    def _add(self, one: Any) -> None:
        """Take an iteration that is as it should be. Raises _Unusual, and takes nothing then."""
        try:
            start, duration, error = one["timestamp"], one["duration"], one["error"]
            actions = one["atomic_actions"]
            output = one.get("output", _NO_OUTPUT[0])
        except (KeyError, TypeError, AttributeError):
            raise _Unusual from None
        if (
            type(start) not in _NUMBERS
            or type(duration) not in _NUMBERS
            or type(error) is not list
            or not (0 <= start <= _LATEST and _SHORTEST <= duration <= _LONGEST)
            or output not in _NO_OUTPUT
        ):
            raise _Unusual
        seconds: dict[str, float] = {}
        backwards = self._collect(actions, (), seconds) or duration < 0
        number = len(self.flags)
        for name, took in seconds.items():
            column = self.actions.get(name)
            if column is None:
                column = self.actions[name] = ActionColumn()
            column.iterations.append(number)
            column.seconds.append(took)
        self.started.append(start)
        self.durations.append(duration)
        self.flags.append((_FAILED if error else 0) | (_BACKWARDS if backwards else 0))

    def _collect(self, actions: Any, inside: tuple[str, ...], seconds: dict[str, float]) -> bool:
        """Add up the seconds of each action by name; say whether the clock was set back in one."""
        if type(actions) is not list:
            raise _Unusual
        backwards = False
        for action in actions:
            try:
                name = self._plain.get(action["name"]) or self._named(action["name"])
                start, end = action["started_at"], action.get("finished_at")
                failed, children = action.get("failed", False), action.get("children", _NO_CHILDREN)
            except (KeyError, TypeError, AttributeError):
                raise _Unusual from None
            took = _took(start, end)
            backwards = backwards or took < 0
            if failed is True:
                took = _NONE
            elif failed is not False:
                raise _Unusual
            if name not in inside and name != TOTAL:
                seconds[name] = seconds.get(name, 0.0) + took
            if children != _NO_CHILDREN:
                backwards = self._collect(children, (*inside, name), seconds) or backwards
        return backwards

    def _named(self, name: Any) -> str:
        """Return an action's name without the number of its repetition, and remember it."""
        if type(name) is not str or not name:
            raise _Unusual
        try:
            name.encode()  # half a surrogate pair can be written in JSON, and nowhere else
        except UnicodeEncodeError:
            raise _Unusual from None
        self._plain[name] = plain = _REPETITION.sub("", name)
        return plain


def _took(start: Any, end: Any) -> float:
    """Return the seconds between two moments; NaN where one of them is not known."""
    for moment in (start, end):
        if moment is not None and (type(moment) not in _NUMBERS or not 0 <= moment <= _LATEST):
            raise _Unusual
    return _NONE if start is None or end is None else float(end - start)


_NUMBERS = frozenset({float, int})
_NO_OUTPUT: Sequence[dict[str, Any]] = ({"additive": [], "complete": []}, {"complete": []}, {})
_NO_CHILDREN: list[Any] = []
