"""Damaged files by the million: `python benchmarks/fuzz.py --inputs 1000000`.

Every kind of file or answer that comes from outside is damaged and read (`tests/foreign_files.py`). Whatever
is no PerfciError is printed with the command that brings it back; so is an input that takes more than ten CPU
seconds, or more memory than the limit.

The kinds take turns of a second each, so quick kinds get through more inputs. The figures of each kind are
printed once a minute and at the end: after the last input, at the time limit, or on Ctrl-C. With
`--totals FILE` the figures are kept, and the next call goes on with inputs that were not tried yet.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import sys
import tempfile
import time
import traceback
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import foreign_files

if TYPE_CHECKING:
    from collections.abc import Iterator

TURN = 1.0
"""Seconds that a kind has before the next one."""
BETWEEN_TABLES = 60.0
"""Seconds."""
MOST_CPU_SECONDS = 10.0
"""For one input."""
MOST_SHOWN = 5
MIB = 2**20


@dataclass(slots=True)
class Figures:
    """What was tried of one kind."""

    next_seed: int
    inputs: int = 0
    failed: int = 0
    cpu_seconds: float = 0.0
    mib: float = 0.0
    """The largest resident memory of the process after a turn of this kind."""


class TooSlow(BaseException):
    """An input took more CPU time than any may; no reader can take it for an error of its own."""


def main() -> None:
    """Try inputs of all kinds in turns, and print a table."""
    options = _options()
    resource.setrlimit(resource.RLIMIT_AS, (options.memory * MIB, options.memory * MIB))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGPROF, _too_slow)
    kinds = [options.only] if options.only else list(foreign_files.TARGETS)
    known = json.loads(options.totals.read_text()) if options.totals and options.totals.exists() else {}
    figures = {kind: Figures(**known.get(kind, {"next_seed": options.seed})) for kind in kinds}
    begun = time.monotonic()
    try:
        for _ in _turns(figures, options.inputs, begun + options.seconds):
            if options.totals:
                options.totals.write_text(json.dumps(known | {k: asdict(one) for k, one in figures.items()}))
    except KeyboardInterrupt:
        print("stopped", flush=True)
    _print_table(figures, time.monotonic() - begun)
    sys.exit(1 if any(one.failed for one in figures.values()) else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", type=int, default=10_000, help="of all kinds together, in this call")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so long")
    parser.add_argument("--seed", type=int, default=0, help="the first input of each kind")
    parser.add_argument("--only", choices=foreign_files.TARGETS, help="this kind alone")
    parser.add_argument("--totals", type=Path, metavar="FILE", help="add to the figures in this file")
    parser.add_argument("--memory", type=int, default=4096, metavar="MIB", help="most address space (4096)")
    return parser.parse_args()


def _turns(figures: dict[str, Figures], inputs: int, end: float) -> Iterator[None]:
    """Give each kind its turn until enough was tried or the time is over; yield after each round."""
    begun, left = time.monotonic(), inputs
    shown = begun
    with tempfile.TemporaryDirectory(prefix="perfci-fuzz-") as folder:
        while left > 0 and time.monotonic() < end:
            for number, (kind, one) in enumerate(figures.items()):
                (own := Path(folder) / str(number)).mkdir(exist_ok=True)
                left -= _turn(kind, one, own, most=left)
            yield
            if time.monotonic() - shown > BETWEEN_TABLES:
                shown = time.monotonic()
                _print_table(figures, shown - begun)


def _turn(kind: str, figures: Figures, folder: Path, *, most: int) -> int:
    """Try inputs of one kind for a turn; return how many."""
    end, cpu, done = time.monotonic() + TURN, time.process_time(), 0
    while done < most and (not done or time.monotonic() < end):
        seed = figures.next_seed
        try:
            with _cpu_limit():
                foreign_files.run(kind, folder, seed)
        except (Exception, TooSlow):  # noqa: BLE001 - that there is none is what is tested
            figures.failed += 1
            if figures.failed <= MOST_SHOWN:
                traceback.print_exc()
                print(f"python benchmarks/fuzz.py --only {kind!r} --seed {seed} --inputs 1\n", flush=True)
        figures.next_seed += 1
        figures.inputs += 1
        done += 1
    figures.cpu_seconds += time.process_time() - cpu
    figures.mib = max(figures.mib, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return done


@contextmanager
def _cpu_limit() -> Iterator[None]:
    signal.setitimer(signal.ITIMER_PROF, MOST_CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _too_slow(_number: int, _frame: object) -> None:
    raise TooSlow


def _print_table(figures: dict[str, Figures], seconds: float) -> None:
    print(f"\nafter {seconds:.0f} s")
    print(f"| {'what':<20} | {'inputs':>10} | {'per CPU second':>14} | {'failed':>6} | {'MiB':>5} |")
    print("|---|---|---|---|---|")
    rows = {**figures, "all": _sum(figures)}
    for kind, one in rows.items():
        rate = one.inputs / max(one.cpu_seconds, 1e-9)
        print(f"| {kind:<20} | {one.inputs:>10,} | {rate:>14,.0f} | {one.failed:>6,} | {one.mib:>5.0f} |")
    sys.stdout.flush()


def _sum(figures: dict[str, Figures]) -> Figures:
    every = list(figures.values())
    return Figures(
        next_seed=0,
        inputs=sum(one.inputs for one in every),
        failed=sum(one.failed for one in every),
        cpu_seconds=sum(one.cpu_seconds for one in every),
        mib=max(one.mib for one in every),
    )


if __name__ == "__main__":
    main()
