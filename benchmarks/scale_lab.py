"""A lab's history, made from one real archived night: `python benchmarks/scale.py` measures on it.

The night's Rally tasks are there in many copies, each with an argument of its own, so that each copy is a
series of its own. Runs of a series differ by 3 %, iterations by 8 %; what the counters say differs by 1 %.
The runs of the history are in the index and, with record, job and canaries, in the archive. Tonight's run is
archived whole, with Rally's reports, and in no index yet.
"""

from __future__ import annotations

import copy
import json
import math
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from perfci.results.archive import read_archive
from perfci.results.model import CodeUnderTest, Metric, RunRecord, RunResults, Validity
from perfci.results.record import record_to_dict
from perfci.results.stores.local import LocalStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfci.results.model import Measurement

SEED_NIGHT = Path(__file__).parents[1] / "tests" / "data" / "archive" / "20261121T052400Z-sample-7c3d"
LAB, JOB = "embedded", "scale"
TONIGHT = datetime(2026, 11, 21, 4, 15, tzinfo=UTC)
ITERATIONS = 30
BETWEEN_RUNS, BETWEEN_ITERATIONS, COUNTERS = 0.03, 0.08, 0.01
SLOWER = 1.3
SLOW_NIGHTS = 2
"""Tonight and so many nights less one before it the copies that moved are slower."""


@dataclass(frozen=True, slots=True)
class MadeLab:
    """What was made: how many series and nights, and the run that was not looked at yet."""

    series: int
    nights: int
    iterations: int
    tonight: Path
    before: str
    """The last run of the history."""


def make(state: Path, seed: Path, *, series: int, nights: int, moved: float) -> MadeLab:
    """Make the history of a lab in an empty state folder.

    A share `moved` of the copies of the seed's tasks is slower since yesterday.
    """
    archive = state / "archive"
    chance = np.random.default_rng(1)
    one = _night(archive, nights - 1, seed, copies=1, slow=0, chance=chance)
    found = len(read_archive(one).measurements)
    shutil.rmtree(one)
    copies = math.ceil(series / found)
    slow = math.ceil(moved * copies) if moved else 0
    tonight = _night(archive, nights - 1, seed, copies=copies, slow=slow, chance=chance)
    results = read_archive(tonight)
    usual = _usual(results.measurements, tonight, slow)
    store = LocalStore(state / "results.db")
    for number in range(nights - 1):
        record = _record(number)
        _folder(archive, record, seed, chance)
        is_slow = nights - 1 - number < SLOW_NIGHTS
        drawn = _drawn(results.measurements, usual, record.run_id, chance, is_slow=is_slow)
        store.write(RunResults(record, drawn))
    return MadeLab(
        series=len(results.measurements),
        nights=nights,
        iterations=sum(len(m.values) for m in results.measurements if m.key.metric is Metric.SECONDS),
        tonight=tonight,
        before=_record(nights - 2).run_id,
    )


def _record(number: int) -> RunRecord:
    started = TONIGHT - timedelta(days=1000) + timedelta(days=number)
    return RunRecord(
        run_id=f"{started:%Y%m%dT%H%M%SZ}-{JOB}-{number:04x}",
        lab=LAB,
        job=JOB,
        cloud="embedded",
        started_at=started,
        finished_at=started + timedelta(hours=1),
        environment="0123456789ab",
        code=CodeUnderTest(f"{number:012x}", ()),
        validity=Validity(valid=True),
    )


def _folder(archive: Path, record: RunRecord, seed: Path, chance: np.random.Generator) -> Path:
    """Make an archive folder with all but what Rally measured."""
    folder = archive / record.run_id
    (folder / "canaries").mkdir(parents=True)
    for path in sorted((seed / "canaries").glob("*-before.json")):
        for suffix in ("-before", "-after"):
            document = json.loads(path.read_text())
            for canary in document["canaries"].values():
                usual = float(np.median(canary["values"]))
                canary["values"] = [usual * float(x) for x in np.exp(chance.normal(0, 0.005, 5))]
            (folder / "canaries" / path.name.replace("-before", suffix)).write_text(json.dumps(document))
    document = {**record_to_dict(record), "failure": None, "stages": []}
    (folder / "run.json").write_text(json.dumps(document))
    (folder / "job.yml").write_text(yaml.safe_dump(_job(seed)))
    (folder / "tasks.json").write_text("[]")
    return folder


def _job(seed: Path) -> dict[str, Any]:
    """Return the job; nobody is there to run anything again."""
    tasks = [task["task"] for task in json.loads((seed / "tasks.json").read_text())]
    return {
        "name": JOB,
        "scenarios": [{"task": task, "times": ITERATIONS} for task in tasks],
        "analysis": {"confirm": {"enabled": False}},
    }


def _night(
    archive: Path, number: int, seed: Path, *, copies: int, slow: int, chance: np.random.Generator
) -> Path:
    """Archive a whole run: the seed's tasks, so many copies of each, the first `slow` of them slower."""
    folder = _folder(archive, _record(number), seed, chance)
    shutil.copytree(seed / "counters", folder / "counters")
    (folder / "rally").mkdir()
    tasks = []
    for task in json.loads((seed / "tasks.json").read_text()):
        if task["status"] != "finished":
            continue
        report = json.loads((seed / "rally" / f"{task['slug']}.json").read_text())
        for copied in range(copies):
            slug = f"{task['slug']}-{copied}"
            factor = SLOWER if copied < slow else 1.0
            text = json.dumps(_report(report, copied, factor, chance))
            (folder / "rally" / f"{slug}.json").write_text(text)
            tasks.append({**task, "slug": slug})
    (folder / "tasks.json").write_text(json.dumps(tasks))
    return folder


def _report(
    report: dict[str, Any], number: int, factor: float, chance: np.random.Generator
) -> dict[str, Any]:
    """Return a report with iterations drawn from those of another one, and an argument of its own."""
    drawn = copy.deepcopy(report)
    for workload in (w for task in drawn["tasks"] for sub in task["subtasks"] for w in sub["workloads"]):
        arguments = next(iter(workload["scenario"].values()))
        arguments["copy"] = number
        usable = [one for one in workload["data"] if not one["error"]] or workload["data"]
        run = factor * math.exp(chance.normal(0, BETWEEN_RUNS))
        workload["data"] = [
            _scaled(usable[place % len(usable)], usable[0]["timestamp"] + 10 * place, run * noise)
            for place, noise in enumerate(np.exp(chance.normal(0, BETWEEN_ITERATIONS, ITERATIONS)).tolist())
        ]
    return drawn


def _scaled(iteration: dict[str, Any], start: float, factor: float) -> dict[str, Any]:
    begun = iteration["timestamp"]

    def moved(action: dict[str, Any]) -> dict[str, Any]:
        times = {
            name: start + (action[name] - begun) * factor
            for name in ("started_at", "finished_at")
            if action.get(name) is not None
        }
        return {**action, **times, "children": [moved(one) for one in action.get("children", ())]}

    return {
        **iteration,
        "timestamp": start,
        "duration": iteration["duration"] * factor,
        "atomic_actions": [moved(one) for one in iteration["atomic_actions"]],
    }


def _usual(measurements: Sequence[Measurement], tonight: Path, slow: int) -> list[tuple[float, bool]]:
    """Return the usual level of each series, and whether it is slower since yesterday."""
    slower = _slow_arguments(tonight, slow)
    found = []
    for one in measurements:
        is_slow = one.key.metric is Metric.SECONDS and one.key.arguments in slower
        level = float(np.median(one.values)) if one.values else 0.0
        found.append((level / SLOWER if is_slow else level, is_slow))
    return found


def _slow_arguments(tonight: Path, slow: int) -> frozenset[str]:
    from perfci.results.rally import read_report

    slugs = [task["slug"] for task in json.loads((tonight / "tasks.json").read_text())]
    return frozenset(
        load.arguments
        for slug in slugs
        if int(slug.rpartition("-")[2]) < slow
        for load in read_report(tonight / "rally" / f"{slug}.json", lab=LAB, job=JOB, run_id=tonight.name)
    )


def _drawn(
    measurements: Sequence[Measurement],
    usual: Sequence[tuple[float, bool]],
    run_id: str,
    chance: np.random.Generator,
    *,
    is_slow: bool,
) -> tuple[Measurement, ...]:
    """Return what a night of the history measured."""
    runs = np.exp(chance.normal(0, BETWEEN_RUNS, len(measurements)))
    counters = np.exp(chance.normal(0, COUNTERS, len(measurements)))
    iterations = np.exp(chance.normal(0, BETWEEN_ITERATIONS, (64, ITERATIONS)))
    drawn = []
    for number, (one, (level, moves)) in enumerate(zip(measurements, usual, strict=True)):
        values = one.values
        if one.key.metric is Metric.SECONDS:
            factor = level * float(runs[number]) * (SLOWER if moves and is_slow else 1.0)
            values = tuple((iterations[number % 64, : len(one.values)] * factor).tolist())
        elif one.key.metric is not Metric.FAILURE_RATE and one.key.metric is not Metric.SQL_STATEMENTS:
            values = tuple(value * float(counters[number]) for value in one.values)
        drawn.append(replace(one, run_id=run_id, values=values))
    return tuple(drawn)
