"""A lab's history, made from one real archived night: `python benchmarks/scale.py` measures on it.

The night's Rally tasks are there in many copies, each with an argument of its own, so that each copy is a
series of its own. Runs of a series differ by 3 %, iterations by 8 %; what the counters say differs by 1 %.
The runs of the history are in the index and, with record, job and canaries, in the archive. Tonight's run is
archived whole, with Rally's reports, and in no index yet.

A year of 10,000 series has 3.6 million rows: they are drawn as arrays, a night at a time, and put into the
index's file as they are (`perfci.results.stores.local` says how it keeps values).
"""

from __future__ import annotations

import copy
import json
import math
import shutil
import sqlite3
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from perfci.results.archive import read_archive
from perfci.results.model import CodeUnderTest, Metric, RunRecord, RunResults, Validity
from perfci.results.record import record_to_dict
from perfci.results.stores.local import LocalStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

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
    _write_history(state / "results.db", results.measurements, usual, nights, chance)
    for number in range(nights - 1):
        _folder(archive, _record(number), seed, chance)
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
    (folder / "job.yml").write_text(_job(seed))
    (folder / "tasks.json").write_text("[]")
    return folder


@cache
def _job(seed: Path) -> str:
    """Return the job; nobody is there to run anything again."""
    tasks = [task["task"] for task in json.loads((seed / "tasks.json").read_text())]
    return yaml.safe_dump(
        {
            "name": JOB,
            "scenarios": [{"task": task, "times": ITERATIONS} for task in tasks],
            "analysis": {"confirm": {"enabled": False}},
        }
    )


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


def _write_history(
    index: Path,
    measurements: Sequence[Measurement],
    usual: Sequence[tuple[float, bool]],
    nights: int,
    chance: np.random.Generator,
) -> None:
    """Put what all nights but the last have measured into a new index."""
    drawing = _Drawing.of(measurements, usual)
    first = tuple(replace(one, run_id=_record(0).run_id) for one in measurements)
    LocalStore(index).write(RunResults(_record(0), first))
    with sqlite3.connect(index) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        rows = connection.execute("SELECT id, lab, job, scenario, arguments, action, metric FROM series")
        ids = {tuple(found): number for number, *found in rows}
        places = [ids[tuple(map(str, astuple(one.key)))] for one in measurements]
        connection.execute("DELETE FROM measurements")
        for number in range(nights - 1):
            record = _record(number)
            if number:
                row = (record.run_id, record.lab, record.job, json.dumps(record_to_dict(record)))
                connection.execute("INSERT INTO runs (run_id, lab, job, record) VALUES (?, ?, ?, ?)", row)
            drawn = drawing.night(chance, is_slow=nights - 1 - number < SLOW_NIGHTS)
            connection.executemany(
                "INSERT INTO measurements (series_id, run_id, attempts, failures, samples, timestamps) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (places[n], record.run_id, measurements[n].attempts, measurements[n].failures, *blobs)
                    for n, blobs in drawn
                ),
            )


@dataclass(frozen=True, eq=False)
class _Drawing:
    """What nights are drawn from: for each series its usual values, and how it differs from run to run."""

    levels: tuple[NDArray[np.float64], ...]
    """By series, its usual iterations; of timings each is the level."""
    timestamps: tuple[bytes, ...]
    scatter: NDArray[np.float64]
    """By series, the deviation between runs, in logarithms."""
    iterations: NDArray[np.bool_]
    """By series, whether its iterations differ as those of timings do."""
    slower: NDArray[np.bool_]

    @classmethod
    def of(cls, measurements: Sequence[Measurement], usual: Sequence[tuple[float, bool]]) -> _Drawing:
        """Return what nights like this one are drawn from."""
        timed = np.array([one.key.metric is Metric.SECONDS for one in measurements])
        fixed = {Metric.FAILURE_RATE, Metric.SQL_STATEMENTS}
        steady = np.array([one.key.metric in fixed for one in measurements])
        return cls(
            tuple(
                np.full(len(one.values), level) if is_timed else np.array(one.values, dtype=np.float64)
                for one, (level, _), is_timed in zip(measurements, usual, timed, strict=True)
            ),
            tuple(np.array(one.timestamps, dtype="<f8").tobytes() for one in measurements),
            np.where(timed, BETWEEN_RUNS, np.where(steady, 0.0, COUNTERS)),
            timed,
            np.array([moves for _, moves in usual]),
        )

    def night(
        self, chance: np.random.Generator, *, is_slow: bool
    ) -> Iterator[tuple[int, tuple[bytes, bytes]]]:
        """Yield what a night measured: the number of the series, its values and their times."""
        runs = np.exp(chance.normal(0, 1, len(self.levels)) * self.scatter)
        runs[self.slower & self.iterations] *= SLOWER if is_slow else 1.0
        longest = max(level.size for level in self.levels)
        noise = np.exp(chance.normal(0, BETWEEN_ITERATIONS, (64, longest)))
        for number, level in enumerate(self.levels):
            drawn = level * runs[number]
            if self.iterations[number]:
                drawn = drawn * noise[number % 64, : level.size]
            yield number, (drawn.astype("<f8").tobytes(), self.timestamps[number])
