"""What paired nights find, and what they cost: the product's own decisions on simulated nights and draws.

    python benchmarks/paired_nights.py [ARCHIVE ...] [--nights 400] [--seed 1] [--floor 0.05] [--heavy]

Each night of jobs/nightly.yml is one fresh deployment of both sides. `Replay` and `suspects` judge it,
`paired_answer` decides on fresh draws for what stands out, and the night is judged again with the answers.
Archived runs of two sides give the scatter of the pairs; without any it is that of `paired_noise.SCENARIOS`.
No cloud is started: a figure here is a simulated one. Shares have Wilson's 95 % interval.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.paired_noise import (
    LUCK,
    SCENARIOS,
    TAIL_DF,
    Luck,
    Noise,
    archived,
    noise_of,
    seen_luck,
    service_of,
)
from perfci.alerts.model import AlertState
from perfci.analysis.decision import Decision
from perfci.analysis.pair_decision import PairSettings, decide_draws, smallest_proven
from perfci.analysis.paired_answer import answered, pair_settings, wants_draw
from perfci.analysis.pairs import draw_effect
from perfci.analysis.replay import Replay
from perfci.analysis.rerun_verdict import confirmed
from perfci.analysis.sequential_test import ConfirmSettings
from perfci.analysis.settings import AnalysisSettings
from perfci.analysis.types import Basis, Confirmation, Outcome, RunPoint, SeriesHistory
from perfci.results.model import TOTAL, CodeUnderTest, Metric, RunRecord, SeriesKey, Validity
from perfci.runs.jobs.model import Confirm
from perfci.runs.verdicts.suspects import Known, TimedNights, suspects

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from benchmarks.paired_noise import Series
    from perfci.analysis.pairs import DrawEffect
    from perfci.analysis.rerun_verdict import Question
    from perfci.analysis.types import Judgement


DEPLOY, OVERHEAD = 75.0, 12.0
"""Seconds to deploy both clouds and take them down, and of each Rally task beside its pairs. With these, a
draw of list_networks alone takes 113 s; 110 to 180 s were seen."""
PLANTED = (0.03, 0.05, 0.08, 0.10)
SERVICE = "neutron"
REFERENCE, ENVIRONMENT = "reference", "e"
BUDGET = 1800.0
"""The lab seconds within which a change is to be confirmed."""
LEVELS = (0.05, 0.01)
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Night:
    """What came of a night: the alerts, the questions, and what the draws cost."""

    alerts: frozenset[Series]
    judgements: Sequence[Judgement]
    asked: int = 0
    draws: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Lab:
    """A lab's nights, one after the other."""

    noise: Noise
    rng: np.random.Generator
    settings: AnalysisSettings
    confirm: Confirm = field(default_factory=Confirm)
    replay: Replay = field(init=False)
    number: int = 0

    def __post_init__(self) -> None:
        self.replay = Replay(self.settings)

    def fork(self, rng: np.random.Generator) -> Lab:
        """Return a lab with the same past."""
        other = Lab(self.noise, rng, self.settings, self.confirm)
        other.replay, other.number = self.replay.fork(), self.number
        return other

    def night(self, effects: Mapping[str, float]) -> Night:
        """Measure one night with changes by service, judge it, and let draws answer what it asks."""
        self.number += 1
        run_id = f"{START + timedelta(days=self.number):%Y%m%dT%H%M%SZ}-nightly-0000"
        points = {
            key_of(one): point(run_id, logs) for one, logs in self.noise.draw(self.rng, effects).items()
        }
        before = self.replay.fork()
        judgements = list(self.replay.night(points, run_id=run_id).values())
        found = suspects(known(run_id, judgements, points, self.settings), runnable=lambda _: False)
        if not found.questions:
            return Night(alerts(judgements), judgements)
        answers, draws, seconds = self._answers(found.questions, effects)
        confirmations = {
            one.key: Confirmation(
                answers[one.key], Basis.RERUNS, "", run_id, one.since, one.worse, claimed=one.claimed
            )
            for one in found.questions
        }
        before.confirmations = {
            **before.confirmations, **{(key, run_id): one for key, one in confirmations.items()}
        }  # fmt: skip
        self.replay = before
        again = before.night(points, run_id=run_id)
        final = [
            confirmed(one, confirmations[key]) if key in confirmations else one for key, one in again.items()
        ]
        return Night(alerts(final), judgements, len(found.questions), draws, seconds)

    def _answers(
        self, questions: Sequence[Question], effects: Mapping[str, float]
    ) -> tuple[dict[SeriesKey, Decision], int, float]:
        """Draw as `RerunsInPairs` does: all the suspects' scenarios, until no question wants more."""
        settings = ConfirmSettings(most_runs=self.confirm.most_runs + 1)
        kept = {one.key.scenario for one in questions}
        each, number = draw_seconds(self.noise, kept), 0
        seen: dict[SeriesKey, list[DrawEffect]] = {one.key: [] for one in questions}
        while (
            number < max(1, self.confirm.most_runs // 2)
            and (number + bool(number)) * each <= 60 * self.confirm.most_minutes
            and any(wants_draw(one, seen[one.key], settings) for one in questions)
        ):
            pairs = self.noise.draw(self.rng, effects, kept)
            for one in questions:
                if (effect := draw_effect(pairs[one.key.scenario, one.key.action].tolist())) is not None:
                    seen[one.key].append(effect)
            number += 1
        return {one.key: answered(one, seen[one.key], settings) for one in questions}, number, number * each


def key_of(one: Series) -> SeriesKey:
    return SeriesKey("lab", "nightly", one[0], "a", one[1], Metric.RATIO)


def point(run_id: str, logs: NDArray[np.float64]) -> RunPoint:
    place = f"{ENVIRONMENT}, beside {REFERENCE}"
    return RunPoint(run_id, place, run_id, tuple(np.exp(logs).tolist()), logs.size, 0, valid=True)


def known(
    run_id: str,
    judgements: Sequence[Judgement],
    points: Mapping[SeriesKey, RunPoint],
    settings: AnalysisSettings,
) -> Known:
    """Return what suspects follow from, for a night with nothing but ratios."""
    began = START
    record = RunRecord(
        run_id, "lab", "nightly", "embedded", began, began, ENVIRONMENT, CodeUnderTest(run_id, ()),
        Validity(valid=True), reference=REFERENCE,
    )  # fmt: skip
    return Known(
        record,
        tuple(judgements),
        tuple(SeriesHistory(key, (one,)) for key, one in points.items()),
        TimedNights((), (), np.empty((0, 0)), np.empty((0, 0))),
        (record,),
        {run_id: (ENVIRONMENT, True)},
        AlertState(),
        (),
        settings,
        ConfirmSettings(),
    )


def alerts(judgements: Iterable[Judgement]) -> frozenset[Series]:
    """Return the series that the night reports as slower."""
    return frozenset(
        (one.key.scenario, one.key.action) for one in judgements if one.outcome is Outcome.REGRESSION
    )


def draw_seconds(noise: Noise, kept: Iterable[str]) -> float:
    """Return what one draw of some scenarios takes."""
    names = set(kept)
    load = (OVERHEAD + 2 * one.pairs * one.seconds for one in noise.scenarios if one.name in names)
    return DEPLOY + sum(load)


def share(hits: int, of: int) -> str:
    """Return a share with Wilson's interval: `52 % [45, 59]`."""
    low, high = stats.binomtest(hits, of).proportion_ci(method="wilson")
    return f"{100 * hits / of:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"


def average(values: Sequence[float]) -> str:
    """Return a mean with its interval, of twice the standard error."""
    error = 1.96 * float(np.std(values, ddof=1)) / np.sqrt(len(values))
    return f"{mean(values):.2f} [{mean(values) - error:.2f}, {mean(values) + error:.2f}]"


def quiet(lab: Lab, nights: int) -> list[Night]:
    """Return nights of unchanged code, one after the other; an alert makes that night's code forgotten."""
    found = []
    for _ in range(nights):
        before = lab.replay.fork()
        found.append(lab.night({}))
        if found[-1].alerts:
            lab.replay = before
    return found


def stepped(
    labs: Sequence[Lab], step: float, nights: int, seed: int
) -> tuple[list[tuple[Night, Night]], set[Series]]:
    """Return two nights each with a step in one service, after quiet ones, and its whole iterations."""
    totals = {one for one in labs[0].noise.series if one[1] == TOTAL and service_of(*one) == SERVICE}
    found = []
    for number in range(nights):
        lab = labs[number % len(labs)].fork(np.random.default_rng([seed, round(1000 * step), number]))
        first = lab.night({SERVICE: step})
        found.append((first, lab.night({SERVICE: step})))
    return found, totals


def proof_of_sameness(noise: Noise, rng: np.random.Generator, trials: int) -> list[float]:
    """Return the lab minutes until one scenario is proven the same within 3 %, for unchanged code."""
    settings, minutes = PairSettings(within=0.03), []
    for number in range(trials):
        one = noise.scenarios[number % len(noise.scenarios)].name
        draws: list[DrawEffect] = []
        while True:
            effect = draw_effect(noise.draw(rng, {}, {one})[one, TOTAL].tolist())
            draws += [] if effect is None else [effect]
            reading = decide_draws(draws, settings)
            if reading is not None and reading.decision is not Decision.UNKNOWN:
                break
        minutes.append(len(draws) * draw_seconds(noise, {one}) / 60)
    return minutes


def confirmed_mde(noise: Noise, rng: np.random.Generator, floor: float) -> list[float]:
    """Return, by scenario, the MDE of its draws within the lab time of a confirmation (power 80 %)."""
    settings = pair_settings(floor, ConfirmSettings())
    found = []
    for one in noise.scenarios:
        draws: list[DrawEffect] = []
        for _ in range(int(BUDGET // draw_seconds(noise, {one.name}))):
            effect = draw_effect(noise.draw(rng, {}, {one.name})[one.name, TOTAL].tolist())
            draws += [] if effect is None else [effect]
        found.append(smallest_proven(draws, settings))
    return found


def quiet_rows(found: Sequence[Night]) -> list[tuple[str, str]]:
    """Return what nights of unchanged code cost, and how uniform their p- and q-values are."""
    values = [one for night in found for one in night.judgements]
    p = np.array([one.p_value for one in values if one.p_value is not None])
    q = [min(one.q_value for one in night.judgements if one.q_value is not None) for night in found]
    false = sum(len(night.alerts) for night in found)
    low, high = stats.binomtest(false, len(values)).proportion_ci(method="wilson")
    rate, expected = 1000 * false / len(values), [1000 * bound for bound in (low, high)]
    shares = [float(np.mean(p <= level)) for level in LEVELS]
    return [
        ("series-nights of unchanged code", f"{len(values)} ({len(found)} nights)"),
        ("false alerts per 1,000 series-nights", f"{rate:.2f} [{expected[0]:.2f}, {expected[1]:.2f}]"),
        ("nights with a false alert", share(sum(bool(night.alerts) for night in found), len(found))),
        ("p at most 0.05, 0.01 (nominal 5 %, 1 %)", f"{100 * shares[0]:.1f} %, {100 * shares[1]:.2f} %"),
        ("nights with a q-value at most 0.05", share(sum(one <= LEVELS[0] for one in q), len(q))),
        ("nights with re-runs", share(sum(night.draws > 0 for night in found), len(found))),
        ("draws a night", average([night.draws for night in found])),
        ("lab minutes a night", average([night.seconds / 60 for night in found])),
    ]  # fmt: skip


def stepped_rows(found: Sequence[tuple[Night, Night]], totals: set[Series]) -> tuple[str, ...]:
    """Return how often a step was found: in any, each and all of its service's whole iterations; the cost."""
    first = [one.alerts & totals for one, _ in found]
    both = [(one.alerts | two.alerts) & totals for one, two in found]
    nights, of = len(found), len(found) * len(totals)
    return (
        share(sum(map(bool, first)), nights),
        share(sum(map(len, first)), of),
        share(sum(one == totals for one in first), nights),
        share(sum(map(bool, both)), nights),
        share(sum(map(len, both)), of),
        average([one.draws for one, _ in found]),
        average([one.seconds / 60 for one, _ in found]),
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archives", nargs="*", type=Path, help="folders with archived runs of two sides")
    parser.add_argument("--nights", type=int, default=400, help="nights of unchanged code")
    parser.add_argument("--steps", type=int, default=150, help="nights with each step")
    parser.add_argument(
        "--past", type=int, default=10, help="quiet nights before a step, beside the same reference"
    )
    parser.add_argument("--floor", type=float, default=0.05, help="the job's minimum_effect")
    parser.add_argument(
        "--luck", type=float, default=LUCK.deviation, help="standard deviation of a draw's luck"
    )
    parser.add_argument("--heavy", action="store_true", help="luck by Student's t with 4 degrees of freedom")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    since = time.process_time()
    luck = Luck(arguments.luck, LUCK.service, LUCK.scenario, TAIL_DF if arguments.heavy else np.inf)
    draws = archived(arguments.archives)
    noise = noise_of(draws, luck, SCENARIOS)
    settings = AnalysisSettings(latency_floor=arguments.floor)
    seen = seen_luck(draws, SCENARIOS)
    if seen is not None:
        scenario, service, other = (100 * one / luck.deviation**2 for one in seen.together)
        print(
            f"{len(draws)} archived draws, {seen.draws} of unchanged code: luck {100 * seen.deviation:.2f} %;"
            f" of its variance a scenario's actions share {scenario:.0f} %, a service's scenarios"
            f" {service:.0f} %, different services {other:.0f} %\n"
        )
    lab = Lab(noise, np.random.default_rng(arguments.seed), settings)
    table(("unchanged code", ""), quiet_rows(quiet(lab, arguments.nights)))
    rng = np.random.default_rng([arguments.seed, 1])
    pasts = [Lab(noise, np.random.default_rng([arguments.seed, 2, n]), settings) for n in range(10)]
    for one in pasts:
        quiet(one, arguments.past)
    rows = []
    for step in PLANTED:
        found, totals = stepped(pasts, step, arguments.steps, arguments.seed)
        rows.append((f"+{100 * step:.0f} %", *stepped_rows(found, totals)))
    columns = (
        f"step in {SERVICE}", "next morning: any of its scenarios", "... each", "... all of them",
        "within two nights: any", "... each", "draws", "lab minutes",
    )  # fmt: skip
    table(columns, rows)
    alone = [
        one.mde
        for past in pasts
        for one in past.fork(rng).night({}).judgements
        if one.key.action == TOTAL and one.mde
    ]
    proven = confirmed_mde(noise, rng, arguments.floor)
    minutes = proof_of_sameness(noise, rng, 100)
    precise = (
        ("MDE of a whole iteration, one night alone", alone),
        ("... after draws within 30 lab minutes", proven),
    )  # fmt: skip
    rows = [
        (name, f"{100 * median(found):.1f} %", f"{100 * min(found):.1f} to {100 * max(found):.1f} %")
        for name, found in precise
    ]
    ends = np.quantile(minutes, [0.1, 0.9])
    rows.append(
        (
            'lab minutes to "same within 3 %", one scenario',
            f"{median(minutes):.0f}",
            f"{ends[0]:.0f} to {ends[1]:.0f} (10 to 90 %)",
        )
    )
    table(("", "median", "from, to"), rows)
    print(f"<!-- seed {arguments.seed}, {time.process_time() - since:.0f} s of CPU -->")
    return 0


if __name__ == "__main__":
    sys.exit(main())
