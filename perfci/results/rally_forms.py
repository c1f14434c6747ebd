"""Rally's results in all the forms that Rally has written, as reports of its present JSON exporter.

- The JSON exporter (`rally task report --json`): an object with `info` and `tasks`, of a
  `format_version` 1 or 1.x. A file may hold several tasks, each a run of its own.
- The older `rally task results`: a list with one entry for each scenario, its arguments under `key.kw`, its
  iterations under `result`. Before Rally 0.10 the atomic actions of an iteration were seconds by name.

Any of them may be compressed with gzip. `rally.read_report` checks what a workload measured.
"""

from __future__ import annotations

import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any

from perfci.results.errors import ReportError
from perfci.results.files import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

_GZIP = b"\x1f\x8b"
_VERSION = "1.2"


def reports_in(content: bytes, name: str) -> list[dict[str, Any]]:
    """Return each task of a file as a report of its own, workloads without iterations left out.

    `name` is what errors call the file. Raises ReportError where it is of none of these forms, or has no
    iteration.
    """
    document = _parsed(content, name)
    if isinstance(document, dict):
        _check_version(document, name)
        tasks = document.get("tasks")
        if not isinstance(tasks, list):
            raise _unknown(name, "tasks", "missing" if tasks is None else f"got {shown(tasks)}", "a list")
        found = [_task(task, name) for task in tasks]
    elif isinstance(document, list):
        found = [[_old_workload(one, n, name) for n, one in enumerate(document)]]
    else:
        expected = "an object of Rally's JSON exporter, or the list of `rally task results`"
        raise _unknown(name, "file", f"got {shown(document)}", expected)
    measured = [kept for task in found if (kept := [one for one in task if one.get("data")])]
    if not measured:
        raise _unknown(name, "file", "no iterations", "a task that ran")
    return [
        {"info": {"format_version": _VERSION}, "tasks": [{"subtasks": [{"workloads": workloads}]}]}
        for workloads in measured
    ]


def _check_version(document: dict[str, Any], name: str) -> None:
    """Refuse reports of a newer Rally than is known; the first exporter wrote its version as a number."""
    info = document.get("info")
    version = info.get("format_version") if isinstance(info, dict) else None
    if version is not None and str(version).partition(".")[0] != "1":
        raise _unknown(name, "info.format_version", f"got {shown(version)}", "a version 1.x")


def _parsed(content: bytes, name: str) -> Any:
    try:
        return json.loads(gzip.decompress(content) if content.startswith(_GZIP) else content)
    except (OSError, EOFError, zlib.error) as error:
        raise _unknown(name, "file", f"damaged gzip: {error}", "whole gzip") from error
    except (ValueError, RecursionError) as error:
        raise _unknown(name, "file", str(error), "whole JSON") from error


def _task(task: Any, name: str) -> list[dict[str, Any]]:
    workloads = []
    for s, subtask in enumerate(_list(task, "subtasks", "tasks[]", name)):
        for w, workload in enumerate(_list(subtask, "workloads", f"subtasks[{s}]", name)):
            if not isinstance(workload, dict):
                place = f"subtasks[{s}].workloads[{w}]"
                raise _unknown(name, place, f"got {shown(workload)}", "an object")
            contexts = workload.get("contexts", workload.get("context", {}))
            data = workload.get("data")
            measured = [_iteration(one) for one in data] if isinstance(data, list) else data
            workloads.append({**workload, "contexts": contexts, "data": measured})
    return workloads


def _list(value: Any, key: str, place: str, name: str) -> list[Any]:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, list):
        raise _unknown(name, f"{place}.{key}", f"got {shown(found)}", "a list")
    return found


def _old_workload(entry: Any, number: int, name: str) -> dict[str, Any]:
    """Return an entry of `rally task results` as the exporter writes a workload."""
    place = f"[{number}]"
    key = entry.get("key") if isinstance(entry, dict) else None
    if not isinstance(key, dict):
        raise _unknown(name, f"{place}.key", f"got {shown(key)}", "an object")
    scenario = key.get("name")
    if not isinstance(scenario, str):
        raise _unknown(name, f"{place}.key.name", f"got {shown(scenario)}", "text")
    words = key.get("kw")
    kw: Mapping[str, Any] = words if isinstance(words, dict) else {}
    runner = kw.get("runner")
    settings = dict(runner) if isinstance(runner, dict) else {}
    return {
        "scenario": {scenario: kw.get("args") or {}},
        "runner": {str(settings.pop("type", "serial")): settings},
        "contexts": kw.get("context", kw.get("contexts")) or {},
        "data": [_iteration(one) for one in _list(entry, "result", place, name)],
    }


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


def _unknown(path: str, place: str, found: str, expected: str) -> ReportError:
    return ReportError(path=path, place=place, found=found, expected=expected)
