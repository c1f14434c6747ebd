"""Paired runs made from a recorded Rally report: the same iterations on either side, the new one by a factor slower."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

from archives import SCENARIO, night, report

from perfci.results.pairs import NEW, OLD, PAIRS, REFERENCE

if TYPE_CHECKING:
    from pathlib import Path

SLUG = "01-ports"
OLD_CODE = "aaaaaaaaaaaa"
TASK = {
    "slug": SLUG, "task": "neutron-create-and-list-ports", "scenario": SCENARIO, "warmup": 2, "times": 28,
    "concurrency": 2, "started_at": 1_700_000_000.0, "finished_at": 1_700_000_400.0, "status": "finished", "error": None,
}  # fmt: skip


def iterations(document: dict) -> list[dict]:
    return document["tasks"][0]["subtasks"][0]["workloads"][0]["data"]


def write_sides(
    folder: Path,
    *,
    factor: float = 1.0,
    both: float = 1.0,
    seed: int = 0,
    count: int = 30,
    block: int = 1,
    left: str | None = None,
) -> None:
    """Write what the hammer of a paired run leaves: both sides' reports, their tasks, and the record of pairs.

    `factor` makes the new side slower, `both` either. `left` is why the old side stopped.
    """
    rows: dict[str, list[float]] = {}
    for at, (side, place, scale) in enumerate(
        ((NEW, folder, factor * both), (OLD, folder / REFERENCE, both))
    ):
        document = report(factor=scale, seed=2 * seed + at, iterations=count)
        for one in iterations(document):
            one["timestamp"] += 3.0 * at
            for action in one["atomic_actions"]:
                action["started_at"] += 3.0 * at
                action["finished_at"] += 3.0 * at
        rows[side] = [one["timestamp"] for one in iterations(document)]
        (place / "rally").mkdir(parents=True, exist_ok=True)
        (place / "rally" / f"{SLUG}.json").write_text(json.dumps(document))
        (place / "tasks.json").write_text(json.dumps([TASK]))
        (place / "code.json").write_text(json.dumps({"services": [], "packages": {}, "venv": "v"}))
    chance, pairs = random.Random(seed), []  # noqa: S311
    for first in range(0, count, block):
        order = [OLD, NEW] if chance.random() < 0.5 else [NEW, OLD]
        ran = {
            side: [[at + 1, rows[side][at], False] for at in range(first, min(count, first + block))]
            for side in (OLD, NEW)
        }
        pairs.append({"order": order, **ran})
    sides = {OLD: {"left": left}, NEW: {"left": None}}
    record = {
        "version": 1,
        "seed": seed,
        "sides": sides,
        "tasks": {SLUG: {"pairs": pairs, "alone": {}, "notes": []}},
    }
    (folder / PAIRS).write_text(json.dumps(record))


def paired_night(
    archive: Path, number: int, *, factor: float = 1.0, both: float = 1.0, reference: str = OLD_CODE, **how
) -> Path:
    """Archive a night that was held against the release of neutron beside it; return its folder."""
    folder = night(archive, number, reference=reference, **how)
    write_sides(folder, factor=factor, both=both, seed=number)
    document = json.loads((folder / "run.json").read_text())
    service = {"service": "neutron", "version": "29.0.0", "source": "wheel", "revision": "29.0.0"}
    document["reference"]["services"] = [{**service, "changes": []}]
    (folder / "run.json").write_text(json.dumps(document))
    (folder / "job.yml").write_text((folder / "job.yml").read_text() + "reference: {neutron: {}}\n")
    return folder
