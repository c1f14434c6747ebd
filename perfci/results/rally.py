"""Rally's JSON report (`rally task report --json`, format_version 1.x) as measurements.

The format is that of Rally's own exporter (rally/plugins/task/exporters/json_exporter.py, revision
1.2): tasks → subtasks → workloads → data, one entry of `data` for each iteration.

What the numbers mean here:

- `total` is Rally's `duration`. Rally takes the time that the scenario chose to sleep
  (`idle_duration`) out of it; its own report adds it again and calls the sum "total". Sleep is not
  work of the cloud, so it stays out: it would hide part of a change, or add the noise of a random pause.
- An atomic action is measured from its start to its end, pauses inside it included (Rally does not say
  which action slept). So the actions of an iteration can add up to more than `total`.
- Actions of one name in one iteration are added up, nested ones too; a number behind the name, as older
  Rally wrote for repetitions (`nova.boot_server (2)`), is not part of the name. Inside an action of the
  same name nothing is counted twice. An action that calls itself `total` gives way to the iteration's.
- Warm-up iterations are the first ones by start. They and failed iterations give no timings. An action
  that failed or never ended gives no timing for its iteration, even where the iteration went on.
- Rally measures with the wall clock. An iteration in which a duration is negative ran while the clock was set
  back: none of its times can be trusted. It is left out, neither attempted nor failed, and counted.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from perfci.results.errors import ReportError
from perfci.results.files import FromFile, Moment, Name, parse, place, read_bytes
from perfci.results.model import TOTAL, Measurement, Metric, SeriesKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

_KNOWN_FORMAT = re.compile(r"1\.\d+")
_REPETITION = re.compile(r" \(\d+\)$")
_DIGEST_DIGITS = 8
_Duration = Annotated[float, Field(ge=-8e9, le=1e18, allow_inf_nan=False)]
"""Seconds; negative where the clock was set back."""


class _Action(FromFile):
    name: Name
    started_at: Moment | None
    finished_at: Moment | None = None
    failed: bool = False
    children: list[_Action] = Field(default_factory=list)

    @property
    def backwards(self) -> bool:
        """Whether it, or an action inside it, ended before it started."""
        took = (
            None
            if self.started_at is None or self.finished_at is None
            else self.finished_at - self.started_at
        )
        return (took is not None and took < 0) or any(child.backwards for child in self.children)

    @property
    def seconds(self) -> float | None:
        """How long it took; None where it failed or never ended."""
        if self.failed or self.started_at is None or self.finished_at is None:
            return None
        return self.finished_at - self.started_at


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

    @property
    def backwards(self) -> bool:
        """Whether the clock was set back while it ran."""
        return self.duration < 0 or any(action.backwards for action in self.atomic_actions)


class _Workload(FromFile):
    scenario: Annotated[dict[Name, Any], Field(min_length=1, max_length=1)]
    runner: Annotated[dict[Name, Any], Field(min_length=1, max_length=1)]
    contexts: dict[str, Any]
    data: list[_Iteration]

    @property
    def name(self) -> str:
        return next(iter(self.scenario))


class _Subtask(FromFile):
    workloads: Annotated[list[_Workload], Field(min_length=1)]


class _Task(FromFile):
    subtasks: Annotated[list[_Subtask], Field(min_length=1)]


class _Report(FromFile):
    tasks: Annotated[list[_Task], Field(min_length=1)]


class _Info(FromFile):
    format_version: Name


class _Header(FromFile):
    info: _Info


@dataclass(frozen=True, slots=True)
class Load:
    """One scenario of a report: what was run, how often, and what it took.

    `iterations` counts all of them, warm-up and failed ones too. `measurements` holds the timings of
    `total` and of each atomic action, and the failure rate; `outputs` what measured iterations that did
    not fail put into the report beside these. `dropped` counts measured iterations that were left out
    because the clock was set back while they ran.
    """

    scenario: str
    arguments: str
    iterations: int
    measurements: tuple[Measurement, ...]
    outputs: tuple[Output, ...] = ()
    dropped: int = 0

    @property
    def total(self) -> Measurement:
        """The seconds of whole iterations."""
        return next(m for m in self.measurements if (m.key.action, m.key.metric) == (TOTAL, Metric.SECONDS))


def read_report(path: Path, *, lab: str, job: str, run_id: str, warmup: int = 0) -> tuple[Load, ...]:
    """Read a report; `warmup` iterations of each workload are left out.

    Workloads with the same scenario and arguments become one load. Where all iterations failed, the
    measurements have no values, and say how many failed. Where the clock was set back, see `Load.dropped`.

    Raises ReportError where the file can't be read, is not JSON to its end, is of another
    format_version than 1.x, has no tasks, a workload without measured iterations, or a number that no
    duration can have.
    """
    content = read_bytes(path, ReportError)
    version = parse(content, _Header, path=path, error=ReportError).info.format_version
    if not _KNOWN_FORMAT.fullmatch(version):
        raise ReportError(
            path=path, place="info.format_version", found=f"got {version!r}", expected="a version 1.x"
        )
    report = parse(content, _Report, path=path, error=ReportError)
    loads: dict[tuple[str, str], list[list[_Iteration]]] = {}
    for where, workload in _workloads(report):
        if len(workload.data) <= warmup:
            raise ReportError(
                path=path,
                place=f"{where}.data",
                found=f"{len(workload.data)} iterations of {workload.name}",
                expected=f"at least one after {warmup} for warm-up",
            )
        loads.setdefault((workload.name, arguments_digest(workload)), []).append(workload.data)
    return tuple(
        _load(_Names(lab, job, run_id, scenario, arguments), workloads, warmup)
        for (scenario, arguments), workloads in loads.items()
    )


def arguments_digest(workload: _Workload) -> str:
    """Return the digest of what makes two workloads comparable: arguments, runner and contexts.

    How often the runner repeats it (`times`) is not part of it, nor is the order of keys, nor the folder
    of a file that an argument names: a lab may move its files.
    """
    runner = {
        kind: {key: value for key, value in settings.items() if key != "times"}
        if isinstance(settings, dict)
        else settings
        for kind, settings in workload.runner.items()
    }
    parts = _without_folders({"scenario": workload.scenario, "runner": runner, "contexts": workload.contexts})
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_DIGITS]


def _without_folders(value: Any) -> Any:
    """Return JSON with the last part alone of each text that is an absolute path."""
    if isinstance(value, dict):
        return {key: _without_folders(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_folders(one) for one in value]
    return PurePosixPath(value).name if isinstance(value, str) and value.startswith("/") else value


@dataclass(frozen=True, slots=True)
class _Names:
    lab: str
    job: str
    run_id: str
    scenario: str
    arguments: str

    def key(self, action: str, metric: Metric) -> SeriesKey:
        return SeriesKey(self.lab, self.job, self.scenario, self.arguments, action, metric)


def _workloads(report: _Report) -> Iterator[tuple[str, _Workload]]:
    for t, task in enumerate(report.tasks):
        for s, subtask in enumerate(task.subtasks):
            for w, workload in enumerate(subtask.workloads):
                yield place(("tasks", t, "subtasks", s, "workloads", w)), workload


def _load(names: _Names, workloads: Sequence[Sequence[_Iteration]], warmup: int) -> Load:
    timed = _in_order(i for data in workloads for i in _in_order(data)[warmup:])
    measured = [iteration for iteration in timed if not iteration.backwards]
    failures = sum(bool(iteration.error) for iteration in measured)
    # The names of all actions, so that one which only ever failed is still a series, without values.
    timings: dict[str, list[tuple[float, float]]] = {TOTAL: []}
    for iteration in timed:
        if iteration.backwards:
            for action, _ in _flat(iteration.atomic_actions, frozenset()):
                timings.setdefault(action, [])
            continue
        times = {**_action_seconds(iteration.atomic_actions), TOTAL: iteration.duration}
        for action, seconds in times.items():
            values = timings.setdefault(action, [])
            if seconds is not None and not iteration.error:
                values.append((iteration.timestamp, seconds))

    def measurement(action: str, metric: Metric, points: Sequence[tuple[float, float]]) -> Measurement:
        return Measurement(
            key=names.key(action, metric),
            run_id=names.run_id,
            values=tuple(value for _, value in points),
            timestamps=tuple(time for time, _ in points),
            attempts=len(measured),
            failures=failures,
        )

    rate = [(measured[0].timestamp, failures / len(measured))] if measured else []
    return Load(
        scenario=names.scenario,
        arguments=names.arguments,
        iterations=sum(map(len, workloads)),
        measurements=(
            *(measurement(action, Metric.SECONDS, timings[action]) for action in timings),
            measurement(TOTAL, Metric.FAILURE_RATE, rate),
        ),
        outputs=tuple(one for i in measured if not i.error for one in i.output.complete),
        dropped=len(timed) - len(measured),
    )


def _in_order(iterations: Iterable[_Iteration]) -> list[_Iteration]:
    return sorted(iterations, key=lambda iteration: iteration.timestamp)


def _action_seconds(actions: Sequence[_Action]) -> dict[str, float | None]:
    """Return the seconds of each action by name; None where a part of it failed or never ended."""
    seconds: dict[str, float | None] = {}
    for name, took in _flat(actions, frozenset()):
        before = seconds.get(name, 0.0)
        seconds[name] = None if took is None or before is None else before + took
    return seconds


def _flat(actions: Sequence[_Action], inside: frozenset[str]) -> Iterator[tuple[str, float | None]]:
    for action in actions:
        name = _REPETITION.sub("", action.name)
        if name not in inside:
            yield name, action.seconds
        yield from _flat(action.children, inside | {name})
