"""The page of one run: the verdict, the code and its changes, what to do, then the rows."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from perfci import pages, wording
from perfci.analysis.types import Outcome
from perfci.redaction import redacted
from perfci.report.curve import by_service, curves
from perfci.report.data_files import is_calm, run_files, service_of
from perfci.report.distribution import overlay
from perfci.report.model import TONES, by_interest, tally, verdict
from perfci.report.rendered import rendered
from perfci.results.model import TOTAL, Metric

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from perfci.analysis.types import Judgement
    from perfci.report.model import PairedView, RunReport
    from perfci.results.density import Curve
    from perfci.results.model import CodeUnderTest, SeriesKey, ServiceRevision

ROWS_SHOWN = 60
"""So many rows are on a page itself; the others are in its data file."""

ALERTS_SHOWN = 20
"""So many alerts a run's page lists, the newest of them; the overview has all that are open today."""


def run_pages(run: RunReport) -> dict[str, str]:
    """Return the page of a run and its data files, by name."""
    record = run.record
    ordered = by_interest(run.judgements)
    telling = [one for one in ordered if not is_calm(one.outcome)]
    shown, others = telling[:ROWS_SHOWN], telling[ROWS_SHOWN:]
    # Pairs have a table of their own.
    bare = not record.validity.valid or not (telling or run.paired)
    measured = _measured(run) if bare else []
    page = rendered(
        "run.html.j2",
        root="../",
        run=run,
        alerts=run.alerts[-ALERTS_SHOWN:],
        more_alerts=len(run.alerts[:-ALERTS_SHOWN]),
        suspected=any(not one.ending for one in run.alerts),
        record=record,
        verdict=verdict(run),
        groups=[(outcome, rows, tally(ordered, rows[0].outcome)) for outcome, rows in _groups(shown)],
        several=wording.several_arguments(one.key for one in ordered),
        folded=len(ordered or run.measurements) - len(shown) - len(measured),
        judged_calm=not telling and any(one.outcome is Outcome.NO_CHANGE for one in ordered),
        changed_too=sum(one.since is not None for one in others),
        measured=measured,
        counts=[(outcome, count) for outcome in TONES if (count := tally(ordered, outcome))],
        code=code_differences(run.before.code, record.code) if run.before else None,
        blamed=service_of(telling[0].key) if telling else "",
        excerpt=redacted(run.failure.excerpt) if run.failure else "",
        error=redacted(run.failure.error) if run.failure else "",
        paired=run.paired and _paired(run.paired, record.code),
        fills=[{"curve": curve, "pictures": list(_pictures(curve))} for curve in run.curves],
    )
    return {pages.run_page(record.run_id): page, **run_files(run)}


def summary_of(run: RunReport) -> dict[str, Any]:
    """Return what other pages show of a run, as plain values: it is kept, and the run is not read again."""
    record, found = run.record, verdict(run)
    changed = next((one for one in by_interest(run.judgements) if one.since is not None), None)
    return {
        "run_id": record.run_id,
        "lab": record.lab,
        "job": record.job,
        "started": f"{record.started_at:%Y-%m-%d %H:%M}",
        "seconds": (record.finished_at - record.started_at).total_seconds(),
        "tone": str(found.tone),
        "text": found.text,
        "valid": record.validity.valid,
        "failed": run.failure is not None,
        "fitness_known": bool(run.canaries or record.validity.reasons),
        "stages": [[stage.name, stage.seconds, stage.ok] for stage in run.stages],
        "changed": changed
        and {
            "page": f"{pages.scenario_page(changed.key)}#{pages.anchor(changed.key)}",
            "name": wording.action_name(changed.key),
            "effect": wording.change(changed.effect, changed.key.metric),
        },
    }


def code_differences(before: CodeUnderTest, after: CodeUnderTest) -> list[tuple[str, str, str]]:
    """Return which services differ between two runs: name, what it was, what it is."""
    old, new = ({one.service: one for one in code.services} for code in (before, after))

    def revision(side: dict[str, ServiceRevision], name: str) -> str:
        return wording.revision_name(side[name]) if name in side else wording.MISSING

    return [
        (name, revision(old, name), revision(new, name))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _groups(judgements: Sequence[Judgement]) -> list[tuple[str, list[Judgement]]]:
    """Return judgements by outcome, in the order in which they are given."""
    groups: dict[str, list[Judgement]] = {}
    for one in judgements:
        groups.setdefault(str(one.outcome), []).append(one)
    return list(groups.items())


def _measured(run: RunReport) -> list[tuple[SeriesKey, float]]:
    """Return the medians of whole iterations: what a page shows of an unfit lab, or where all is calm."""
    whole = [
        (one.key, median(one.values))
        for one in run.measurements
        if one.key.action == TOTAL and one.key.metric is Metric.SECONDS and one.values
    ]
    return sorted(whole)[:ROWS_SHOWN]


def _paired(view: PairedView, code: CodeUnderTest) -> dict[str, Any]:
    """Return what a paired night shows: the rows that fit on the page, the clearest with their iterations."""
    drawn = [one for one in view.rows if one.old_values and one.new_values]
    names = ("reference", "code under test")
    return {
        "code": code_differences(view.reference, code),
        "rows": view.rows[:ROWS_SHOWN],
        "more": len(view.rows[ROWS_SHOWN:]),
        "notes": view.notes,
        "pictures": [
            # The picture escapes what it is given.
            (one.key, Markup(overlay(one.old_values, one.new_values, Metric.SECONDS, names)))  # noqa: S704
            for one in drawn
        ],
    }


def _pictures(curve: Curve) -> Iterator[tuple[str, Markup]]:
    """Return the pictures of one fill with their headings; what was not measured has none."""
    messages = [(p.servers, p.messages) for p in curve.points if p.messages is not None]
    for heading, lines, metric in (
        ("Seconds", {name: curve.middle(name) for name in curve.quantities}, Metric.SECONDS),
        ("CPU seconds per server booted", by_service(curve, "cpu_seconds"), Metric.CPU_SECONDS),
        ("Memory", by_service(curve, "rss_bytes"), Metric.PEAK_RSS_BYTES),
        ("Messages in RabbitMQ's queues, at most", {"messages": messages}, Metric.SQL_STATEMENTS),
    ):
        # The picture escapes what it is given.
        if picture := curves(lines, metric):
            yield heading, Markup(picture)  # noqa: S704
