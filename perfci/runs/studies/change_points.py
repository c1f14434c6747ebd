"""Change points of whole histories: of the lab's own series, or of numbers in a CSV file.

Two forms of CSV, with `,`, `;` or tabs, in UTF-8:

```
run,boot seconds,list seconds          time,commit,boot,list
2026-11-01,4.61,0.21                   2026-11-01T04:15:00Z,1f2e3d4c,4.61,0.21
2026-11-02,4.58,                       2026-11-02T04:15:00Z,5b6a7c8d,4.58,0.22
```
On the left the plain form: the first column says which run or when, every other one is a history; a header
is not needed. On the right the form of Apache Otava's `csv` tests
(https://otava.apache.org/docs/csv): a header, a time column, and columns of attributes among the metrics. A
column whose first value is no number is an attribute, and so is one with a name such as `commit`. An empty
cell is a missing value.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from perfci.analysis.changepoints import change_points
from perfci.analysis.level_track import rule_of
from perfci.analysis.robust import run_location
from perfci.analysis.settings import AnalysisSettings
from perfci.errors import UsageError
from perfci.results.model import Metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from perfci.analysis.changepoints import ChangePoint
    from perfci.analysis.types import SeriesHistory

_DELIMITERS = ",;\t"
_TIME_NAMES = frozenset({"time", "timestamp", "date", "datetime"})
_ATTRIBUTE_NAMES = frozenset({"commit", "revision", "sha", "branch", "version", "build", "tag", "host"})
_MISSING = frozenset({"", "nan", "null", "none"})


class HistoryFileInvalid(UsageError):
    """A CSV file with histories can't be read; says which line and which column."""

    template = "{place}: {problem}"
    help = (
        "Plain form: the first column says which run or when, all others are numbers. With --otava: a "
        "header, a column `time`, columns of numbers, and columns of attributes such as `commit`."
    )


@dataclass(frozen=True, slots=True)
class Column:
    """One history: a label, a value and its relative standard error per run, oldest first; NaN is missing.

    `segments` names what a run can be compared within (the environment); empty where nothing is known.
    A change of less than `least` (in the unit of `metric`), or of less than the share `floor`, is too small
    to matter: a verdict would not report it either.
    """

    name: str
    labels: tuple[str, ...]
    values: tuple[float, ...]
    errors: tuple[float, ...] = ()
    segments: tuple[str, ...] = ()
    metric: Metric | None = None
    least: float = 0.0
    floor: float = 0.0

    def matters(self, point: ChangePoint) -> bool:
        """Tell whether a change is large enough to be reported."""
        return abs(point.after - point.before) >= self.least and abs(point.effect) >= self.floor


@dataclass(frozen=True, slots=True)
class LevelChange:
    """A change point of a history, with the labels of its runs."""

    series: str
    since: str
    earliest: str
    latest: str
    point: ChangePoint
    environment: bool
    """Whether the environment changed there: then it may not be the code."""
    metric: Metric | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the change for `--json`; `p_value` is for "no change here", corrected for the search."""
        point = self.point
        return {
            "series": self.series,
            "since": self.since,
            "earliest": self.earliest,
            "latest": self.latest,
            "index": point.index,
            "before": point.before,
            "after": point.after,
            "effect": point.effect,
            "low": point.low,
            "high": point.high,
            "p_value": point.p_value,
            "confidence": 1 - point.p_value,
            "environment_changed": self.environment,
        }


def find_changes(columns: Iterable[Column], *, full: bool = False) -> Iterator[LevelChange]:
    """Find the change points of histories, in their order: those that matter, or all with `full`."""
    for column in columns:
        for point in change_points(column.values, column.errors or None):
            if not full and not column.matters(point):
                continue
            moved = column.segments[point.earliest - 1 : point.latest + 1]
            yield LevelChange(
                series=column.name,
                since=column.labels[point.index],
                earliest=column.labels[point.earliest],
                latest=column.labels[point.latest],
                point=point,
                environment=len(set(moved)) > 1,
                metric=column.metric,
            )


def column_of(history: SeriesHistory, settings: AnalysisSettings | None = None) -> Column:
    """Return a series through its valid runs that gave a value."""
    metric = history.key.metric
    leveled = metric is not Metric.FAILURE_RATE
    rule = rule_of(metric, settings or AnalysisSettings()) if leveled else None
    found = [
        (point, location)
        for point in history.points
        if point.valid and (location := run_location(point.values)) is not None
    ]
    return Column(
        history.key.label,
        tuple(point.run_id for point, _ in found),
        tuple(math.exp(location.log) for _, location in found),
        tuple(location.error for _, location in found),
        tuple(point.environment for point, _ in found),
        metric,
        rule.unit if rule else 0.0,
        rule.floor if rule else 0.0,
    )


def read_csv(file: Path, *, otava: bool = False) -> list[Column]:
    """Read the histories of a CSV file. Raises HistoryFileInvalid."""
    rows = _rows(file)
    header, body = _split(file, rows, otava=otava)
    time = _time_column(header) if otava else 0
    attributes = _attributes(header, body, time) if otava else []
    metrics = [n for n in range(len(header)) if n != time and n not in attributes]
    if not metrics:
        raise _invalid(file, rows[0][0], "there is no column of numbers beside the first one")
    _check_times(file, body, time, header[time])
    labels = tuple(" ".join([row[time], *(row[n] for n in attributes)]) for _, row in body)
    return [
        Column(header[n], labels, tuple(_number(file, line, header[n], row[n]) for line, row in body))
        for n in metrics
    ]


def _rows(file: Path) -> list[tuple[int, list[str]]]:
    """Return the lines with their numbers, empty ones left out; all have as many cells as the first."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise HistoryFileInvalid(place=file, problem=error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise HistoryFileInvalid(place=file, problem="it is not text in UTF-8") from error
    lines = text.splitlines()
    first = next((line for line in lines if line.strip()), "")
    reader = csv.reader(lines, delimiter=max(_DELIMITERS, key=first.count))
    try:
        cells = ((reader.line_num, [cell.strip() for cell in row]) for row in reader)
        rows = [(line, row) for line, row in cells if any(row)]
    except csv.Error as error:
        raise _invalid(file, reader.line_num, f"not CSV: {error}") from error
    if not rows:
        raise HistoryFileInvalid(place=file, problem="it is empty")
    width = len(rows[0][1])
    for line, row in rows:
        if len(row) != width:
            raise _invalid(file, line, f"it has {len(row)} columns, the first line has {width}")
    return rows


def _split(
    file: Path, rows: list[tuple[int, list[str]]], *, otava: bool
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header and the other lines; columns of a file without header are named by their number."""
    line, first = rows[0]
    if otava or not all(_is_number(cell) or cell.lower() in _MISSING for cell in first[1:]):
        header, body = first, rows[1:]
    else:
        header, body = [f"column {n}" for n in range(1, len(first) + 1)], rows
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise _invalid(file, line, f"column {twice!r} is there twice")
    if not body:
        raise _invalid(file, line, "there is a header and nothing below it")
    return header, body


def _time_column(header: Sequence[str]) -> int:
    return next((n for n, name in enumerate(header) if name.lower() in _TIME_NAMES), 0)


def _attributes(header: Sequence[str], body: Sequence[tuple[int, list[str]]], time: int) -> list[int]:
    """Return the columns that describe a run and measure nothing."""
    found = []
    for n, name in enumerate(header):
        first = next((row[n] for _, row in body if row[n].lower() not in _MISSING), "")
        if n != time and (name.lower() in _ATTRIBUTE_NAMES or not _is_number(first)):
            found.append(n)
    return found


def _check_times(file: Path, body: Sequence[tuple[int, list[str]]], time: int, name: str) -> None:
    """Refuse lines that are not in the order of time, as far as their times can be read."""
    before: float | None = None
    for line, row in body:
        now = _moment(row[time])
        if now is not None and before is not None and now < before:
            problem = f"column {name!r}: {row[time]!r} is earlier than the line before it; sort the file"
            raise _invalid(file, line, problem)
        before = now if now is not None else before


def _moment(text: str) -> float | None:
    """Return a time as seconds since the epoch: from a number, or from ISO 8601; None for anything else."""
    if _is_number(text):
        return float(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _number(file: Path, line: int, name: str, cell: str) -> float:
    if cell.lower() in _MISSING:
        return math.nan
    if not _is_number(cell):
        raise _invalid(file, line, f"column {name!r}: expected a number, got {cell!r}")
    return float(cell)


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _invalid(file: Path, line: int, problem: str) -> HistoryFileInvalid:
    return HistoryFileInvalid(place=f"{file}:{line}", problem=problem)
