"""Draw the pictures of docs/statistics.md from the scoring harness's data.

    python benchmarks/statistics_pictures.py --harness DIR docs/pictures

DIR as for detector_table.py; PERFCI_DETECTOR_HARNESS may name it instead. The real nights are repeats of
unchanged OCaml benchmarks on one dedicated host (sandmark-nightly, MIT).
"""

from __future__ import annotations

import argparse
import importlib
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.detector import Confirming
from perfci.analysis.decision import Decision
from perfci.analysis.robust import run_location
from perfci.analysis.sequential_test import Side, next_side, read

if TYPE_CHECKING:
    from types import ModuleType

GREY, BLUE, RED = "#888888", "#1f5fa8", "#b3261e"
KERNEL_LAB, KERNEL_NIGHT = 4, 41
SEED, SERIES, NIGHTS, MANY = 11, 60, 200, 20
CATCH_LAB, CATCH_SERIES, CATCH_NIGHT = 0, (30, 42), 19


def percent(seconds: np.ndarray, nights: int) -> np.ndarray:
    """Return each night's difference from the median of the first nights, in percent."""
    return 100 * (seconds / np.median(seconds[..., :nights], axis=-1, keepdims=True) - 1)


def host_series(evaluate: ModuleType, data: Path, lab: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (canaries, series) of a lab, split as the harness splits them."""
    seconds, _ = evaluate.load_aa(data / "aa_turing.csv.gz")[lab]
    order = np.random.default_rng([7, lab]).permutation(len(seconds))
    return seconds[order[:3]], seconds[order[3:]]


def save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
    print(path)


def false_alarm(evaluate: ModuleType, data: Path, folder: Path) -> None:
    canaries, series = host_series(evaluate, data, KERNEL_LAB)
    figure, axes = plt.subplots(figsize=(7, 3.2))
    for row in percent(series, KERNEL_NIGHT):
        axes.plot(np.clip(row, -5, 32), color=GREY, linewidth=0.6, alpha=0.6)
    for row in percent(canaries, KERNEL_NIGHT):
        axes.plot(row, color=BLUE, linewidth=1.6, marker=".")
    axes.set(xlabel="night", ylabel="slower than before, %", ylim=(-5, 32))
    axes.set_title("The host changed, not the code: canaries (blue) and 50 series (grey)")
    save(figure, folder / "statistics-false-alarm.png")


def catch(evaluate: ModuleType, data: Path, folder: Path) -> None:
    _, series = host_series(evaluate, data, CATCH_LAB)
    figure, axes = plt.subplots(figsize=(7, 3.2))
    for row in percent(series, CATCH_NIGHT):
        axes.plot(row, color=GREY, linewidth=0.6, alpha=0.6)
    for number in CATCH_SERIES:
        axes.plot(percent(series[number], CATCH_NIGHT), color=RED, marker=".", linewidth=1.2)
    axes.axvline(CATCH_NIGHT + 1, color=BLUE, linestyle="--", linewidth=1)
    axes.text(CATCH_NIGHT + 1.2, 20, "reported here,\non the second night", color=BLUE, fontsize=8)
    axes.set(xlabel="night", ylabel="slower than before, %", ylim=(-10, 130))
    axes.set_title("Two series jump and stay; the others' spikes are not reported")
    save(figure, folder / "statistics-catch.png")


def levels(labsim: ModuleType, data: Path, folder: Path) -> None:
    lab = labsim.Lab(SEED, data / "noise_pools.npz", SERIES)
    number = max(range(SERIES), key=lambda i: lab.series[i].cv * (lab.series[i].mode_gap == 0))
    figure, axes = plt.subplots(figsize=(7, 3.2))
    for night in range(30):
        iterations = lab.runs(night)[number]
        if iterations is None:
            continue
        found = run_location(iterations.tolist())
        axes.plot([night] * len(iterations), iterations, ".", color=GREY, markersize=2, alpha=0.5)
        middle, error = math.exp(found.log), found.error
        axes.errorbar(night, middle, yerr=1.96 * error * middle, color=BLUE, marker="o", markersize=3)
    axes.set(xlabel="night", ylabel="seconds", yscale="log")
    axes.set_title("Iterations (grey), a run's location and what its iterations leave open (blue)")
    save(figure, folder / "statistics-levels.png")


def trial(labsim: ModuleType, data: Path, folder: Path) -> None:
    lab = labsim.Lab(SEED, data / "noise_pools.npz", SERIES)
    detector, count = Confirming(SERIES), [0]
    for t in range(NIGHTS):

        def rerun(s: int, revision: int, runs: int, t: int = t) -> list[np.ndarray]:
            count[0] += 1
            return lab.rerun(s, revision, t, runs, count[0])

        detector.night(t, lab.runs(t), lab.canary[:, t].copy(), rerun)
    proven = [s for _, s, d in detector.log if d is Decision.DIFFERENT]
    chosen = max(proven, key=lambda s: s.trial.runs * (s.trial.runs < MANY))
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2))
    start, path, position = chosen.trial, [], {Side.OLD: 0, Side.NEW: 0}
    full = {Side.OLD: start.old, Side.NEW: start.new}
    now = type(start)(start.level, start.level_error, start.noise, start.prior)
    while now.runs < start.runs:
        side = next_side(now, read(now), detector.confirming)
        if side is None:
            break
        x = full[side][position[side]]
        position[side] += 1
        now = now.observe(side, [math.exp(x)])
        path.append(read(now).log_proof / math.log(10))
        left.plot(now.runs, 100 * math.expm1(x - start.level), "o", color=RED if side is Side.NEW else BLUE)
    left.set(xlabel="re-run", ylabel="slower than the history, %", title="old revision blue, new one red")
    right.plot(range(1, len(path) + 1), path, color="black", marker=".")
    right.axhline(math.log10(detector.confirming.proof), color=GREY, linestyle="--")
    right.set(xlabel="re-run", ylabel="log10 of the Bayes factor", title="the trial ends when it proves")
    save(figure, folder / "statistics-trial.png")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--harness", type=Path, default=os.environ.get("PERFCI_DETECTOR_HARNESS"))
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    if args.harness is None:
        sys.exit("say where the harness is: --harness or PERFCI_DETECTOR_HARNESS")
    sys.path.insert(0, str(args.harness))
    evaluate, labsim = importlib.import_module("evaluate"), importlib.import_module("labsim")
    data = Path(args.harness) / "data"
    args.folder.mkdir(parents=True, exist_ok=True)
    false_alarm(evaluate, data, args.folder)
    catch(evaluate, data, args.folder)
    levels(labsim, data, args.folder)
    trial(labsim, data, args.folder)


if __name__ == "__main__":
    main()
