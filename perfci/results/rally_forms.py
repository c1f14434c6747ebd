"""Rally's results in all the forms that Rally has written, as reports of its present JSON exporter.

- The JSON exporter (`rally task report --json`): an object with `info` and `tasks`, of a
  `format_version` 1 or 1.x. A file may hold several tasks, each a run of its own.
- The older `rally task results`: a list with one entry for each scenario, its arguments under `key.kw`, its
  iterations under `result`. Before Rally 0.10 the atomic actions of an iteration were seconds by name.

Any of them may be compressed with gzip. A file is read once, and one iteration of it is held at a time.
`rally.read_report` checks what a workload measured.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, cast

from perfci.results.errors import NotRallyResults
from perfci.results.files import shown
from perfci.results.json_stream import JsonSteps, JsonStream, NotJson

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_GZIP = b"\x1f\x8b"
_SCENARIO = re.compile(r"[A-Z]\w*\.\w+")
"""A key of a task file: `NovaServers.boot_and_delete_server`."""
_HEAD = '{"info": {"format_version": "1.2"}, "tasks": [{"subtasks": [{"workloads": ['
_TAIL = "]}]}]}"


@dataclass(frozen=True, slots=True)
class FoundReport:
    """One task that somebody ran: its report as a file, and what tells it from others.

    `start` and `end` are seconds since the epoch, `scenarios` the names in the order of the report.
    """

    path: Path
    digest: str
    start: float
    end: float
    scenarios: tuple[str, ...]


def write_reports(source: IO[bytes], name: str, folder: Path) -> list[FoundReport]:
    """Write each task of a file as a report of its own into an empty folder.

    Workloads without iterations are left out. `name` is what errors call the file. Raises NotRallyResults
    where it is of none of these forms, or has no iteration, and OSError where a report can't be written.
    """
    form = _Form(name, folder)
    try:
        form.read(JsonStream(_unpacked(source)))
    except NotJson as error:
        raise NotRallyResults(path=name, place="file", found=str(error), expected="whole JSON") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        found = f"damaged gzip: {error}"
        raise NotRallyResults(path=name, place="file", found=found, expected="whole gzip") from error
    finally:
        form.close()
    if not form.found:
        raise NotRallyResults(path=name, place="file", found="no iterations", expected="a task that ran")
    return form.found


def _got(value: Any) -> str:
    return f"got {shown(value)}"


def _unpacked(source: IO[bytes]) -> IO[bytes]:
    buffered: Any = (
        source if isinstance(source, io.BufferedReader) else io.BufferedReader(cast("Any", source))
    )
    packed = buffered.peek(2)[:2] == _GZIP
    return cast("IO[bytes]", gzip.GzipFile(fileobj=buffered) if packed else buffered)


class _Form:
    """A file as it is read, from its beginning to its end."""

    def __init__(self, name: str, folder: Path) -> None:
        self._name = name
        self._folder = folder
        self._open: _ReportFile | None = None
        self.found: list[FoundReport] = []

    def close(self) -> None:
        """Close what an error has left open."""
        if self._open:
            self._open.close()

    def read(self, stream: JsonStream) -> None:
        """Write each task. Raises NotJson and NotRallyResults."""
        steps = JsonSteps(stream, self._wrong, empty=True)
        opening = stream.opens()
        if opening == "{":
            self._exported(steps)
        elif opening == "[":
            report = self._begin()
            for entry in steps.items(""):
                self._entry(steps, report, entry)
            self._finish()
        elif opening == "<":
            expected = "JSON: Rally's pages show averages, and not when each iteration ran"
            raise NotRallyResults(path=self._name, place="file", found="a page of HTML", expected=expected)
        else:
            expected = "an object of Rally's JSON exporter, or the list of `rally task results`"
            raise self._wrong("file", _got(stream.value()), expected)
        stream.end()

    def _exported(self, steps: JsonSteps) -> None:
        stream = steps.stream
        has_tasks = is_task_file = False
        for key in stream.members():
            is_task_file |= key == "subtasks" or _SCENARIO.fullmatch(key) is not None
            if key == "info":
                self._check_version(stream.value())
            elif key == "tasks":
                has_tasks = True
                for task in steps.items("tasks"):
                    report = self._begin()
                    for subtask in steps.list_in(task, "subtasks"):
                        for workload in steps.list_in(subtask, "workloads"):
                            self._workload(steps, report, workload)
                    self._finish()
            else:
                stream.value()
        if not has_tasks and is_task_file:
            found, expected = "a task file of Rally: it says what to run", "what Rally measured"
            raise NotRallyResults(path=self._name, place="file", found=found, expected=expected)
        if not has_tasks:
            raise self._missing("tasks")

    def _begin(self) -> _ReportFile:
        self._open = _ReportFile(self._folder / f"{len(self.found)}.json")
        return self._open

    def _finish(self) -> None:
        report = self._open
        if report and (found := report.finish()):
            self.found.append(found)

    def _check_version(self, info: Any) -> None:
        """Refuse reports of a newer Rally than is known; the first exporter wrote its version as a number."""
        version = info.get("format_version") if isinstance(info, dict) else None
        if version is not None and str(version).partition(".")[0] != "1":
            raise self._wrong("info.format_version", _got(version), "a version 1.x")

    def _workload(self, steps: JsonSteps, report: _ReportFile, place: str) -> None:
        steps.object(place)
        stream = steps.stream
        rest: dict[str, Any] = {}
        for key in stream.members():
            if key == "data":
                self._iterations(stream, report, f"{place}.data")
            else:
                rest[key] = stream.value()
        report.end_workload({**rest, "contexts": rest.get("contexts", rest.get("context", {}))})

    def _entry(self, steps: JsonSteps, report: _ReportFile, place: str) -> None:
        """Read an entry of `rally task results`: write it as the exporter writes a workload."""
        steps.object(place)
        stream = steps.stream
        rest: dict[str, Any] = {}
        has_result = False
        for key in stream.members():
            if key == "result":
                has_result = True
                self._iterations(stream, report, f"{place}.result")
            else:
                rest[key] = stream.value()
        described = self._described(rest.get("key"), f"{place}.key")
        if not has_result:
            raise self._missing(f"{place}.result")
        report.end_workload(described)

    def _described(self, key: Any, place: str) -> dict[str, Any]:
        if not isinstance(key, dict):
            raise self._wrong(place, _got(key), "an object")
        scenario = key.get("name")
        if not isinstance(scenario, str):
            raise self._wrong(f"{place}.name", _got(scenario), "text")
        words = key.get("kw")
        kw: Mapping[str, Any] = words if isinstance(words, dict) else {}
        runner = kw.get("runner")
        settings = dict(runner) if isinstance(runner, dict) else {}
        return {
            "scenario": {scenario: kw.get("args") or {}},
            "runner": {str(settings.pop("type", "serial")): settings},
            "contexts": kw.get("context", kw.get("contexts")) or {},
        }

    def _iterations(self, stream: JsonStream, report: _ReportFile, place: str) -> None:
        if stream.opens() != "[":
            if found := stream.value():
                raise self._wrong(place, _got(found), "a list")
            return  # a task that was stopped before it ran
        for _ in stream.items():
            report.add(_iteration(stream.value()))

    def _missing(self, place: str) -> NotRallyResults:
        return self._wrong(place, "missing", "it to be there")

    def _wrong(self, place: str, found: str, expected: str) -> NotRallyResults:
        return NotRallyResults(path=self._name, place=place, found=found, expected=expected)


class _ReportFile:
    """A report that is written while another form of it is read: of each workload its iterations first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._digest = hashlib.sha256()
        self._in_workload = False
        self._start, self._end = float("inf"), 0.0
        self._scenarios: dict[str, None] = {}

    def add(self, iteration: Any) -> None:
        """Write an iteration of the workload that is being read."""
        if self._file is None:
            self._file = self._path.open("wb")
            self._write(_HEAD)
        elif not self._in_workload:
            self._write(", ")
        self._write(", " if self._in_workload else '{"data": [')
        self._in_workload = True
        self._write(json.dumps(iteration))
        if isinstance(iteration, dict):
            start, seconds = iteration.get("timestamp"), iteration.get("duration")
            if isinstance(start, int | float) and isinstance(seconds, int | float):
                self._start = min(self._start, start)
                self._end = max(self._end, start + max(seconds, 0))

    def end_workload(self, described: Mapping[str, Any]) -> None:
        """Write what a workload has beside its iterations; nothing where it has none."""
        if self._in_workload:
            self._write(f"], {json.dumps(described)[1:]}")
            scenario = described.get("scenario")
            if isinstance(scenario, dict):
                self._scenarios.update(dict.fromkeys(scenario))
        self._in_workload = False

    def finish(self) -> FoundReport | None:
        """Close the file; None where no workload had an iteration."""
        if self._file is None:
            return None
        self._write(_TAIL)
        self.close()
        return FoundReport(
            self._path, self._digest.hexdigest(), self._start, self._end, tuple(self._scenarios)
        )

    def close(self) -> None:
        """Close the file, whole or not."""
        if self._file is not None:
            self._file.close()

    def _write(self, text: str) -> None:
        if self._file is not None:
            content = text.encode()
            self._digest.update(content)
            self._file.write(content)


def _iteration(one: Any) -> Any:
    """Return an iteration as the exporter writes it now; actions that are seconds by name take turns."""
    if not isinstance(one, dict):
        return one
    actions = one.get("atomic_actions", [])
    if isinstance(actions, dict):
        actions = _in_turn(actions, one.get("timestamp"))
    elif isinstance(actions, list):
        actions = [_nested(action) for action in actions]
    filled = {"error": one.get("error") or [], "atomic_actions": actions}
    output = one.get("output")
    return {**one, **filled, "output": output if isinstance(output, dict) else {}}


def _nested(action: Any) -> Any:
    if not isinstance(action, dict):
        return action
    children = action.get("children") or []
    inner = [_nested(child) for child in children] if isinstance(children, list) else children
    return {**action, "children": inner, "failed": bool(action.get("failed"))}


def _in_turn(seconds: Mapping[str, Any], start: Any) -> list[dict[str, Any]]:
    """Return actions from their seconds by name; None says that one failed."""
    at, found = start, []
    for name, took in seconds.items():
        timed = isinstance(took, int | float) and isinstance(at, int | float)
        end = at + took if timed else None
        found.append(
            {"name": name, "started_at": at, "finished_at": end, "failed": not timed, "children": []}
        )
        at = end if timed else at
    return found
