"""Rally tasks of a run, or parts of a procedure, that gave nothing: they crashed, or all iterations failed.

The other tasks of the run count all the same, so this is no failure of the run; but somebody has to
know, the first night too, when there is no baseline yet to compare a failure rate with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perfci.parsing import json_value
from perfci.results.phases import PHASES, has_phases

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_SHOWN_CHARACTERS = 600


@dataclass(frozen=True, slots=True)
class Problem:
    """One task or part that gave nothing, and why as far as it can tell."""

    slug: str
    text: str


def problems(folder: Path) -> tuple[list[Problem], int]:
    """Return the tasks of a run that gave nothing, and how many tasks there were at all."""
    tasks = _read(folder / (PHASES if has_phases(folder) else "tasks.json"))
    entries = [one for one in tasks if isinstance(one, dict)] if isinstance(tasks, list) else []
    found = [Problem(str(one.get("slug")), text) for one in entries if (text := _problem(folder, one))]
    return found, len(entries)


def told(found: Sequence[Problem], total: int) -> str:
    """Say it in a few lines."""
    if not total:
        return "nothing was measured"
    head = f"{len(found)} of {total} tasks gave no results"
    return "\n".join([head, *(f"{one.slug}: {one.text}" for one in found)])


def _problem(folder: Path, task: dict[str, Any]) -> str:
    if task.get("status") != "finished":
        return f"crashed: {str(task.get('error') or 'no reason given')[:_SHOWN_CHARACTERS]}"
    errors = list(_iterations(folder / "rally" / f"{task.get('slug')}.json"))
    if errors and all(errors):
        first = " ".join(str(part) for part in errors[0][:2])
        return f"all {len(errors)} iterations failed; the first with {first[:_SHOWN_CHARACTERS]}"
    return ""


def _iterations(report: Path) -> Iterator[list[Any]]:
    """Return each iteration's error, empty where it went well; nothing for a report of another form."""
    try:
        for task in _read(report)["tasks"]:
            for subtask in task["subtasks"]:
                for workload in subtask["workloads"]:
                    yield from (iteration["error"] for iteration in workload["data"])
    except (KeyError, TypeError):
        return


def _read(path: Path) -> Any:
    try:
        return json_value(path.read_bytes())
    except (OSError, ValueError):
        return None
