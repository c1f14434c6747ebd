"""What a deployment adds to the noise of a run: one revision, the same work three times in each.

    for run in 1 2 3 4 5; do perfci run benchmarks/redeploy.yml; done
    python benchmarks/redeploy.py [--state state]

Prints for each scenario the standard deviation of a round's median seconds between rounds of one deployment,
what different deployments add to it (one-way analysis of variance, on logarithms), and their ratio, which is
what the detector's table calls `deploy sd / run sd`.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from pathlib import Path
from statistics import mean, median, variance

from perfci.results.archive import read_archive, run_folders
from perfci.results.model import TOTAL, Metric

JOB = "redeploy"
ROUNDS = 3


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--state", type=Path, default=Path("state"), help="state folder")
    archive = parser.parse_args().state / "archive"
    deployments = _deployments(archive)
    if min((len(found) for found in deployments.values()), default=0) < 2:  # noqa: PLR2004 - a variance needs two
        print(f"Less than two finished runs of {JOB} in {archive}.")
        return
    print("| scenario | deployments | median s | sd of rounds | deployments add | ratio |")
    print("|---|---|---|---|---|---|")
    for scenario, found in sorted(deployments.items()):
        within = mean(variance(rounds) for rounds in found)
        between = max(0.0, variance([mean(rounds) for rounds in found]) - within / ROUNDS)
        seconds = math.exp(median(one for rounds in found for one in rounds))
        run, deploy = math.sqrt(within), math.sqrt(between)
        print(
            f"| {scenario} | {len(found)} | {seconds:.3f} | {run:.1%} | {deploy:.1%} | {deploy / run:.1f} |"
        )


def _deployments(archive: Path) -> dict[str, list[list[float]]]:
    """Return the logarithms of each round's median seconds, by scenario and deployment."""
    found: dict[str, list[list[float]]] = defaultdict(list)
    for folder in run_folders(archive):
        for one in read_archive(folder).measurements:
            key = one.key
            if (key.job, key.metric, key.action) == (JOB, Metric.SECONDS, TOTAL) and not one.failures:
                size = len(one.values) // ROUNDS
                rounds = [one.values[part * size : (part + 1) * size] for part in range(ROUNDS)]
                found[key.scenario].append([math.log(median(values)) for values in rounds])
    return found


if __name__ == "__main__":
    main()
