"""The runs of an archive, each with its verdict."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from perfci.cli.tables import TextTable

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from perfci.analysis.types import Outcome

COLUMNS = ("run", "lab", "job", "verdict", "status", "lab fit", "code", "environment", "re-run for")
BRIEF = ("run", "verdict", "job", "lab", "code", "environment", "re-run for")
"""What a terminal shows, the most important first."""
NEEDED = 2


def readable(folders: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """Yield the run.json of each run, read when it is asked for; say on stderr which of them are damaged."""
    from perfci.results.errors import ArchiveError
    from perfci.runs.state.archived_run import ArchivedRun

    for folder in folders:
        run = ArchivedRun(folder)
        try:
            run.record  # noqa: B018 - raises where it is no run's
            yield run.document
        except ArchiveError as error:
            sys.stderr.write(f"left out: {error}\n")


def verdict_of(document: Mapping[str, Any], count: Counter[Outcome] | None) -> str:
    """Return a run's verdict in a few words, given its run.json and how many series have each outcome."""
    from perfci.analysis.types import Outcome
    from perfci.report.model import worst_of

    if failure := document.get("failure"):
        return f"failed in {failure['stage']} ({failure['class']})"
    if not document["validity"]["valid"]:
        return str(Outcome.INVALID)
    return worst_of(count or {}).text


def runs_table(
    documents: Sequence[Mapping[str, Any]], counts: Mapping[str, Counter[Outcome]], *, brief: bool
) -> TextTable:
    """Show runs; where it has to be `brief`, only the columns of `BRIEF`: the verdict says the rest."""
    rows = []
    for one in documents:
        failed, fit = one.get("failure"), one["validity"]["valid"]
        status = f"failed ({failed['class']})" if failed else one["status"]
        rows.append(
            (
                one["run_id"],
                one["lab"],
                one["job"],
                verdict_of(one, counts.get(one["run_id"])),
                status,
                "yes" if fit else "no",
                one["code"]["digest"],
                one["environment"]["digest"],
                one.get("confirms", ""),
            )
        )
    if not brief:
        return TextTable(COLUMNS, rows)
    places = [COLUMNS.index(name) for name in BRIEF]
    return TextTable(BRIEF, [tuple(row[place] for place in places) for row in rows])
