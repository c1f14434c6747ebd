"""How long the trend pages take, how large they are, and how much memory they need.

    python benchmarks/pages.py --state FOLDER [--series 387] [--nights 365] [--keep]

Fills an empty state folder with made-up nights of one job (archive, index, judgements), writes all pages,
adds one night and writes the pages again, each time in a process of its own. Prints a table.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from perfci.analysis.types import Judgement, Outcome
from perfci.config import load
from perfci.results.model import (
    TOTAL,
    CodeUnderTest,
    Measurement,
    Metric,
    RunRecord,
    RunResults,
    SeriesKey,
    ServiceRevision,
    Validity,
)
from perfci.results.record import record_to_dict
from perfci.runs.verdicts.judgement_store import keep_judgements
from perfci.runs.verdicts.lab_services import LabServices

if TYPE_CHECKING:
    from collections.abc import Iterator

LAB, JOB = "embedded", "nightly"
FIRST = datetime(2026, 1, 1, 2, 15, tzinfo=UTC)
ITERATIONS = 30
SERVICES = ("keystone-api", "neutron-api", "nova-api", "nova-conductor", "placement-api")
ACTIONS = ("neutron.create_port", "neutron.list_ports", "neutron.delete_port", "neutron.create_network")
BASELINE = 60
UNFIT = Validity(valid=False, reasons=("canary disk on node-0 was slow",))


def main() -> None:
    """Fill, write, add a night, write again."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--state", type=Path, required=True, help="an empty folder")
    parser.add_argument("--series", type=int, default=387)
    parser.add_argument("--nights", type=int, default=365)
    parser.add_argument("--keep", action="store_true", help="leave the state folder where it is")
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    settings = load().model_copy(update={"state_dir": options.state.absolute(), "lab": LAB})
    services = LabServices(settings)
    if options.write:
        _write(services)
        return
    keys = list(_keys(options.series))
    for night in range(options.nights - 1):
        _night(services, keys, night)
    print(f"{len(keys)} series, {options.nights} nights, {ITERATIONS} iterations\n")
    print("| pages | seconds | CPU seconds | MB of memory | MB of pages | files |\n|---|---|---|---|---|---|")
    for what in ("all", "one night more", "nothing new"):
        if what == "one night more":
            _night(services, keys, options.nights - 1)
        command = [sys.executable, __file__, "--state", str(options.state), "--write"]
        seconds, cpu, peak = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        files = [file for file in services.state.site.rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in files) / 1e6
        print(f"| {what} | {seconds:.1f} | {cpu:.1f} | {peak:.0f} | {size:.1f} | {len(files)} |", flush=True)
    largest = sorted(((f.stat().st_size, f) for f in files if f.suffix == ".html"), reverse=True)
    for folder in (".", "runs", "scenarios"):
        found = [(size, file) for size, file in largest if file.parent == services.state.site / folder]
        if found:
            print(f"largest page in {folder}: {found[0][0] / 1e3:.0f} kB ({found[0][1].name})")
    if not options.keep:
        shutil.rmtree(options.state)


def _write(services: LabServices) -> None:
    from perfci.runs.publish.site_data import write_site

    began = time.monotonic()
    write_site(services)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps([time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e3]))


def _keys(number: int) -> Iterator[SeriesKey]:
    """Yield series as a job has them: timings, failure rate and counters of one scenario after the other."""
    each = 1 + len(ACTIONS) + 2 + 2 * len(SERVICES)
    for place in range(number):
        scenario = f"NeutronNetworks.create_and_list_ports_{place // each:03d}"
        part = place % each
        if part <= len(ACTIONS):
            action, metric = ((TOTAL, *ACTIONS)[part], Metric.SECONDS)
        elif part <= len(ACTIONS) + 2:
            action, metric = TOTAL, (Metric.FAILURE_RATE, Metric.LEFTOVERS)[part - len(ACTIONS) - 1]
        else:
            service, kind = divmod(part - len(ACTIONS) - 3, 2)
            action, metric = SERVICES[service], (Metric.CPU_SECONDS, Metric.SQL_STATEMENTS)[kind]
        yield SeriesKey(LAB, JOB, scenario, f"{place // each:08x}", action, metric)


def _night(services: LabServices, keys: list[SeriesKey], night: int) -> None:
    at = FIRST + timedelta(days=night)
    run_id = f"{at:%Y%m%dT%H%M%SZ}-{JOB}-{night:04x}"
    chance = random.Random(night)  # noqa: S311
    revision = f"29.0.{night // 7}"
    code = CodeUnderTest(
        f"{night // 7:012x}",
        tuple(
            ServiceRevision(name, revision, "wheel", revision)
            for name in ("glance", "keystone", "neutron", "nova", "placement")
        ),
    )
    record = RunRecord(
        run_id, LAB, JOB, "embedded", at, at + timedelta(minutes=9), "e" * 12, code,
        UNFIT if night % 41 == 40 else Validity(valid=True),  # noqa: PLR2004
    )  # fmt: skip
    folder = services.state.archive / run_id
    folder.mkdir(parents=True)
    stages = [
        {"name": name, "seconds": 40.0, "ok": True} for name in ("reserve", "deploy", "hammer", "publish")
    ]
    versions = {f"library-{n}": f"1.{n}.{night // 30}" for n in range(150)}
    document = {**record_to_dict(record), "failure": None, "stages": stages, "versions": versions}
    (folder / "run.json").write_text(json.dumps(document))
    services.local.write(RunResults(record, tuple(_measured(key, run_id, chance) for key in keys)))
    keep_judgements(services.database, run_id, [_judged(key, run_id, night, chance) for key in keys])


def _measured(key: SeriesKey, run_id: str, chance: random.Random) -> Measurement:
    level = _level(key)
    if key.metric is Metric.SECONDS:
        values = tuple(level * chance.lognormvariate(0, 0.18) for _ in range(ITERATIONS))
    elif key.metric in (Metric.FAILURE_RATE, Metric.LEFTOVERS):
        values = (0.0,)
    else:
        values = (level * chance.lognormvariate(0, 0.01),)
    times = tuple(1e9 + n for n in range(len(values)))
    return Measurement(key, run_id, values, times, ITERATIONS, 0)


def _level(key: SeriesKey) -> float:
    if key.metric in (Metric.FAILURE_RATE, Metric.LEFTOVERS):
        return 0.0
    one = random.Random(str(key)).uniform(0.05, 2.0)  # noqa: S311
    return one * {Metric.SQL_STATEMENTS: 100, Metric.CPU_SECONDS: 0.1}.get(key.metric, 1)


def _judged(key: SeriesKey, run_id: str, night: int, chance: random.Random) -> Judgement:
    baseline = tuple(
        f"{FIRST + timedelta(days=n):%Y%m%dT%H%M%SZ}-{JOB}-{n:04x}"
        for n in range(max(0, night - BASELINE), night)
    )
    if night < 8:  # noqa: PLR2004
        return Judgement(key, run_id, Outcome.NO_BASELINE, f"run {night + 1} of the 8 that a baseline needs")
    effect, level = chance.gauss(0, 0.01), _level(key)
    moved, noisy = chance.random() < 0.01, chance.random() < 0.02  # noqa: PLR2004
    outcome = Outcome.REGRESSION if moved else Outcome.TOO_NOISY if noisy else Outcome.NO_CHANGE
    effect += 0.12 * moved
    return Judgement(
        key,
        run_id,
        outcome,
        f"the level of 3 runs is {effect:+.1%} against {len(baseline)} baseline runs",
        baseline=baseline,
        location=level * (1 + effect),
        baseline_location=level,
        effect=effect,
        low=effect - 0.02,
        high=effect + 0.02,
        mde=0.035,
        p_value=0.0001 if moved else 0.4,
        q_value=0.001 if moved else 0.8,
        since=run_id if moved else None,
        level=level * (1 + effect),
    )


if __name__ == "__main__":
    main()
