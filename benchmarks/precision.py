"""What pairs can show on this machine: unchanged code, and known delays in neutron's API, on real clouds.

    python benchmarks/precision.py [--case aa] [--case 5] [--draws 3] [--job demo] [--only TASK] [--times N]

Each draw deploys two clouds afresh side by side and hammers them in lock-step; as `make demo`, it needs a
machine that is set up. One line a timing: what was planted, what was seen with its interval, the verdict, the
MDE of one draw (planned look, 95 %, power 80 %) and that of the sequential decision after all draws. Below
it, the load of the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from perfci.analysis.pairs import DRAW_DEVIATION, DRAW_DEVIATION_DF, DrawEffect, combined  # noqa: E402

CASES = {"aa": None, "3": "three_percent", "5": "five_percent", "25": "twenty_five_percent"}
COLUMNS = (
    "planted",
    "scenario",
    "action",
    "seen",
    "interval",
    "verdict",
    "MDE, one draw",
    "MDE, sequential",
    "pairs",
    "effect of each draw",
)


def job_of(base: str, case: str, times: int | None, only: list[str] | None) -> dict[str, Any]:
    """Return the job of a case: that of jobs/, with the delay in neutron, and other tasks and iterations."""
    job: dict[str, Any] = yaml.safe_load((ROOT / "jobs" / f"{base}.yml").read_text(encoding="utf-8"))
    job["name"] = f"precision-{case}"
    job["scenarios"] = [one for one in job["scenarios"] if not only or one["task"] in only]
    if times is not None:
        for scenario in job["scenarios"]:
            scenario["times"] = times
    factory = CASES[case]
    if factory:
        delay = {
            "name": f"delay-{case}-percent",
            "source": "benchmarks/planted_delay.py",
            "factory": f"planted_delay:{factory}",
        }
        job["sources"] = {"neutron": {"filters": [delay]}}
    return job


def measured(job: dict[str, Any], draws: int, folder: Path) -> dict[str, Any]:
    """Compare neutron's pinned release with the job's code; return what `perfci side-by-side --json` says."""
    file = folder / f"{job['name']}.yml"
    file.write_text(yaml.safe_dump(job), encoding="utf-8")
    command = [
        str(Path(sys.executable).parent / "perfci"),
        "side-by-side",
        str(file),
        "--old",
        "neutron=pinned",
    ]
    done = subprocess.run(
        [*command, "--draws", str(draws), "--json"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    if done.returncode not in {0, 1}:
        raise SystemExit(f"{job['name']}: exit code {done.returncode}: {done.stdout}{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def rows(case: str, found: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the lines of a case, whole iterations first."""
    lines = []
    for one in sorted(found["timings"], key=lambda one: (one["scenario"], one["action"] != "total")):
        if not one["draws"]:
            continue
        alone = [smallest(draw, one["pairs"] // len(one["draws"])) for draw in one["draws"]]
        lines.append((
            "nothing" if case == "aa" else f"+{case} %",
            one["scenario"],
            one["action"],
            f"{100 * one['effect']:+.1f} %",
            f"{100 * one['low']:+.1f} … {100 * one['high']:+.1f} %",
            one["verdict"],
            f"{100 * statistics.median(alone):.1f} %",
            f"{100 * one['mde']:.1f} %",
            str(one["pairs"]),
            ", ".join(f"{100 * draw['effect']:+.1f}" for draw in one["draws"]),
        ))  # fmt: skip
    return lines


def smallest(draw: dict[str, float], pairs: int) -> float:
    """Return the MDE of one draw alone."""
    effect = DrawEffect(0.0, draw["error"], max(2.0, pairs / 2), pairs, 0.0)
    one = combined([effect], draw_deviation=DRAW_DEVIATION, draw_df=DRAW_DEVIATION_DF)
    return one.smallest_visible()


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", action="append", choices=sorted(CASES), help="left out: all of them")
    parser.add_argument("--draws", type=int, default=3, help="at most so many draws a case")
    parser.add_argument("--times", type=int, help="iterations of each scenario, in place of the job's")
    parser.add_argument("--only", action="append", metavar="TASK", help="these of the job's tasks alone")
    parser.add_argument("--job", default="demo", help="name of a job in jobs/")
    parser.add_argument("--json", type=Path, help="where all that was measured goes")
    arguments = parser.parse_args()
    everything = {}
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for case in arguments.case or CASES:
            since, load = time.monotonic(), os.getloadavg()
            found = measured(
                job_of(arguments.job, case, arguments.times, arguments.only), arguments.draws, Path(folder)
            )
            seconds = time.monotonic() - since
            everything[case] = {**found, "seconds": seconds, "load": [load, os.getloadavg()]}
            for row in rows(case, found):
                print("| " + " | ".join(row) + " |")
            loads = f"load {load[2]:.1f} before, {os.getloadavg()[2]:.1f} after (15 min)"
            print(f"<!-- {case}: {len(found['runs'])} draws in {seconds:.0f} s; {loads} -->", flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(everything, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
