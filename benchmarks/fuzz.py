"""Damaged files by the million: `python benchmarks/fuzz.py --inputs 1000000`.

Every kind of file or answer that comes from outside is damaged and read (`tests/foreign_files.py`). Whatever
is no PerfciError is printed with the command that brings it back.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import foreign_files

MOST_SHOWN = 5


def main() -> None:
    """Run inputs of each kind in turn, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", type=int, default=10_000, help="of all kinds together")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=foreign_files.TARGETS)
    options = parser.parse_args()
    targets = [options.only] if options.only else list(foreign_files.TARGETS)
    failed = 0
    print(f"{'what':<22} {'inputs':>10} {'a second':>9} {'failed':>7} {'MiB':>6}")
    for target in targets:
        with tempfile.TemporaryDirectory(prefix="perfci-fuzz-") as folder:
            failed += _run(target, Path(folder), options, len(targets))
    sys.exit(1 if failed else 0)


def _run(target: str, folder: Path, options: argparse.Namespace, share: int) -> int:
    begun, failed, done = time.monotonic(), 0, 0
    for seed in range(options.seed, options.seed + max(1, options.inputs // share)):
        if time.monotonic() - begun > options.seconds / share:
            break
        done += 1
        try:
            foreign_files.run(target, folder, seed)
        except Exception:  # noqa: BLE001 - that there is none is what is tested
            failed += 1
            if failed <= MOST_SHOWN:
                traceback.print_exc()
                print(f"python benchmarks/fuzz.py --only {target!r} --seed {seed} --inputs 1\n")
    seconds = time.monotonic() - begun
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{target:<22} {done:>10,} {done / seconds:>9.0f} {failed:>7,} {mib:>6.0f}", flush=True)
    return failed


if __name__ == "__main__":
    main()
