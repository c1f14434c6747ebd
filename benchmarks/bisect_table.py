"""How often the bisect names the right change, on labs whose truth is known.

    python benchmarks/bisect_table.py [--cases 2000] [--row NAME] [--seed 1] [--workers 2]

Each case has its own suspects, noise and luck. The bisect knows what a night would know: the
deviation of 20 earlier runs, and what a confirmed alert claims: the whole step, 3.5 errors from nothing. With
PERFCI_DETECTOR_HARNESS set, runs differ as the real repeats in it do, else by Student's t; in both there are
1 to 3 % of outliers (about +30 %), and deployments differ by half the deviation of runs.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from perfci.analysis.bisect.machine import BisectResult, BisectState, End, next_move
from perfci.analysis.bisect.model import BisectPoint, BisectQuestion, Kind, Observation
from perfci.analysis.robust import level_and_scale
from perfci.analysis.variance import VarianceLevels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

NIGHTS = 20
"""How many earlier runs tell the noise."""
CLAIMED = 3.5
"""How many standard errors the claim of a confirmed alert is away from nothing."""
PAIRED = 0.016
"""Deviation of runs that are ratios to a cloud beside them; with that of deployments, 1.8 % in all."""
DEPLOYMENT = 0.5
"""Deviation of deployments in units of that of runs."""


@dataclass(frozen=True)
class Row:
    """One line of the table: what is simulated, and how many runs may be spent."""

    name: str
    suspects: tuple[int, int]
    cv: float
    sizes: tuple[float, ...]
    claim: float | None = None
    most_runs: int = 60
    broken: float = 0.0


ROWS = (
    Row("2 to 24 suspects, CV 3 %, +10 %", (2, 24), 0.03, (0.10,)),
    Row("... one revision in ten does not deploy", (2, 24), 0.03, (0.10,), broken=0.1),
    Row("8 suspects, CV 3 %, +5 %", (8, 8), 0.03, (0.05,), most_runs=90),
    Row("8 suspects, CV 5 %, +5 %", (8, 8), 0.05, (0.05,), most_runs=90),
    Row("8 suspects, CV 5 %, +5 %, 180 runs", (8, 8), 0.05, (0.05,), most_runs=180),
    Row("8 suspects, in pairs (CV 1.6 %), +5 %", (8, 8), PAIRED, (0.05,)),
    Row("8 suspects, in pairs (CV 1.6 %), +3 %", (8, 8), PAIRED, (0.03,), most_runs=90),
    Row("8 suspects, in pairs, nothing, +5 % claimed", (8, 8), PAIRED, (), claim=0.05, most_runs=90),
    Row("2 to 24, CV 3 %, nothing, +10 % claimed", (2, 24), 0.03, (), claim=0.10, most_runs=90),
    Row("2 to 24, CV 3 %, two: +6 %, +6 %", (2, 24), 0.03, (0.06, 0.06), most_runs=90),
    Row("2 to 24, CV 3 %, two: +8 %, -5 %", (2, 24), 0.03, (0.08, -0.05), most_runs=90),
)


COLUMNS = {
    "right": "right",
    "wrong mailed": "wrong",
    "none": "none",
    "several": "several",
    "one of a few": "group",
    "smaller one": "smaller",
    "unproven": "unproven",
    "too noisy": "too noisy",
}


@dataclass(frozen=True)
class Outcome:
    """How one case ended."""

    verdict: str
    runs: int
    searched: int


@lru_cache(maxsize=1)
def _pools() -> list[Array] | None:
    folder = os.environ.get("PERFCI_DETECTOR_HARNESS")
    if not folder:
        return None
    sys.path.insert(0, folder)
    import labsim

    (data,) = (Path(folder) / "data").glob("*.npz")
    return labsim.load_pools(data)[0]


@dataclass
class Lab:
    """The truth of a case."""

    rng: np.random.Generator
    cv: float
    levels: Array
    head: float
    reverted: Array
    outliers: float
    pool: Array | None

    def measure(self, level: float) -> float:
        """Return the log location of a run on a fresh deployment."""
        rng = self.rng
        if self.pool is None:
            run = rng.standard_t(5) * math.sqrt(3 / 5)
        else:
            run = self.pool[rng.integers(len(self.pool))]
        outlier = abs(rng.normal(0.3, 0.2)) if rng.random() < self.outliers else 0.0
        return float(level + self.cv * (run + rng.normal(0, DEPLOYMENT)) + outlier)

    def level(self, point: BisectPoint) -> float:
        """Return the true level of a point."""
        if point.kind is Kind.HEAD:
            return self.head
        if point.kind is Kind.REVERTED:
            return float(self.reverted[point.index])
        return float(self.levels[point.index - (point.kind is Kind.PARENT)])


def simulate(row: Row, seed: int, case: int) -> Outcome:
    """Play one case to its end."""
    rng = np.random.default_rng([seed, ROWS.index(row), case])
    steps = int(rng.integers(row.suspects[0], row.suspects[1] + 1))
    plausibility = rng.gamma(0.7, size=steps) + 0.01
    # Half the time files and names lead to the culprit, half the time they say nothing.
    shares = 0.5 * plausibility / plausibility.sum() + 0.5 / steps
    guilty = sorted(int(one) + 1 for one in rng.choice(steps, len(row.sizes), replace=False, p=shares))
    jumps = np.zeros(steps + 1)
    jumps[guilty] = rng.permutation([math.log1p(size) for size in row.sizes])
    levels = np.cumsum(jumps)
    pools = _pools()
    pool = None if pools is None else pools[rng.integers(len(pools))]
    lab = Lab(rng, row.cv, levels, levels[-1], levels[-1] - jumps, rng.uniform(0.01, 0.03), pool)
    broken = {BisectPoint(Kind.REVISION, one) for one in range(1, steps) if rng.random() < row.broken}
    state = BisectState(_question(row, lab, plausibility))
    while not isinstance(move := next_move(state), BisectResult):
        if move.point in broken:
            state = state.without(move.point, 1.0)
            continue
        values = [lab.measure(lab.level(move.point)) for _ in range(move.runs)]
        state = state.observe(Observation(move.point, float(np.mean(values)), runs=move.runs), 1.0)
    searched = sum(one.runs for one in state.seen if one.point.kind is Kind.REVISION)
    return Outcome(_verdict(move, guilty, jumps), state.runs, searched)


def _question(row: Row, lab: Lab, plausibility: Array) -> BisectQuestion:
    nights = [lab.measure(0.0) for _ in range(NIGHTS)]
    _, scale = level_and_scale(nights)
    share = DEPLOYMENT**2 / (1 + DEPLOYMENT**2)
    noise = VarianceLevels(0.0, scale**2 * (1 - share), scale**2 * share)
    truth = math.log1p(row.claim) if row.claim is not None else float(lab.levels[-1])
    error = abs(truth) / CLAIMED
    claim = truth if row.claim is not None else truth + error * lab.rng.normal()
    return BisectQuestion(
        tuple(plausibility),
        noise,
        effect=claim,
        effect_error=error,
        most_runs=row.most_runs,
    )


def _verdict(answer: BisectResult, guilty: list[int], jumps: Array) -> str:
    """Say what the answer is worth: `wrong` is a change named and proven that is not it."""
    if answer.end is not End.CULPRIT:
        return str(answer.end)
    if len(answer.steps) > 1:
        return "group" if set(answer.steps) & set(guilty) else "wrong"
    if answer.steps[0] not in guilty:
        return "wrong"
    largest = max(guilty, key=lambda one: jumps[one])
    return "right" if answer.steps[0] == largest or jumps[answer.steps[0]] == jumps[largest] else "smaller"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--row", default="", help="only rows whose name contains this")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    noise = "real repeats" if _pools() else "Student t"
    print(f"Noise: {noise}; {options.cases} cases a row; seed {options.seed}.\n")
    print(f"| | {' | '.join(COLUMNS)} | runs, median / p95 | of them search |")
    print("|---" * (len(COLUMNS) + 3) + "|")
    with ProcessPoolExecutor(options.workers) as pool:
        for row in ROWS:
            if options.row in row.name:
                print(_line(row, options, pool), flush=True)


def _line(row: Row, options: argparse.Namespace, pool: ProcessPoolExecutor) -> str:
    size = options.cases
    outcomes = list(pool.map(simulate, [row] * size, [options.seed] * size, range(size), chunksize=20))
    counts = Counter(one.verdict for one in outcomes)
    cells = [f"{counts[verdict] / size:.1%}" for verdict in COLUMNS.values()]
    runs = [one.runs for one in outcomes]
    searched = [one.searched for one in outcomes]
    spent = f"{np.median(runs):.0f} / {np.percentile(runs, 95):.0f}"
    search = f"{np.median(searched):.0f} / {np.percentile(searched, 95):.0f}"
    return f"| {row.name} | {' | '.join(cells)} | {spent} | {search} |"


if __name__ == "__main__":
    main()
