"""What one more night costs a large lab: seconds, memory and disk.

    python benchmarks/scale.py                                # 1,000 series, 30 nights
    python benchmarks/scale.py --series 10000 --nights 365 --without-pages
    python benchmarks/scale.py --table                        # 1,000 and 10,000 series, 30 to 365 nights
    python benchmarks/scale.py --report 1000000               # one Rally report of so many iterations

Makes a lab's history from a real archived night (`scale_lab.py`), then lets perfci do what it does after one
more night, each step in a process of its own. InfluxDB is left out, and no node is there for re-runs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfci.runs.verdicts.lab_services import LabServices

GRID = ((1_000, 30), (1_000, 90), (1_000, 365), (10_000, 30), (10_000, 90))
SHOWN_NIGHTS = 90
"""Nights that the pages show: each has judgements."""
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Cost:
    """What a step took: seconds of the clock, CPU seconds and MiB of its process."""

    step: str
    seconds: float
    cpu: float | None = None
    mib: float | None = None


def main() -> None:
    """Measure, or do one step as a child."""
    options = _options()
    if options.step:
        print(json.dumps(STEPS[options.step](options)))
        return
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with _compiled():
        _measure_all(options)
    print(f"load {os.getloadavg()[0]:.1f}")


@contextmanager
def _compiled() -> Iterator[None]:
    """Have all modules compiled before anything is measured, as those of an installed perfci are."""
    with tempfile.TemporaryDirectory(prefix="perfci-scale-bytecode-") as folder:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = folder
        modules = "perfci.runs.publish.after_run, perfci.alerts.chart, matplotlib.figure, perfci.cli.main"
        subprocess.run([sys.executable, "-c", f"import {modules}"], check=True)
        yield


def _measure_all(options: argparse.Namespace) -> None:
    if options.report:
        _measure_report(options.report)
        return
    for series, nights in GRID if options.table else ((options.series, options.nights),):
        with tempfile.TemporaryDirectory(prefix="perfci-scale-", dir=options.dir) as folder:
            options.state = Path(folder)
            _measure(replace_options(options, series=series, nights=nights))


def replace_options(options: argparse.Namespace, **changed: Any) -> argparse.Namespace:
    """Return options with some of them changed."""
    return argparse.Namespace(**{**vars(options), **changed})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--series", type=int, default=1_000)
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument(
        "--moved", type=float, default=0.02, help="share of the tasks that are slower tonight"
    )
    parser.add_argument("--without-pages", action="store_true", help="leave the pages out")
    parser.add_argument("--table", action="store_true", help="several sizes, in 15 to 30 minutes")
    parser.add_argument("--report", type=int, default=0, metavar="ITERATIONS")
    parser.add_argument("--night", type=Path, help="another archived night to make the history from")
    parser.add_argument("--dir", type=Path, help="where the lab is made, and removed afterwards")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--state", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _measure(options: argparse.Namespace) -> None:
    made = _child("make", options)
    lab = made["lab"]
    print(f"\n{lab['series']:,} series x {lab['nights']} nights, {lab['iterations']:,} timings tonight")
    print(f"{'step':<44} {'seconds':>8} {'CPU':>8} {'MiB':>7}")
    for name, title in (
        ("first", "verdicts of all nights, none known"),
        ("replay", "verdicts of one night, replayed"),
    ):
        _print(_child(name, options, title=title))
    _child("judgements", options)
    index, database = _size(options.state / "results.db"), _size(options.state / "lab.db")
    night = _child("night", options, title="one more night")
    for stage in night["stages"]:
        _print({"costs": Cost(f"  {stage['name']}: {stage['note'][:30]}", stage["seconds"])})
    _print(night)
    print(
        f"{'  index, database of one night':<44} "
        f"{(_size(options.state / 'results.db') - index) / MIB:.1f} MiB, "
        f"{(_size(options.state / 'lab.db') - database) / MIB:.1f} MiB"
    )
    print(f"{'  pages':<44} {_size(options.state / 'site') / MIB:.1f} MiB")
    _print(_child("replay", options, title="the same night again, replayed (accept)"))
    for words in ("run list", "results show", "alerts list", "status"):
        _print({"costs": _command(words.split(), options.state)})


def _print(found: dict[str, Any]) -> None:
    one: Cost = found["costs"]
    rest = "" if one.cpu is None else f" {one.cpu:8.1f} {one.mib:7.0f}"
    print(f"{one.step:<44} {one.seconds:8.1f}{rest}", flush=True)


def _child(step: str, options: argparse.Namespace, *, title: str = "") -> dict[str, Any]:
    """Do one step in a process of its own; return what it prints, and what it cost."""
    words = [
        *(sys.executable, __file__, "--step", step, "--state", str(options.state)),
        *("--series", str(options.series), "--nights", str(options.nights), "--moved", str(options.moved)),
        *(("--night", str(options.night)) if options.night else ()),
        *(("--without-pages",) if getattr(options, "without_pages", False) else ()),
        *(("--report", str(options.report)) if options.report else ()),
    ]
    output, cost = _timed(words, options.state, title or step)
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return {**found, "costs": cost}


def _command(words: list[str], state: Path) -> Cost:
    """Return what a command costs that was run before: its own modules are compiled then."""
    _timed([sys.executable, "-m", "perfci", *words], state, "")
    return _timed([sys.executable, "-m", "perfci", *words], state, f"perfci {' '.join(words)}")[1]


def _timed(words: list[str], state: Path, title: str) -> tuple[str, Cost]:
    begun = time.monotonic()
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, env={**os.environ, **_environment(state)}
    )
    assert process.stdout is not None  # noqa: S101 - for mypy
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(words)} ended with {process.returncode}")
    return output, Cost(title, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def _environment(state: Path) -> dict[str, str]:
    return {"PERFCI_STATE_DIR": str(state)}


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else path.parent.glob(f"{path.name}*")
    return sum(one.stat().st_size for one in files if one.is_file())


# What follows runs in the children.


def _make(options: argparse.Namespace) -> dict[str, Any]:
    from scale_lab import SEED_NIGHT, make

    lab = make(
        options.state,
        options.night or SEED_NIGHT,
        series=options.series,
        nights=options.nights,
        moved=options.moved,
    )
    found = {**asdict(lab), "tonight": str(lab.tonight)}
    (options.state / "made.json").write_text(json.dumps(found))
    return {"lab": found}


def _services() -> LabServices:
    from perfci import config
    from perfci.results.sync import Synced
    from perfci.runs.verdicts.lab_services import LabServices

    class WithoutInflux(LabServices):
        def sync(self, on_step: object = None) -> Synced:  # noqa: ARG002
            return Synced((), ())

    return WithoutInflux(config.load())


def _first(_options: argparse.Namespace) -> dict[str, Any]:
    """Judge the last night of the history: all nights before it are decided on the way."""
    return _judged(_services())


def _replay(_options: argparse.Namespace) -> dict[str, Any]:
    from perfci.runs.verdicts.verdict_cache import forget_all

    services = _services()
    forget_all(services.database)
    return _judged(services)


def _judged(services: LabServices) -> dict[str, Any]:
    from perfci.runs.verdicts.judge import judge_run, summary
    from perfci.runs.verdicts.judgement_store import keep_judgements

    record = services.local.records("embedded", "scale")[-1]
    found = judge_run(services, record)
    keep_judgements(services.database, record.run_id, found)
    return {"found": summary(found)}


def _judgements(_options: argparse.Namespace) -> dict[str, Any]:
    """Give the nights that the pages show the judgements of the last one."""
    from perfci.runs.verdicts.judgement_store import keep_judgements, read_judgements

    services = _services()
    *earlier, last = services.local.run_ids("embedded", "scale")
    found = read_judgements(services.database, last)
    for run_id in earlier[-SHOWN_NIGHTS:]:
        keep_judgements(services.database, run_id, [replace(one, run_id=run_id) for one in found])
    return {}


def _night(options: argparse.Namespace) -> dict[str, Any]:
    """Do what perfci does after a night."""
    from perfci.runs.publish import after_run
    from perfci.runs.state.archived_run import ArchivedRun
    from perfci.runs.state.progress import Silent
    from perfci.runs.state.stages import Stages

    made = json.loads((options.state / "made.json").read_text())
    stages = Stages(Silent())
    if options.without_pages:
        after_run.write_site = lambda services: services.state.site
    outcome = after_run.Aftermath(_services()).of(ArchivedRun(Path(made["tonight"])), stages)
    if outcome.later:
        sys.exit(f"the night left something undone: {outcome.later[0]}")
    return {"stages": [{**one.as_dict(), "note": one.note} for one in stages.done]}


def _measure_report(iterations: int) -> None:
    with tempfile.TemporaryDirectory(prefix="perfci-scale-") as folder:
        path = Path(folder) / "report.json"
        with path.open("w") as file:
            file.writelines(_large_report(iterations))
        print(f"a report of {iterations:,} iterations, {path.stat().st_size / MIB:.0f} MiB")
        options = argparse.Namespace(
            state=path.parent, series=0, nights=0, moved=0, night=None, report=iterations
        )
        print(f"{'step':<44} {'seconds':>8} {'CPU':>8} {'MiB':>7}")
        _print(_child("read", options, title="read it"))


def _read(options: argparse.Namespace) -> dict[str, Any]:
    from perfci.results.rally import read_report

    found = read_report(options.state / "report.json", lab="scale", job="scale", run_id="one")
    return {"series": [len(one.values) for load in found for one in load.measurements]}


def _large_report(iterations: int) -> Iterator[str]:
    """Return a report of one workload, two actions an iteration, as Rally's exporter writes it."""
    from scale_lab import SEED_NIGHT

    report = json.loads((SEED_NIGHT / "rally" / "02-neutron-create-and-list-networks.json").read_text())
    workload = report["tasks"][0]["subtasks"][0]["workloads"][0]
    usable = [one for one in workload["data"] if not one["error"]]
    workload["data"] = ["HERE"]
    head, tail = json.dumps(report, indent=1).split('"HERE"')
    yield head
    for number in range(iterations):
        one = json.dumps({**usable[number % len(usable)], "timestamp": 1.7e9 + number}, indent=1)
        yield one if number == 0 else f",\n{one}"
    yield tail


STEPS = {
    "make": _make,
    "first": _first,
    "replay": _replay,
    "judgements": _judgements,
    "night": _night,
    "read": _read,
}

if __name__ == "__main__":
    main()
