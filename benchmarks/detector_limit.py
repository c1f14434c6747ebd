"""What an oracle could do: it knows when a step may have come, and every variance.

    python benchmarks/detector_limit.py --harness DIR --seed 11 --runs 96 --false 0.001

It spends the runs evenly on both revisions, a fresh deployment each, and tests the difference of means
with the true variance of the series. Printed: the share of steps of each size it would find, over all
series and over the quiet ones (CV up to 3 %, one mode), on the morning after the first night.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from perfci.analysis.robust import run_location

SIZES = (0.02, 0.05, 0.10, 0.20)
QUIET = 0.03
REPEATS = 40
MODE_SHARE = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--harness", type=Path, default=os.environ.get("PERFCI_DETECTOR_HARNESS"))
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--series", type=int, default=240)
    parser.add_argument("--deploy-frac", type=float, default=0.5)
    parser.add_argument("--runs", type=int, default=96)
    parser.add_argument("--false", type=float, default=0.001, help="chance of a false alarm per trial")
    args = parser.parse_args()
    if args.harness is None:
        sys.exit("say where the harness is: --harness or PERFCI_DETECTOR_HARNESS")
    sys.path.insert(0, str(args.harness))
    labsim = importlib.import_module("labsim")
    lab = labsim.Lab(args.seed, Path(args.harness) / "data" / "noise_pools.npz", args.series)
    rng = np.random.default_rng(args.seed)
    deviation = []
    for series in lab.series:
        runs = [labsim.block_bootstrap(rng, series.within_pool, series.iterations, 5) for _ in range(REPEATS)]
        within = np.var([run_location(np.exp(r).tolist()).log for r in runs])
        mode = series.mode_gap**2 * MODE_SHARE * (1 - MODE_SHARE)
        deviation.append(np.sqrt(within + mode + series.cv**2 * (1 + args.deploy_frac**2)))
    error = 2 * np.array(deviation) / np.sqrt(args.runs)
    quiet = np.array([s.cv <= QUIET and not s.mode_gap for s in lab.series])
    critical = stats.norm.isf(args.false)
    for size in SIZES:
        power = stats.norm.sf(critical - np.log1p(size) / error)
        print(f"{size:.0%}: all {power.mean():.0%}, quiet {power[quiet].mean():.0%}")


if __name__ == "__main__":
    main()
