"""What all commands share: printing for people or as JSON, and errors.

For people: a table on a terminal, tab-separated lines in a pipe. With `--json`: one JSON document on
stdout, also for an error. The exit code is the error's.
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perfci.errors import PerfciError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

ERRORS_DOCUMENT = "docs/errors.md"

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
"""The option that every command has."""


def print_json(value: Any) -> None:
    """Print one JSON document; times are ISO 8601 with their zone."""
    sys.stdout.write(json.dumps(value, indent=2, default=_plain) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """Print a table on a terminal, tab-separated lines in a pipe, and `empty` where there are no rows."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    rows = list(rows)
    console = Console()
    if not console.is_terminal:
        for row in (columns, *rows) if rows else ():
            sys.stdout.write("\t".join(row) + "\n")
        return
    if not rows:
        console.print(empty)
        return
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)


@contextmanager
def errors_reported(*, as_json: bool) -> Iterator[None]:
    """Print an error that a person can meet, with what to do next, and leave with its exit code."""
    try:
        yield
    except PerfciError as error:
        print_error(error, as_json=as_json)
        raise typer.Exit(error.exit_code) from error


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


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    msg = f"{type(value).__name__} can't be written as JSON"
    raise TypeError(msg)
