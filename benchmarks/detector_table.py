"""Score detectors on simulated labs and on real repeats, and print the table of benchmarks/README.md.

    python benchmarks/detector_table.py --harness DIR confirming --seeds 11 12 --deploy-frac 0.5 --env-steps 0
    python benchmarks/detector_table.py --harness DIR passive --inject 1.02
    python benchmarks/detector_table.py --harness DIR confirming --detector peers:asv_default --seeds 11

DIR holds evaluate.py, labsim.py, peers.py and data/; PERFCI_DETECTOR_HARNESS may name it instead.
`--json` prints the counts as well, from which several seeds are pooled.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mode", choices=["confirming", "passive"])
    parser.add_argument("--harness", type=Path, default=os.environ.get("PERFCI_DETECTOR_HARNESS"))
    parser.add_argument("--detector", default="benchmarks.detector:make_detector")
    parser.add_argument("--seeds", type=int, nargs="+", default=[11])
    parser.add_argument("--series", type=int, default=240)
    parser.add_argument("--nights", type=int, default=365)
    parser.add_argument("--env-steps", type=int, default=0)
    parser.add_argument("--deploy-frac", type=float, default=0.5)
    parser.add_argument("--inject", type=float)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def recall(table: dict[str, Any]) -> str:
    """Return recall and median delay per size: `5 %: 61/1 (33)`, (33) being the number of steps."""
    cells = []
    for size, found in table.items():
        delay = "-" if found["median_delay_nights"] is None else f"{found['median_delay_nights']:g}"
        cells.append(f"{size} {100 * found['recall']:.0f}/{delay} ({found['steps']})")
    return ", ".join(cells)


def simulated_row(result: dict[str, Any]) -> str:
    low, high = result["interval"]
    share = "-" if result["true_share"] is None else f"{100 * result['true_share']:.0f} %"
    return " | ".join(
        [
            f"{result['false_alerts_per_1000']:.2f} [{low:.2f}, {high:.2f}]",
            f"{share} of {result['alerts']}",
            recall(result["recall"]),
            recall(result["recall_quiet"]),
            f"{result['extra_runs_per_1000']:.0f}",
            f"{result['cpu_seconds']:.0f}",
        ]
    )


def real_row(result: dict[str, Any]) -> str:
    low, high = result["interval"]
    row = f"{result['false_alerts_per_1000']:.2f} [{low:.2f}, {high:.2f}] in {result['series_nights']}"
    if "recall" in result:
        row += f" | {100 * result['recall']:.0f} % of {result['steps']}, {result['median_delay_nights']:g}"
    return row


def main() -> None:
    args = arguments()
    if args.harness is None:
        sys.exit("say where the harness is: --harness or PERFCI_DETECTOR_HARNESS")
    sys.path.insert(0, str(args.harness))
    evaluate = importlib.import_module("evaluate")
    module, _, name = args.detector.partition(":")
    factory = getattr(importlib.import_module(module), name)
    data = Path(args.harness) / "data"
    if args.mode == "passive":
        result = evaluate.replay_aa(
            factory, SimpleNamespace(aa=data / "aa_turing.csv.gz", inject=args.inject)
        )
        print(f"| {args.detector} | {args.inject or 'none'} | {real_row(result)} |", flush=True)
        return
    for seed in args.seeds:
        run = SimpleNamespace(**{**vars(args), "seed": seed, "pools": data / "noise_pools.npz"})
        result = evaluate.simulate(factory, run)
        label = f"{args.detector} | {seed} | {args.deploy_frac:g} | {args.env_steps}"
        print(f"| {label} | {simulated_row(result)} |", flush=True)
        if args.json:
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
