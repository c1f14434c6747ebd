"""A site as a lab has it after some weeks, for the tests of pages and tables."""

from __future__ import annotations

from dataclasses import replace

from nights import BOOT, JOB, LAB, PATCH, PORTS, SLOW, History, run_id, seconds_key, statements_key

from perfci.analysis.types import Judgement, RunPoint, SeriesHistory
from perfci.report.model import (
    AlertAtRun,
    AlertSummary,
    Canary,
    Mark,
    PageTone,
    ReportedFailure,
    ReportedStage,
    RunReport,
    ServiceChange,
    SiteData,
)
from perfci.report.points import TrendRun, trend_of
from perfci.results.model import Measurement

__all__ = ["JOB", "LAB", "alert", "site_data"]

LEADING = seconds_key("neutron.create_port", PORTS)
STAGES = (
    ("reserve", 0.2),
    ("deploy", 131.0),
    ("hammer", 246.0),
    ("collect", 9.0),
    ("analyse", 3.1),
    ("publish", 4.4),
)


def site_data() -> SiteData:
    """Return thirty nights: slower from the 20th to the 23rd, one night unfit, one failed, a new environment."""
    history, reports, marks = History(), [], []
    for number, slowed in enumerate([None] * 20 + [SLOW] * 4 + [None] * 6):
        fields = (
            {"invalid": ("canary disk on node-1 took 81 ms, usual is 12 ms (±2 ms over 12 runs)",)}
            if number == 14
            else {}
        )
        if number < 4:
            fields["environment"] = "0dd0dd0dd0dd"
        run = history.play(*((PATCH,) if slowed else ()), factors=slowed, **fields)
        reports.append(_report(run, history.judgements()))
        if number in (20, 24):
            for (action, scenario), factor in SLOW.items():
                label = f"+{100 * (factor - 1):.0f} %" if slowed else "back"
                marks.append(
                    Mark(
                        seconds_key(action, scenario),
                        run.run_id,
                        label,
                        PageTone.BAD if slowed else PageTone.GOOD,
                    )
                )
    reports[-3] = replace(
        reports[-3],
        judgements=(),
        failure=ReportedFailure(
            "deploy",
            "product",
            "status 500 instead of 200",
            "neutron-api.log",
            "Traceback\n  password=hunter22",
        ),
        stages=(
            ReportedStage("reserve", 0.2),
            ReportedStage("deploy", 140.0, ok=False),
            ReportedStage("release", 1.0),
        ),
    )
    judgements = {one.key: one for one in history.judgements()}
    histories = (*history.histories(), _statements(history))
    shown = [
        TrendRun(one.run_id, one.environment, one.code.digest, one.validity.valid)
        for one in history.records.values()
    ]
    return SiteData(
        tuple(_whole(reports, history)),
        tuple(trend_of(one, shown) for one in histories),
        judgements,
        tuple(marks),
        alerts=(alert(closed=run_id(24), ending="fixed"),),
        codes={one.code.digest: one.code for one in history.records.values()},
    )


def _whole(reports: list[RunReport], history: History):
    """Yield the reports with what each run measured, and which came before it."""
    for number, one in enumerate(reports):
        measurements = tuple(
            Measurement(key, one.record.run_id, points[number].values, tuple(map(float, range(len(points[number].values)))), 20, 0)
            for key, points in history.points.items()
        )  # fmt: skip
        before = reports[number - 1].record if number else None
        yield replace(
            one,
            measurements=() if one.failure else measurements,
            before=before,
            versions={"oslo.db": f"17.{number // 10}.0"},
        )


def _report(run, judgements: tuple[Judgement, ...]) -> RunReport:
    stages = tuple(ReportedStage(name, seconds) for name, seconds in STAGES)
    canaries = tuple(
        Canary("node-1", name, usual * 0.99, usual * 1.02, usual)
        for name, usual in (("cpu", 0.41), ("memory", 0.22), ("disk", 0.012), ("mariadb", 0.0009))
    )
    shown = ()
    if run_id(20) <= run.run_id <= run_id(24):
        effect = next((one.effect for one in judgements if one.key == LEADING and one.since), 0.31)
        ending = "fixed" if run.run_id == run_id(24) else ""
        shown = (AlertAtRun("65af3750f0", LEADING, effect, run_id(20), run_id(20), ending),)
    return RunReport(run, stages, judgements, canaries, alerts=shown)


def _statements(history: History) -> SeriesHistory:
    points = tuple(
        RunPoint(
            run.run_id, run.environment, run.code.digest, (41.0 if put else 38.0,), 20, 0, run.validity.valid
        )
        for run, put in zip(history.records.values(), history.factors, strict=True)
    )
    return SeriesHistory(statements_key("neutron-api", PORTS), points)


def alert(**fields) -> AlertSummary:
    """Return an alert that is open."""
    given = {
        "id": "65af3750f0", "since": run_id(20), "opened": run_id(20), "key": LEADING,
        "effect": 0.31, "before": 0.938, "after": 1.23, "series": 3, "last_good": run_id(19),
        "changes": (ServiceChange("neutron", "27.0.1 (wheel)", f"27.0.1 (wheel) with {PATCH}"),),
    }  # fmt: skip
    return AlertSummary(**{**given, **fields})


BOOT_TOTAL = seconds_key("total", BOOT)
