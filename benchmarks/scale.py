"""What one more night costs a large lab: seconds, memory and disk.

    python benchmarks/scale.py                                # 1,000 and 10,000 series, 30, 90 and 365 nights
    python benchmarks/scale.py --size 1000x30 --size 10000x90 # these alone
    python benchmarks/scale.py --report 1000000               # one Rally report of so many iterations
    python benchmarks/scale.py --keep FOLDER                  # keep what was made and measured

Makes a lab's history from a real archived night (`scale_lab.py`), then lets perfci do what it does after one
more night, each step in a process of its own (`scale_steps.py`). InfluxDB is left out, and no node is there
for re-runs. The nights before the latest 30 are known by what they decided, as in a lab that has run for so
long; what they decided is a copy of what later ones did. The newest 10 runs have pages; in a lab it is 200.

With `--keep` a call that was cut off is continued by the next one, which measures only what is missing.
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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STEPS = Path(__file__).with_name("scale_steps.py")
GRID = tuple((series, nights) for series in (1_000, 10_000) for nights in (30, 90, 365))
COMMANDS = ("run list", "results show", "alerts list", "status")
MADE, NIGHT = "series, iterations tonight", "**one more night: store, analyse, alert, publish**"
WRITTEN = "files written, of those in the site"
BEFORE = {
    "verdicts of 30 nights, none known, others followed": "decide",
    "pages of the night before, none there": "pages",
}
AFTER = {"verdicts alone": "verdicts", "accept, or a new version: replay": "replay"}
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Cost:
    """What a step took: seconds of the clock, CPU seconds and MiB of its process."""

    seconds: float
    cpu: float
    mib: float

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s ({self.cpu:.1f}), {self.mib:.0f} MiB"


def main() -> None:
    """Measure all sizes that are asked for, and print a table."""
    options = _options()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    begun, columns = time.monotonic(), {}
    with _compiled():
        if options.report:
            _measure_report(options.report)
            return
        for series, nights in options.size or GRID:
            with _folder(options, f"{series}x{nights}") as folder:
                columns[f"{series:,} x {nights}"] = _measured(folder, series, nights, options)
    print(f"\n{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {time.monotonic() - begun:.0f} s in all")
    print("seconds (CPU seconds), peak memory of the process\n")
    _print_table(columns)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--size", type=_size_of, action="append", metavar="SERIESxNIGHTS", help="instead of all sizes"
    )
    parser.add_argument(
        "--moved", type=float, default=0.02, help="share of the tasks that are slower tonight"
    )
    parser.add_argument("--report", type=int, default=0, metavar="ITERATIONS")
    parser.add_argument("--night", type=Path, help="another archived night to make the history from")
    parser.add_argument("--dir", type=Path, help="where the lab is made, and removed afterwards")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="make the labs here, and leave them there"
    )
    return parser.parse_args()


def _size_of(text: str) -> tuple[int, int]:
    series, _, nights = text.partition("x")
    return int(series), int(nights)


@contextmanager
def _compiled() -> Iterator[None]:
    """Have all modules compiled before anything is measured, as those of an installed perfci are."""
    with tempfile.TemporaryDirectory(prefix="perfci-scale-bytecode-") as folder:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = folder
        modules = "perfci.runs.publish.after_run, perfci.alerts.chart, matplotlib.figure, perfci.cli.main"
        subprocess.run([sys.executable, "-c", f"import {modules}"], check=True)
        yield


@contextmanager
def _folder(options: argparse.Namespace, size: str) -> Iterator[Path]:
    """Give the folder of one size: one that stays, or one that is removed."""
    if options.keep:
        (kept := options.keep / size).mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="perfci-scale-", dir=options.dir) as folder:
        yield Path(folder)


class _Rows:
    """What was measured of one size, by title; kept beside the lab, so that no step is done twice."""

    def __init__(self, folder: Path, size: str) -> None:
        self._file, self._begun, self._size = folder / "measured.json", folder / "begun", size
        self.rows: dict[str, str] = json.loads(self._file.read_text()) if self._file.exists() else {}

    def once(self, title: str, measure: Callable[[], dict[str, object]], *, twice: bool = True) -> None:
        """Measure what `title` names, unless that was done; `measure` returns its rows, this one among them.

        A step that was cut off is done again, unless the lab is another one after half of it (`twice`).
        """
        if title not in self.rows:
            if not twice:
                if self._begun.exists() and self._begun.read_text() == title:
                    sys.exit(f"{title!r} was cut off: remove {self._begun.parent}, and begin again")
                self._begun.write_text(title)
            self.rows |= {name: str(value) for name, value in measure().items()}
            self._file.write_text(json.dumps(self.rows))
            self._begun.unlink(missing_ok=True)
            print(f"{self._size}  {title:<52} {self.rows[title]}", flush=True)


def _measured(folder: Path, series: int, nights: int, options: argparse.Namespace) -> dict[str, str]:
    """Return the rows of one size."""
    kept = _Rows(folder, f"{series:>6,} x {nights:<3}")
    state = folder / "state"
    words = ["--series", str(series), "--nights", str(nights), "--moved", str(options.moved)]
    words += ["--night", str(options.night)] if options.night else []

    def make() -> dict[str, object]:
        lab, _ = _step("make", state, *words)
        return {MADE: f"{lab['series']:,}, {lab['iterations']:,}"}

    def one_more_night() -> dict[str, object]:
        night, cost = _step("night", state)
        stages = {f"... {stage['name']}": f"{stage['seconds']:.1f} s" for stage in night["stages"]}
        return {NIGHT: cost, **stages, WRITTEN: f"{night['written']} of {night['files']}"}

    kept.once(MADE, make, twice=False)
    for title, step in BEFORE.items():
        kept.once(title, lambda title=title, step=step: {title: _step(step, state)[1]})
    kept.once(NIGHT, one_more_night, twice=False)
    for title, step in AFTER.items():
        kept.once(title, lambda title=title, step=step: {title: _step(step, state)[1]})
    for command in COMMANDS:
        kept.once(
            f"`perfci {command}`", lambda command=command: {f"`perfci {command}`": _command(command, state)}
        )
    kept.once(
        "judgements of a night",
        lambda: {title: f"{number / MIB:.1f} MiB" for title, number in _step("sizes", state)[0].items()},
    )
    return kept.rows


def _print_table(columns: dict[str, dict[str, str]]) -> None:
    titles = dict.fromkeys(title for rows in columns.values() for title in rows)
    print(f"| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for title in titles:
        print(f"| {title} | {' | '.join(rows.get(title, '') for rows in columns.values())} |")


def _step(step: str, state: Path, *words: str) -> tuple[dict[str, Any], Cost]:
    """Do one step in a process of its own; return what it prints, and what it cost."""
    output, cost = _timed([sys.executable, str(STEPS), step, str(state), *words], state)
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found, cost


def _command(words: str, state: Path) -> Cost:
    """Run a command twice, and return what the second time cost: its own modules are compiled then."""
    _timed([sys.executable, "-m", "perfci", *words.split()], state)
    return _timed([sys.executable, "-m", "perfci", *words.split()], state)[1]


def _timed(words: list[str], state: Path) -> tuple[str, Cost]:
    begun = time.monotonic()
    environment = {**os.environ, "PERFCI_STATE_DIR": str(state)}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None  # noqa: S101 - for mypy
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(words)} ended with {process.returncode}")
    return output, Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def _measure_report(iterations: int) -> None:
    with tempfile.TemporaryDirectory(prefix="perfci-scale-") as folder:
        _step("report", Path(folder), "--iterations", str(iterations))
        size = (Path(folder) / "report.json").stat().st_size
        print(f"a report of {iterations:,} iterations, {size / MIB:.0f} MiB")
        print(f"read it: {_step('read', Path(folder))[1]}")


if __name__ == "__main__":
    main()
