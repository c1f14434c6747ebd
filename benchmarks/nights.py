"""Figures of archived nights: where the time goes, and how far unchanged runs differ.

    python benchmarks/nights.py [--state state] [--job nightly] [--lab LAB] [--code DIGEST]

Prints two tables: the stages of each run, and for each scenario the coefficient of variation over the
runs of the newest code (or of the code named) of the run's median seconds, of its CPU seconds per
iteration (all services) and of its SQL statements per iteration.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import mean, median, stdev
from typing import TYPE_CHECKING, Any

from perfci.results.archive import read_archive, run_folders
from perfci.results.model import TOTAL, Metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from perfci.results.model import RunResults

LOAD = "hammer"
ENOUGH = 2


def main() -> None:
    """Print the tables."""
    options = _options()
    folders = run_folders(options.state / "archive")
    documents = [json.loads((folder / "run.json").read_text()) for folder in folders]
    chosen = [
        (folder, document)
        for folder, document in zip(folders, documents, strict=True)
        if document["status"] == "finished"
        and document["job"] == options.job
        and options.lab in (None, document["lab"])
    ]
    if not chosen:
        print(f"No finished run of {options.job} in {options.state}.")
        return
    _stages([document for _, document in chosen])
    code = options.code or chosen[-1][1]["code"]["digest"]
    _spread([read_archive(folder) for folder, document in chosen if document["code"]["digest"] == code], code)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--state", type=Path, default=Path("state"), help="state folder")
    parser.add_argument("--job", default="nightly")
    parser.add_argument("--lab", help="only runs of this lab")
    parser.add_argument("--code", help="digest of the code for the second table; default: the newest run's")
    return parser.parse_args()


def _stages(documents: Sequence[dict[str, Any]]) -> None:
    names = [stage["name"] for stage in documents[-1]["stages"]]
    print("| run | code | " + " | ".join(names) + " | all | not load |")
    print("|---" * (len(names) + 4) + "|")
    for document in documents:
        seconds = {stage["name"]: stage["seconds"] for stage in document["stages"]}
        whole = sum(seconds.values())
        cells = [f"{seconds.get(name, 0):.0f}" for name in names]
        rest = f"{1 - seconds.get(LOAD, 0) / whole:.0%}"
        row = (document["run_id"], document["code"]["digest"][:6], *cells, f"{whole:.0f}", rest)
        print(f"| {' | '.join(row)} |")


def _spread(runs: Sequence[RunResults], code: str) -> None:
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for run in runs:
        for key, value in _values(run).items():
            values[key].append(value)
    scenarios = sorted({scenario for scenario, _ in values})
    print(f"\n{len(runs)} runs of code {code}\n")
    print("| scenario | median s | CV seconds | CV CPU seconds | CV SQL statements |")
    print("|---|---|---|---|---|")
    for scenario in scenarios:
        cells = [_cv(values[scenario, metric]) for metric in ("seconds", "cpu", "sql")]
        print(f"| {scenario} | {median(values[scenario, 'seconds']):.3f} | {' | '.join(cells)} |")


def _values(run: RunResults) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = defaultdict(float)
    for one in run.measurements:
        key = one.key
        if not one.values:
            continue
        if key.metric is Metric.SECONDS and key.action == TOTAL:
            found[key.scenario, "seconds"] = median(one.values)
        elif key.metric is Metric.CPU_SECONDS:
            found[key.scenario, "cpu"] += one.values[0]
        elif key.metric is Metric.SQL_STATEMENTS:
            found[key.scenario, "sql"] += one.values[0]
    return found


def _cv(values: Iterable[float]) -> str:
    known = list(values)
    return f"{stdev(known) / mean(known):.1%}" if len(known) >= ENOUGH and mean(known) else "-"


if __name__ == "__main__":
    main()
