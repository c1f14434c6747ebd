"""Draw one paired run: what both sides took, pair by pair, and what is left of it in the pairs.

python benchmarks/pairs_picture.py state/archive/RUN docs/pictures/pairs.png [--scenario NAME]
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from perfci.analysis.pairs import draw_effect
from perfci.results.archive import RUN, RunFiles
from perfci.results.model import TOTAL
from perfci.results.pairs import REFERENCE
from perfci.results.record import read_record

GREY, BLUE, RED = "#888888", "#1f5fa8", "#b3261e"


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--scenario", default="NeutronNetworks.create_and_list_networks")
    arguments = parser.parse_args()
    record = read_record(arguments.run / RUN)
    paired = next(
        one
        for one in RunFiles(arguments.run).paired.series
        if one.key.scenario == arguments.scenario and one.key.action == TOTAL
    )
    figure, (above, below) = plt.subplots(2, 1, figsize=(7, 5), height_ratios=(1, 1))
    sides = (("code under test", arguments.run, BLUE), ("reference", arguments.run / REFERENCE, GREY))
    for label, folder, colour in sides:
        found = next(one for one in RunFiles(folder, record).measurements if one.key == paired.key)
        begin = found.timestamps[0]
        seconds = np.array(found.timestamps) - begin
        above.plot(seconds, found.values, ".-", color=colour, linewidth=0.8, markersize=4, label=label)
    above.set_xlabel("seconds since the first iteration")
    above.set_ylabel("seconds of an iteration")
    above.legend(frameon=False, fontsize=8)
    above.set_title(f"{arguments.scenario}: what the machine does, both sides feel", fontsize=9, loc="left")
    differences = np.array(paired.differences)
    numbers = np.arange(1, differences.size + 1)
    below.axhline(0, color="black", linewidth=0.6)
    below.plot(numbers, 100 * np.expm1(differences), ".", color=GREY, markersize=4, label="one pair")
    known = [(n, one) for n in numbers if (one := draw_effect(differences[:n])) is not None]
    logs = np.array([one.log for _, one in known])
    errors = np.array([1.96 * one.error for _, one in known])
    at = [n for n, _ in known]
    below.plot(at, 100 * np.expm1(logs), color=RED, linewidth=1.2, label="all pairs so far")
    below.fill_between(
        at, 100 * np.expm1(logs - errors), 100 * np.expm1(logs + errors), color=RED, alpha=0.15, linewidth=0
    )
    reach = 100 * float(np.quantile(np.abs(differences), 0.95))
    below.set_ylim(-max(5.0, reach), max(5.0, reach))
    below.set_xlabel("pair")
    below.set_ylabel("new against reference, %")
    below.legend(frameon=False, fontsize=8)
    last = known[-1][1]
    said = f"{100 * math.expm1(last.log):+.1f} % ± {196 * last.error:.1f}"
    below.set_title(f"{differences.size} pairs: {said}, before the luck of the draw", fontsize=9, loc="left")
    figure.tight_layout()
    figure.savefig(arguments.picture, dpi=110, bbox_inches="tight", metadata={"Software": None})
    print(arguments.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
