"""Nights of a lab for the tests of alerts and report: iterations drawn from recorded Rally reports.

`tests/data/nights/durations.json` holds seconds per iteration and action of real tasks. A night draws
from them (with a seed) and multiplies by a small factor for the night; a slow-down is put on top.
"""

from __future__ import annotations

import json
import random
import statistics
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from perfci.analysis.types import ChangeKind, Judgement, Outcome, RunPoint, SeriesHistory
from perfci.results.model import CodeUnderTest, Metric, RunRecord, SeriesKey, ServiceRevision, Validity

DURATIONS = json.loads((Path(__file__).parent / "data/nights/durations.json").read_text())
FIRST_NIGHT = datetime(2026, 10, 31, 4, 15, tzinfo=UTC)
LAB, JOB = "embedded", "nightly"
NETWORKS = "NeutronNetworks.create_and_list_networks"
PORTS = "NeutronNetworks.create_and_list_ports"
BOOT = "NovaServers.boot_and_delete_server"
SLOW = {
    ("neutron.create_port", PORTS): 1.31,
    ("total", PORTS): 1.24,
    ("neutron.create_network", NETWORKS): 1.17,
}
PATCH = "slow-create-port.patch@1f2e3d4c"


def run_id(night: int, job: str = JOB) -> str:
    return f"{FIRST_NIGHT + timedelta(days=night):%Y%m%dT%H%M%SZ}-{job}-{night:04x}"


def seconds_key(action: str, scenario: str) -> SeriesKey:
    return SeriesKey(LAB, JOB, scenario, DURATIONS[scenario]["arguments"], action, Metric.SECONDS)


def statements_key(service: str, scenario: str) -> SeriesKey:
    return SeriesKey(LAB, JOB, scenario, DURATIONS[scenario]["arguments"], service, Metric.SQL_STATEMENTS)


ALL_KEYS = tuple(
    seconds_key(action, scenario)
    for scenario, recorded in DURATIONS.items()
    for action in recorded["actions"]
)


def code(*changes: str) -> CodeUnderTest:
    services = (
        ServiceRevision("keystone", "28.0.0", "wheel", "28.0.0"),
        ServiceRevision("neutron", "27.0.1", "wheel", "27.0.1", changes),
        ServiceRevision("nova", "32.0.0", "wheel", "32.0.0"),
    )
    return CodeUnderTest("c0de" + ("beef0001" if changes else "beef0000"), services)


def record(
    night: int, *changes: str, invalid: tuple[str, ...] = (), environment: str = "e0e0e0e0e0e0"
) -> RunRecord:
    started = FIRST_NIGHT + timedelta(days=night)
    return RunRecord(
        run_id=run_id(night),
        lab=LAB,
        job=JOB,
        cloud="embedded",
        started_at=started,
        finished_at=started + timedelta(minutes=7, seconds=12),
        environment=environment,
        code=code(*changes),
        validity=Validity(valid=not invalid, reasons=invalid),
    )


@dataclass
class History:
    """All nights so far; `play` adds one."""

    seed: int = 1
    records: dict[str, RunRecord] = field(default_factory=dict)
    points: dict[SeriesKey, list[RunPoint]] = field(default_factory=lambda: {key: [] for key in ALL_KEYS})
    factors: list[dict[tuple[str, str], float]] = field(default_factory=list)

    def play(self, *changes: str, factors: dict[tuple[str, str], float] | None = None, **fields) -> RunRecord:
        night = len(self.records)
        run = record(night, *changes, **fields)
        self.records[run.run_id] = run
        self.factors.append(factors or {})
        draw = random.Random(f"{self.seed}-{night}")  # noqa: S311  (a seed, not a secret)
        for key in self.points:
            self.points[key].append(
                _point(run, key, draw, (factors or {}).get((key.action, key.scenario), 1.0))
            )
        return run

    def histories(self) -> tuple[SeriesHistory, ...]:
        return tuple(SeriesHistory(key, tuple(points)) for key, points in self.points.items())

    def judgements(self) -> tuple[Judgement, ...]:
        """Judge the last night by what was put in, with measured locations: enough for alerts and pages."""
        return tuple(self._judge(key) for key in self.points)

    def _judge(self, key: SeriesKey) -> Judgement:
        runs = list(self.records)
        tonight = self.records[runs[-1]]
        if not tonight.validity.valid:
            return Judgement(key, runs[-1], Outcome.INVALID, "the lab was not fit to measure")
        slow = [run for run, put in zip(runs, self.factors, strict=True) if (key.action, key.scenario) in put]
        good = [run for run in runs[:-1] if run not in slow and self.records[run].validity.valid]
        if len(good) < 8:
            return Judgement(key, runs[-1], Outcome.NO_BASELINE, f"{len(good)} of 8 runs")
        at = {point.run_id: statistics.median(point.values) for point in self.points[key]}
        baseline = statistics.median(at[run] for run in good)
        effect = at[runs[-1]] / baseline - 1
        moved = runs[-1] in slow
        return Judgement(
            key,
            runs[-1],
            Outcome.REGRESSION if moved else Outcome.NO_CHANGE,
            f"{effect:+.1%} against {len(good)} runs",
            baseline=tuple(good),
            location=at[runs[-1]],
            baseline_location=baseline,
            effect=effect,
            low=effect - 0.04,
            high=effect + 0.04,
            mde=0.05,
            p_value=0.0002 if moved else 0.4,
            q_value=0.0007 if moved else 0.6,
            since=slow[0] if moved else None,
            kind=ChangeKind.SHIFT if moved else None,
        )


def _point(run: RunRecord, key: SeriesKey, draw: random.Random, factor: float) -> RunPoint:
    recorded = DURATIONS[key.scenario]["actions"][key.action]
    night = draw.lognormvariate(0, 0.012)
    values = tuple(value * night * factor for value in draw.sample(recorded, min(20, len(recorded))))
    return RunPoint(run.run_id, run.environment, run.code.digest, values, len(values), 0, run.validity.valid)


def regression(
    key: SeriesKey, run: str, since: str, baseline: tuple[str, ...], *, effect: float = 0.3
) -> Judgement:
    return Judgement(
        key, run, Outcome.REGRESSION, "slower", baseline=baseline, location=1 + effect, baseline_location=1.0,
        effect=effect, low=effect - 0.04, high=effect + 0.04, mde=0.05, p_value=0.0002, q_value=0.0007,
        since=since, kind=ChangeKind.SHIFT,
    )  # fmt: skip


def outcome(key: SeriesKey, run: str, answer: Outcome) -> Judgement:
    return Judgement(key, run, answer, str(answer))


def as_job(run: RunRecord, job: str) -> RunRecord:
    return replace(run, job=job)
