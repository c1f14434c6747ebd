"""Score detectors on simulated labs and on real repeats, and print the tables of benchmarks/README.md.

    python benchmarks/detector_table.py --harness DIR                     # everything, with the peers
    python benchmarks/detector_table.py --harness DIR --only perfci       # without them
    python benchmarks/detector_table.py --harness DIR --series 60 --nights 200 --only perfci   # a quick look

DIR holds evaluate.py, labsim.py, peers.py and data/; PERFCI_DETECTOR_HARNESS may name it instead. The peers
need `pip install asv apache-otava`. `--processes` labs are simulated at a time. Every score is printed on
stderr as it is known; the tables, on stdout, come at the end.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WARMUP = 45
"""Nights of a simulated lab before alerts count, as in the harness."""
NOMINAL = {"perfci": 1 / 31, "perfci, passive": 0.05}
"""The share of alerts that each may have false: odds of 30, and the false discovery rate of the settings."""
FACTORIES = {
    "perfci": "benchmarks.detector:make_detector",
    "perfci, passive": "benchmarks.detector:make_passive",
    "asv, default": "peers:asv_default",
    "asv, half penalty": "peers:asv_half",
    "otava, default": "peers:otava_default",
    "Perfherder, t = 4": "peers:perfherder_4",
    "Perfherder, t = 7": "peers:perfherder_default",
}
LABS = ((51, 0.5, 0), (52, 0.5, 0), (53, 0.5, 3), (54, 1.0, 0), (55, 1.0, 3))
"""Seed, deploy sd / run sd, and unannounced steps of the host; none of them was looked at before."""
PASSIVE_LABS = ((61, 0.5, 0), (62, 0.5, 3))
PEERS = ("asv, default", "Perfherder, t = 4", "otava, default")
REAL = ("perfci", "asv, default", "asv, half penalty", "otava, default", "Perfherder, t = 4")
INJECTED = (None, 1.02, 1.05)


@dataclass(frozen=True)
class Work:
    """One score: a detector on a simulated lab, or on the real repeats where `seed` is None."""

    detector: str
    seed: int | None = None
    deploy: float = 0.5
    env_steps: int = 0
    inject: float | None = None
    harness: str = ""
    series: int = 240
    nights: int = 365


@dataclass(frozen=True)
class Score:
    work: Work
    result: dict[str, Any]
    false: int
    alerts: int
    exposure: int
    promised: list[float] = field(default_factory=list)


def score(work: Work) -> Score:
    """Run one detector through one lab. Called in processes of its own."""
    sys.path.insert(0, work.harness)
    evaluate = importlib.import_module("evaluate")
    module, _, name = FACTORIES[work.detector].partition(":")
    factory = getattr(importlib.import_module(module), name)
    made: list[Any] = []

    def remember(series: int, seed: int) -> Any:
        made.append(factory(series, seed))
        return made[-1]

    data = Path(work.harness) / "data"
    if work.seed is None:
        result = evaluate.replay_aa(
            remember, SimpleNamespace(aa=data / "aa_turing.csv.gz", inject=work.inject)
        )
        exposure = result["series_nights"]
        false = round(result["false_alerts_per_1000"] * exposure / 1000)
        hits = round(result.get("recall", 0.0) * result.get("steps", 0))
        found = Score(work, result, false, false + hits, exposure)
    else:
        found = simulated(evaluate, remember, work, data)
    promised = [q for one in made if hasattr(one, "passive") for q in one.passive.promised]
    found.promised.extend(promised)
    print(
        f"{work.detector} {work.seed} {work.inject}: {found.false} false of {found.alerts}", file=sys.stderr
    )
    return found


def simulated(evaluate: Any, factory: Callable[[int, int], Any], work: Work, data: Path) -> Score:
    run = SimpleNamespace(
        seed=work.seed,
        series=work.series,
        nights=work.nights,
        env_steps=work.env_steps,
        deploy_frac=work.deploy,
        pools=data / "noise_pools.npz",
    )
    result = evaluate.simulate(factory, run)
    labsim = importlib.import_module("labsim")
    lab = labsim.Lab(work.seed, run.pools, work.series, work.nights, work.env_steps, work.deploy)
    clean = sum(all(e.kind != "drift" for e in series.events) for series in lab.series)
    exposure = clean * (work.nights - WARMUP)
    false = round(result["false_alerts_per_1000"] * exposure / 1000)
    return Score(work, result, false, result["alerts"], exposure)


def works(args: argparse.Namespace) -> list[Work]:
    common = {"harness": str(args.harness), "series": args.series, "nights": args.nights}
    out = [Work("perfci", s, d, e, **common) for s, d, e in LABS]
    out += [Work("perfci, passive", s, d, e, **common) for s, d, e in PASSIVE_LABS]
    seed, deploy, steps = LABS[0]
    out += [Work(peer, seed, deploy, steps, **common) for peer in PEERS]
    out += [Work(name, inject=inject, **common) for name in REAL for inject in INJECTED]
    return [work for work in out if args.only is None or work.detector.startswith(args.only)]


def recall(table: dict[str, Any]) -> str:
    """Return recall and median delay per size: `5% 61/1 (33)`, (33) being the number of steps."""
    cells = []
    for size, found in table.items():
        delay = "-" if found["median_delay_nights"] is None else f"{found['median_delay_nights']:g}"
        cells.append(f"{size} {100 * found['recall']:.0f}/{delay} ({found['steps']})")
    return ", ".join(cells)


def rate(one: Score) -> str:
    low, high = one.result["interval"]
    return f"{one.result['false_alerts_per_1000']:.2f} [{low:.2f}, {high:.2f}]"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def print_simulated(scores: Sequence[Score]) -> None:
    columns = (
        "detector", "seed", "deploy sd / run sd", "env steps", "false alerts per 1,000", "false of alerts",
        "recall (steps)", "recall, quiet series", "extra runs", "CPU s",
    )  # fmt: skip
    rows = [
        (
            one.work.detector, str(one.work.seed), f"{one.work.deploy:g}", str(one.work.env_steps), rate(one),
            f"{one.false} of {one.alerts}", recall(one.result["recall"]), recall(one.result["recall_quiet"]),
            f"{one.result['extra_runs_per_1000']:.0f}", f"{one.result['cpu_seconds']:.0f}",
        )
        for one in scores
    ]  # fmt: skip
    table(columns, rows)


def pooled(scores: Sequence[Score], size: str, which: str = "recall") -> str:
    """Return recall over several labs, and the median of their median delays, each as often as it found."""
    parts = [one.result[which][size] for one in scores]
    steps = sum(part["steps"] for part in parts)
    hits = [round(part["recall"] * part["steps"]) for part in parts]
    delays = [part["median_delay_nights"] for part, n in zip(parts, hits, strict=True) for _ in range(n)]
    shown = f"{median(delays):g}" if delays else "-"
    return f"{100 * sum(hits) / max(steps, 1):.0f} %, {shown}"


def per_thousand(scores: Sequence[Score]) -> str:
    return f"{1000 * sum(s.false for s in scores) / sum(s.exposure for s in scores):.2f}"


def discovery(scores: Sequence[Score], nominal: float) -> str:
    """Return the measured share of false alerts over the nominal one."""
    share = sum(s.false for s in scores) / max(sum(s.alerts for s in scores), 1)
    return f"{share / nominal:.1f} ({100 * share:.1f} % of {sum(s.alerts for s in scores)})"


def print_pooled(scores: Sequence[Score]) -> None:
    usual = [s for s in scores if s.work.deploy < 1]
    rough = [s for s in scores if s.work.deploy >= 1]
    true = sum(s.result["true_share"] * s.alerts for s in usual) / sum(s.alerts for s in usual)
    extra = sum(s.result["extra_runs_per_1000"] for s in usual) / len(usual)
    # CPU of a whole lab, to 1,000 series and one night.
    cpu = sum(s.result["cpu_seconds"] for s in usual) / sum(s.work.series * s.work.nights for s in usual)
    rows = [
        ("false alerts per 1,000", "0.3", "0.1", per_thousand(usual)),
        ("... deploy sd = run sd", "0.5", "0.2", per_thousand(rough)),
        ("20 % step: recall, delay", "95 %, 1", "98 %, 0", pooled(usual, "20%")),
        ("10 % step", "82 %, 2", "90 %, 1", pooled(usual, "10%")),
        ("5 % step", "30 %, 3", "45 %, 2", pooled(usual, "5%")),
        ("5 % step, quiet series", "45 %, 3", "65 %, 2", pooled(usual, "5%", "recall_quiet")),
        ("true share of alerts", "80 %", "95 %", f"{100 * true:.0f} %"),
        ("extra runs per 1,000", "500", "250", f"{extra:.0f}"),
        ("share of false alerts / nominal (1 in 31)", "1.5", "1.1", discovery(usual, NOMINAL["perfci"])),
        ("... deploy sd = run sd", "1.5", "1.1", discovery(rough, NOMINAL["perfci"])),
        ("CPU s, 1,000 series, one night", "1", "0.2", f"{1000 * cpu:.2f}"),
    ]
    table(("", "floor", "stretch", "measured"), rows)


def print_passive(scores: Sequence[Score]) -> None:
    nominal = NOMINAL["perfci, passive"]
    rows = [
        (
            f"simulated, seed {one.work.seed}, {one.work.env_steps} env steps", rate(one),
            f"{one.false} of {one.alerts}", f"{one.false / max(one.alerts, 1) / nominal:.1f}",
            f"{100 * sum(one.promised) / max(len(one.promised), 1):.1f} %", recall(one.result["recall"]),
        )
        for one in scores
    ]  # fmt: skip
    columns = (
        "lab", "false alerts per 1,000", "false of alerts", "/ nominal (5 %)", "mean q", "recall (steps)"
    )  # fmt: skip
    table(columns, rows)


def print_real(scores: Sequence[Score]) -> None:
    rows = []
    for name in dict.fromkeys(one.work.detector for one in scores):
        quiet, *stepped = (s for s in scores if s.work.detector == name)
        false, alerts = sum(s.false for s in stepped), sum(s.alerts for s in stepped)
        found = [f"{100 * s.result['recall']:.0f} %, {s.result['median_delay_nights']:g}" for s in stepped]
        share = 100 * false / max(alerts, 1)
        ratio = f" ({share / 100 / 0.05:.1f} of 5 %)" if name == "perfci" else ""
        rows.append((name, rate(quiet), *found, f"{false} of {alerts}: {share:.1f} %{ratio}"))
    columns = (
        "detector",
        "false alerts per 1,000",
        "+2 % found, delay",
        "+5 % found, delay",
        "false of alerts",
    )
    table(columns, rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--harness", type=Path, default=os.environ.get("PERFCI_DETECTOR_HARNESS"))
    parser.add_argument("--only", help="detectors whose name begins so")
    parser.add_argument("--series", type=int, default=240)
    parser.add_argument("--nights", type=int, default=365)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    if args.harness is None:
        sys.exit("say where the harness is: --harness or PERFCI_DETECTOR_HARNESS")
    with ProcessPoolExecutor(args.processes) as pool:
        scores = list(pool.map(score, works(args)))
    labs = [one for one in scores if one.work.seed is not None and one.work.detector != "perfci, passive"]
    shown = (
        (print_simulated, labs),
        (print_pooled, [one for one in labs if one.work.detector == "perfci"]),
        (print_passive, [one for one in scores if one.work.detector == "perfci, passive"]),
        (print_real, [one for one in scores if one.work.seed is None]),
    )
    for show, some in shown:
        if some:
            show(some)


if __name__ == "__main__":
    main()
