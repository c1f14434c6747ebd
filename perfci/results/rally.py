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

import numpy as np
from pydantic import Field

from perfci.results.errors import ReportError
from perfci.results.files import FromFile, Name, parse, shown
from perfci.results.json_stream import JsonSteps, JsonStream, NotJson
from perfci.results.model import TOTAL, Measurement, Metric, SeriesKey
from perfci.results.rally_columns import Output, WorkloadColumns

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_KNOWN_FORMAT = re.compile(r"1\.\d+")
_DIGEST_DIGITS = 8


class _Workload(FromFile):
    scenario: Annotated[dict[Name, Any], Field(min_length=1, max_length=1)]
    runner: Annotated[dict[Name, Any], Field(min_length=1, max_length=1)]
    contexts: dict[str, Any]

    @property
    def name(self) -> str:
        return next(iter(self.scenario))


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
    loads: dict[tuple[str, str], list[WorkloadColumns]] = {}
    for where, workload, columns in _Report(path).workloads():
        if len(columns) <= warmup:
            raise ReportError(
                path=path,
                place=f"{where}.data",
                found=f"{len(columns)} iterations of {workload.name}",
                expected=f"at least one after {warmup} for warm-up",
            )
        loads.setdefault((workload.name, arguments_digest(workload)), []).append(columns)
    return tuple(
        _load(_Names(lab, job, run_id, scenario, arguments), workloads, warmup)
        for (scenario, arguments), workloads in loads.items()
    )


class _Report:
    """A report as it is read, once and from its beginning to its end."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def workloads(self) -> list[tuple[str, _Workload, WorkloadColumns]]:
        """Return the workloads with their places and their iterations. Raises ReportError."""
        try:
            with self._path.open("rb") as source:
                return self._read(JsonStream(source))
        except NotJson as error:
            raise self._wrong("file", str(error), "whole JSON") from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise self._wrong("file", reason, "a file that can be read") from error

    def _read(self, stream: JsonStream) -> list[tuple[str, _Workload, WorkloadColumns]]:
        steps = JsonSteps(stream, self._wrong, empty=False)
        header: dict[str, Any] = {}
        found: list[tuple[str, _Workload, WorkloadColumns]] | None = None
        steps.object("file")
        for key in stream.members():
            if key == "tasks":
                found = [
                    self._workload(steps, workload)
                    for task in steps.items("tasks")
                    for subtask in steps.list_in(task, "subtasks")
                    for workload in steps.list_in(subtask, "workloads")
                ]
            elif key == "info":
                header[key] = self._known_version(stream.value())
            else:
                stream.value()
        stream.end()
        if "info" not in header:
            self._known_version(None)
        if found is None:
            raise self._wrong("tasks", "missing", "it to be there")
        return found

    def _workload(self, steps: JsonSteps, place: str) -> tuple[str, _Workload, WorkloadColumns]:
        steps.object(place)
        stream = steps.stream
        rest: dict[str, Any] = {}
        columns: WorkloadColumns | None = None
        for key in stream.members():
            if key == "data":
                columns = self._iterations(stream, f"{place}.data")
            elif key in _Workload.model_fields:
                rest[key] = stream.value()
            else:
                stream.value()
        content = json.dumps(rest).encode()
        workload = parse(content, _Workload, path=self._path, error=ReportError, inside=place)
        if columns is None:
            raise self._wrong(f"{place}.data", "missing", "it to be there")
        return place, workload, columns

    def _iterations(self, stream: JsonStream, place: str) -> WorkloadColumns:
        if stream.opens() != "[":
            raise self._wrong(place, f"got {shown(stream.value())}", "a list")
        columns = WorkloadColumns()
        for number in stream.items():
            columns.add(stream.value(), path=self._path, place=f"{place}[{number}]")
        return columns

    def _known_version(self, info: Any) -> str:
        content = json.dumps({} if info is None else {"info": info}).encode()
        version = parse(content, _Header, path=self._path, error=ReportError).info.format_version
        if not _KNOWN_FORMAT.fullmatch(version):
            raise self._wrong("info.format_version", f"got {version!r}", "a version 1.x")
        return version

    def _wrong(self, place: str, found: str, expected: str) -> ReportError:
        return ReportError(path=self._path, place=place, found=found, expected=expected)


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


def _load(names: _Names, workloads: Sequence[WorkloadColumns], warmup: int) -> Load:
    kept = [np.argsort(one.started, kind="stable")[warmup:] for one in workloads]
    started = np.concatenate(
        [np.asarray(one.started)[rows] for one, rows in zip(workloads, kept, strict=True)]
    )
    order = np.argsort(started, kind="stable")

    def in_order(columns: Iterable[NDArray[Any]]) -> NDArray[Any]:
        """Return one column of all workloads together, by time and without the warm-up."""
        return np.concatenate([one[rows] for one, rows in zip(columns, kept, strict=True)])[order]

    started, failed = started[order], in_order(one.failed for one in workloads)
    measured = ~in_order(one.backwards for one in workloads)
    attempts, failures = int(measured.sum()), int((measured & failed).sum())
    times: dict[bytes, tuple[float, ...]] = {}

    def measurement(action: str) -> Measurement | None:
        """Return the timings of an action; None where it was in no iteration behind the warm-up."""
        if action != TOTAL and not in_order(one.has(action) for one in workloads).any():
            return None
        seconds = in_order(one.seconds(action) for one in workloads)
        timed = measured & ~failed & ~np.isnan(seconds)
        key = np.packbits(timed).tobytes()  # most actions are in the same iterations, so they share the times
        if key not in times:
            times[key] = tuple(started[timed].tolist())
        values = tuple(seconds[timed].tolist())
        return Measurement(
            names.key(action, Metric.SECONDS), names.run_id, values, times[key], attempts, failures
        )

    actions = dict.fromkeys(action for one in workloads for action in one.actions)
    timings = [one for action in (TOTAL, *actions) if (one := measurement(action)) is not None]
    rate = Measurement(
        key=names.key(TOTAL, Metric.FAILURE_RATE),
        run_id=names.run_id,
        values=(failures / attempts,) if attempts else (),
        timestamps=(float(started[measured][0]),) if attempts else (),
        attempts=attempts,
        failures=failures,
    )
    return Load(
        scenario=names.scenario,
        arguments=names.arguments,
        iterations=sum(map(len, workloads)),
        measurements=(*timings, rate),
        outputs=_outputs(workloads, kept, order, measured & ~failed),
        dropped=len(measured) - attempts,
    )


def _outputs(
    workloads: Sequence[WorkloadColumns],
    kept: Sequence[NDArray[np.int_]],
    order: NDArray[np.int_],
    told: NDArray[np.bool_],
) -> tuple[Output, ...]:
    """Return the outputs of the iterations that are `told`, by time."""
    if not any(one.outputs for one in workloads):
        return ()
    rows = [(one, int(row)) for one, mine in zip(workloads, kept, strict=True) for row in mine]
    chosen = (rows[place] for place in order[told].tolist())
    return tuple(output for one, row in chosen for output in one.outputs.get(row, ()))
