"""Histories in CSV files that others made. What is left out or reordered is said; what is unclear is refused.

Two forms, with `,`, `;` or tabs, in UTF-8:

```
run,boot seconds,list seconds          time,commit,branch,boot,list
2026-11-01,4.61,0.21                   2026-11-01T04:15:00Z,1f2e3d4c,main,4.61,0.21
2026-11-02,4.58,                       2026-11-02T04:15:00Z,5b6a7c8d,main,4.58,n/a
```
On the left the plain form: the first column says which run or when, every other one is a history; a header
is not needed. On the right the form of Apache Otava's `csv` tests
(https://otava.apache.org/docs/csv): a header, a time column, and columns of attributes among the metrics. A
column without any number is an attribute, and so is one with a name such as `commit`. An empty cell is a
missing value, and so are words such as `n/a` and `failed`.

Runs of several branches are several histories: one of them is chosen. A host, or whatever else is part of the
environment, may change once; where several take turns, they are several histories, too.
"""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from perfci.errors import UsageError
from perfci.runs.studies.change_points import Column

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_DELIMITERS = ",;\t"
_TIME_NAMES = frozenset({"time", "timestamp", "date", "datetime"})
_BRANCH_NAMES = frozenset({"branch", "git_branch", "ref", "series"})
_ENVIRONMENT_NAMES = frozenset(
    {
        "host",
        "hostname",
        "machine",
        "node",
        "runner",
        "platform",
        "os",
        "arch",
        "config",
        "environment",
        "env",
    }
)
_ATTRIBUTE_NAMES = (
    frozenset({"commit", "revision", "sha", "version", "build", "tag"}) | _BRANCH_NAMES | _ENVIRONMENT_NAMES
)
_MISSING = frozenset(
    {"", "nan", "null", "none", "nil", "n/a", "na", "-", "--", "?"}
    | {"failed", "failure", "fail", "error", "timeout", "skipped", "missing"}
)
_DATE = re.compile(
    r"(\d{4})([-./]?)(\d\d?)\2(\d\d?)(?:[ T]+(\d\d?):?(\d\d)(?::?(\d\d)(?:[.,](\d{1,9}))?)?)?"
    r" *(Z|UTC|GMT|[+-]\d\d:?\d\d)?(?:-.*)?"
)
_LIKE_A_DATE = re.compile(
    r"\d{1,2}[./-]\d{1,2}[./-]\d{2,4}\b.*|[A-Za-z]{3,9},? +\d.*|\d{1,2}[ -][A-Za-z]{3,9}\b.*"
)
_NUMBERED = re.compile(r"(\D*)(\d+)(\D*)")
_SHOWN = 3

_Row = tuple[int, list[str]]


class HistoryFileInvalid(UsageError):
    """A CSV file with histories can't be read; the message names the line and the column."""

    template = "{place}: {problem}"
    help = (
        "Plain form: the first column names the run or the time, all others are numbers. With --otava: a "
        "header, a column `time`, columns of numbers, and columns of attributes such as `commit`."
    )


@dataclass(frozen=True, slots=True)
class _Table:
    """A file's header, its other lines with their numbers, and which column is what."""

    file: Path
    header: list[str]
    body: list[_Row]
    time: int
    attributes: tuple[int, ...]

    def named(self, names: frozenset[str]) -> list[int]:
        """Return the attributes with these names."""
        return [n for n in self.attributes if self.header[n].lower() in names]

    def values(self, column: int) -> list[str]:
        """Return the cells of a column."""
        return [row[column] for _, row in self.body]


def read_csv(
    file: Path,
    *,
    otava: bool = False,
    only: Sequence[str] = (),
    on_note: Callable[[str], None] = lambda _: None,
) -> list[Column]:
    """Read the histories of a CSV file; `only` has `COLUMN=VALUE` for attributes that lines must have.

    Several values of one column are alternatives. `on_note` gets a sentence for whatever is left out or put
    in another order. Raises HistoryFileInvalid.
    """
    rows = _rows(file)
    header, body = _split(file, rows, otava=otava)
    time = _time_column(header) if otava else 0
    attributes = tuple(_attributes(header, body, time)) if otava else ()
    table = _Table(file, header, body, time, attributes)
    chosen = _chosen(table, only)
    table = _Table(file, header, _kept(table, chosen), time, attributes)
    _check_apart(table, chosen)
    table = _Table(file, header, _oldest_first(table, on_note, strict=otava), time, attributes)
    metrics = [n for n in range(len(header)) if n != time and n not in attributes]
    for n in attributes:
        if header[n].lower() not in _ATTRIBUTE_NAMES:
            on_note(f"column {header[n]!r} has no numbers: it is not measured")
    if not metrics:
        raise _invalid(file, rows[0][0], "there is no column of numbers besides the first one")
    labels = tuple(" ".join([row[time], *(row[n] for n in attributes)]) for _, row in table.body)
    environment = table.named(_ENVIRONMENT_NAMES)
    segments = tuple(" ".join(row[n] for n in environment) for _, row in table.body) if environment else ()
    found = [_column(table, n, labels, segments, on_note) for n in metrics]
    return [column for column in found if column is not None]


def _column(
    table: _Table,
    n: int,
    labels: tuple[str, ...],
    segments: tuple[str, ...],
    on_note: Callable[[str], None],
) -> Column | None:
    """Return one column as a history; None, with a note, where it can have no relative change."""
    name = table.header[n]
    values = tuple(_number(table.file, line, name, row[n]) for line, row in table.body)
    below = next((line for (line, _), value in zip(table.body, values, strict=True) if value < 0), None)
    if below is not None:
        on_note(f"column {name!r} is left out: line {below} is below zero, so it has no relative changes")
        return None
    words = sorted({cell for cell in table.values(n) if cell and cell.lower() in _MISSING})
    if words:
        missing = sum(cell in words for cell in table.values(n))
        on_note(f"column {name!r}: {missing} of {len(values)} values are missing ({', '.join(words)})")
    return Column(name, labels, values, segments=segments)


def _chosen(table: _Table, only: Sequence[str]) -> Mapping[int, set[str]]:
    """Return which values of which columns lines must have."""
    chosen: dict[int, set[str]] = {}
    known = [table.header[n] for n in table.attributes]
    for one in only:
        name, equals, value = one.partition("=")
        if not equals or name not in known:
            expected = ", ".join(known) or "none in this file"
            problem = f"--only {one}: expected COLUMN=VALUE with a column of attributes ({expected})"
            raise HistoryFileInvalid(place=table.file, problem=problem)
        column = table.header.index(name)
        if value not in table.values(column):
            problem = f"--only {one}: no line has this value; the values are {_listed(table.values(column))}"
            raise HistoryFileInvalid(place=table.file, problem=problem)
        chosen.setdefault(column, set()).add(value)
    return chosen


def _kept(table: _Table, chosen: Mapping[int, set[str]]) -> list[_Row]:
    kept = [one for one in table.body if all(one[1][n] in values for n, values in chosen.items())]
    if not kept:
        raise HistoryFileInvalid(place=table.file, problem="no line has all values of --only")
    return kept


def _check_apart(table: _Table, chosen: Mapping[int, set[str]]) -> None:
    """Refuse several histories in one file, unless they were asked for together."""
    branches, environment = table.named(_BRANCH_NAMES), table.named(_ENVIRONMENT_NAMES)
    for n in (*branches, *environment):
        values, name = table.values(n), table.header[n]
        stretches = sum(1 for _ in groupby(values))
        several = len(set(values)) > 1 if n in branches else stretches > len(set(values))
        if several and n not in chosen:
            problem = (
                f"column {name!r} has several histories: {_listed(values)}; "
                f"choose one: --only {name}={values[-1]}"
            )
            raise HistoryFileInvalid(place=table.file, problem=problem)


def _listed(values: Sequence[str]) -> str:
    """Return the different values in their order, not too many of them, with how often each is there."""
    different = list(dict.fromkeys(values))
    shown = [f"{value!r} ({values.count(value)} lines)" for value in different[:_SHOWN]]
    rest = len(different) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def _rows(file: Path) -> list[_Row]:
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


def _split(file: Path, rows: list[_Row], *, otava: bool) -> tuple[list[str], list[_Row]]:
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
        raise _invalid(file, line, "there is a header but no line below it")
    return header, body


def _time_column(header: Sequence[str]) -> int:
    return next((n for n, name in enumerate(header) if name.lower() in _TIME_NAMES), 0)


def _attributes(header: Sequence[str], body: Sequence[_Row], time: int) -> list[int]:
    """Return the columns that describe a run and measure nothing."""
    return [
        n
        for n, name in enumerate(header)
        if n != time and (name.lower() in _ATTRIBUTE_NAMES or not any(_is_number(row[n]) for _, row in body))
    ]


def _oldest_first(table: _Table, on_note: Callable[[str], None], *, strict: bool) -> list[_Row]:
    """Return the lines in the order of time, turned round, with a note, where all of them are newest first.

    Refuses lines in no order, and times whose order can't be read: all of them in a column of times
    (`strict`), else what looks like a date.
    """
    name = table.header[table.time]
    times = [(line, row[table.time]) for line, row in table.body]
    moments = [_moment(text) for _, text in times]
    unread = [
        (line, text)
        for (line, text), moment in zip(times, moments, strict=True)
        if moment is None and (strict or _LIKE_A_DATE.fullmatch(text))
    ]
    if unread:
        line, text = unread[0]
        problem = f"column {name!r}: expected a time such as 2026-11-30T04:15:00Z, got {text!r}"
        raise _invalid(table.file, line, problem)
    if any(moment is None for moment in moments):
        numbers = _numbers([text for _, text in times])
        if numbers is None:
            return table.body
        moments = list(numbers)
    known = [moment for moment in moments if moment is not None]
    steps = [after - before for before, after in pairwise(known)]
    if any(step < 0 for step in steps) and all(step <= 0 for step in steps) and len(known) > 2:  # noqa: PLR2004
        on_note(f"column {name!r} is newest first: perfci reads the lines from last to first")
        return table.body[::-1]
    for number, step in enumerate(steps, 1):
        if step < 0:
            line, text = times[number]
            problem = f"column {name!r}: {text!r} is earlier than the line before it; sort the file"
            raise _invalid(table.file, line, problem)
    return table.body


def _numbers(labels: Sequence[str]) -> list[float] | None:
    """Return the numbers of labels such as `build-7` that fall from line to line; None of other labels."""
    found = [_NUMBERED.fullmatch(label) for label in labels]
    parts = {(one[1], one[3]) for one in found if one}
    if len(parts) != 1 or not all(found):
        return None
    numbers = [float(one[2]) for one in found if one]
    falls = all(after < before for before, after in pairwise(numbers))
    return numbers if falls else None


def _moment(text: str) -> float | None:
    """Return a time as seconds since the epoch, from a number or a date; None for anything else."""
    if _is_number(text):
        return float(text)
    if found := _DATE.fullmatch(text):
        year, _, month, day, hour, minute, second, _, zone = found.groups()
        offset = (zone or "Z").replace("UTC", "Z").replace("GMT", "Z").replace(":", "")
        plain = f"{year}-{int(month):02}-{int(day):02} {int(hour or 0):02}:{minute or '00'}:{second or '00'}"
        try:
            return datetime.strptime(f"{plain} {offset}", "%Y-%m-%d %H:%M:%S %z").timestamp()
        except ValueError:
            return None
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
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
