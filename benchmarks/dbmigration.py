"""Seconds and rows of each migration by the size of the databases, from an archived run of such a job.

usage: python benchmarks/dbmigration.py RUN_FOLDER [--least SECONDS]
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from pathlib import Path

METRICS = ("seconds", "rows_read", "rows_changed", "pages_read")
Row = dict[int, dict[str, float]]


def by_migration(folder: Path) -> dict[tuple[str, str], Row]:
    """Return the values of each migration of each database, by size."""
    found: dict[tuple[str, str], Row] = defaultdict(dict)
    for part in json.loads((folder / "phases.json").read_text()):
        if part["status"] == "finished":
            where = part["arguments"]
            for phase in part["phases"]:
                found[where["database"], phase["action"]][where["size"]] = phase["values"]
    return found


def growth(row: Row, metric: str) -> str:
    """Return the power of the size that a value grows with, from the smallest to the largest: 1 is linear."""
    small, large = min(row), max(row)
    before, after = row[small].get(metric, 0), row[large].get(metric, 0)
    if small == large or before <= 0 or after <= 0:
        return "-"
    return f"{math.log(after / before) / math.log(large / small):.2f}"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--least", type=float, default=0.05, help="leave out what took less")
    arguments = parser.parse_args()
    found = by_migration(arguments.folder)
    sizes = sorted({size for row in found.values() for size in row})
    shown = " / ".join(map(str, sizes))
    head = ("database", "migration", f"seconds ({shown})", "growth", *METRICS[1:], "growth")
    print(f"| {' | '.join(head)} |")
    print("|---|---|---|---|---|---|---|---|")
    for (database, action), row in found.items():
        if row[max(row)]["seconds"] < arguments.least:
            continue
        cells = [
            " / ".join(
                f"{row[size].get(metric, 0):.{2 if metric == 'seconds' else 0}f}" for size in sorted(row)
            )
            for metric in METRICS
        ]
        seconds, read, changed, pages = cells
        ends = growth(row, "seconds"), growth(row, "pages_read")
        print(f"| {database} | {action} | {seconds} | {ends[0]} | {read} | {changed} | {pages} | {ends[1]} |")


if __name__ == "__main__":
    main()
