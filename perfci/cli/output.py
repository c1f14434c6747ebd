"""What all commands share: printing for people or as JSON, and errors.

For people: a table on a terminal, tab-separated lines in a pipe. With `--json`: one JSON document on
stdout, also for an error. The exit code is the error's.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perfci.errors import FileRefused, PerfciError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from rich.console import Console

NBSP = "\u00a0"
"""Joins a number and its unit: a line is not folded there."""
_INDENT = "  "
ERRORS_DOCUMENT = "docs/errors.md"

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
"""The option that every command has."""


def print_json(value: Any) -> None:
    """Print one JSON document; times are ISO 8601 with their zone."""
    sys.stdout.write(json.dumps(value, indent=2, default=_plain) + "\n")


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    empty: str,
    numbers: Collection[str] = (),
    styles: Sequence[str] = (),
    needed: int | None = None,
    console: Console | None = None,
) -> None:
    """Print a table: on a terminal as wide as it is, in a pipe as lines with tabs and all columns.

    Where there are no rows, `empty` says what was looked for; in a pipe on stderr. `numbers` are the columns
    that are aligned to the right. `styles` has one of rich's styles for each row's first cell. On a terminal
    that is too narrow the last columns are left out, and named, but the first `needed` ones stay (None: all).
    """
    rows = [tuple(row) for row in rows]
    if console.is_terminal if console else on_terminal():
        _print_on_terminal(
            columns, rows, console or terminal(), empty=empty, numbers=numbers, styles=styles, needed=needed
        )
        return
    out = console.file if console else sys.stdout
    for row in (columns, *rows) if rows else ():
        out.write("\t".join(row).replace(NBSP, " ") + "\n")
    if not rows and empty:
        sys.stderr.write(f"{empty}\n")


def say(text: str) -> None:
    """Print a line that is never folded. Numbers and units are joined by plain blanks, easy to search for."""
    typer.echo(text.replace(NBSP, " "))


def on_terminal() -> bool:
    """Tell whether somebody looks at stdout; FORCE_COLOR makes a pipe count as a terminal, as in rich."""
    return sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))


def terminal() -> Console:
    """Return what prints on a terminal, without colours that it finds by itself."""
    from rich.console import Console

    return Console(highlight=False)


def _print_on_terminal(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    console: Console,
    *,
    empty: str,
    numbers: Collection[str],
    styles: Sequence[str],
    needed: int | None,
) -> None:
    from rich.text import Text

    from perfci.cli.layout import fit_most, lines

    if not rows:
        if empty:
            console.print(empty, markup=False, soft_wrap=True)
        return
    layout, left_out = fit_most(columns, rows, console.width, needed=needed or len(columns))
    for row, first, rest in lines(layout, numbers):
        style = "bold" if row < 0 or not layout.widths else ""
        style = styles[row] if styles and row >= 0 else style
        console.print(Text.assemble((first, style), (rest, "bold" if row < 0 else "")), soft_wrap=True)
    if layout.same:
        _print_same(console, layout.same)
    if left_out:
        console.print(
            f"Not shown: {', '.join(left_out)}; a wider terminal, or a pipe, has them.", markup=False
        )


def print_sections(
    columns: Sequence[str],
    rows: Sequence[tuple[str, tuple[str, ...]]],
    *,
    needed: int,
    numbers: Collection[str] = (),
    stay: Collection[str] = (),
    styles: Mapping[str, str] | None = None,
    console: Console | None = None,
) -> None:
    """Print a table below headings on a terminal: each row comes with its heading, equal ones together.

    The last columns are left out where there is no room for them, but the first `needed` ones stay. A column
    that is equal in every row is said once below, unless it is one of `stay`.
    """
    from rich.text import Text

    from perfci.cli.layout import fit_most, lines

    if not rows:
        return
    console = console or terminal()
    cells, width = [row for _, row in rows], console.width - len(_INDENT)
    layout, _ = fit_most(columns, cells, width, needed=needed, fold_first=True, stay=stay)
    begun = None
    for row, first, rest in lines(layout, numbers):
        heading = rows[row][0] if row >= 0 else None
        if heading != begun and heading is not None:
            console.print(Text(heading, style=(styles or {}).get(heading, "bold")), soft_wrap=True)
            begun = heading
        console.print(Text(f"{_INDENT}{first}{rest}", style="bold" if row < 0 else ""), soft_wrap=True)
    if layout.same:
        _print_same(console, layout.same)


def print_by_heading(
    columns: Sequence[str],
    rows: Sequence[tuple[str, ...]],
    *,
    empty: str,
    needed: int,
    numbers: Collection[str] = (),
) -> None:
    """Print rows that begin with their heading: on a terminal below it, so that they keep to a line.

    In a pipe the heading is their first column. `needed` is that of `print_sections`.
    """
    if rows and on_terminal():
        sections = [(row[0], row[1:]) for row in rows]
        print_sections(columns[1:], sections, needed=needed, numbers=numbers)
    else:
        print_table(columns, rows, empty=empty)


def _print_same(console: Console, same: Iterable[tuple[str, str]]) -> None:
    console.print(f"In all rows: {'; '.join(f'{name} {value}' for name, value in same)}", markup=False)


@contextmanager
def errors_reported(*, as_json: bool) -> Iterator[None]:
    """Print an error that a person can meet, with what to do next, and leave with its exit code."""
    try:
        yield
    except PerfciError as error:
        print_error(error, as_json=as_json)
        raise typer.Exit(error.exit_code) from error
    except OSError as error:
        refused = FileRefused.of(error)
        if refused is None:
            raise
        print_error(refused, as_json=as_json)
        raise typer.Exit(refused.exit_code) from error


def print_error(error: PerfciError, *, as_json: bool) -> None:
    """Print an error: as JSON on stdout, else on stderr with its advice and where to read more."""
    if as_json:
        print_json(error.as_dict())
        return
    lines = [f"error: {error}", *getattr(error, "__notes__", ())]
    if error.advice:
        lines.append(error.advice)
    lines.append(f"See {ERRORS_DOCUMENT}#{type(error).__name__.lower()}")
    sys.stderr.write("\n".join(lines) + "\n")


def print_guessed(errors: Iterable[PerfciError]) -> None:
    """Say on stderr where perfci went on with default settings, as it could not read others."""
    for error in errors:
        sys.stderr.write(f"warning: {error}\n{error.advice}\n")


def print_dropped(left_out: Iterable[tuple[str, int]]) -> None:
    """Say on stderr which iterations of a run were left out, and why."""
    from perfci.wording import dropped

    for scenario, count in left_out:
        sys.stderr.write(f"{dropped(scenario, count)}\n")


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    msg = f"{type(value).__name__} can't be written as JSON"
    raise TypeError(msg)
