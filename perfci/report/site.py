"""Static pages: an overview, one page for each run, one for each scenario with its trends.

They need no server: no scripts, nothing from elsewhere, relative links only. A page whose content did
not change is left alone, and a changed one is replaced in one step.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from perfci import pages, wording
from perfci.analysis.changepoints import change_points
from perfci.analysis.level_rule import rule_of
from perfci.analysis.robust import run_location
from perfci.analysis.settings import AnalysisSettings
from perfci.files import write_whole
from perfci.markup import breakable
from perfci.redaction import redacted
from perfci.report.curve import by_service, curves
from perfci.report.model import TONES, RunReport, SiteData, by_interest, interest_rank, tally, verdict
from perfci.report.svg import shown_points, sparkline, trend
from perfci.results.model import COUNTERS, TOTAL, Metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from perfci.analysis.changepoints import ChangePoint
    from perfci.analysis.types import SeriesHistory
    from perfci.report.model import AlertSummary, Mark, SuspectRow
    from perfci.results.density import Curve
    from perfci.results.model import CodeUnderTest, SeriesKey, ServiceRevision

RUNS_LISTED = 60
"""Of each job, on the overview; the newest stand open, the others are folded."""
RUNS_OPEN = 14
NEWS = 12
"""So many series are named as new; the run's page has them all."""
LEAST_CHANGE = 0.02
"""Smaller changes of level are not drawn."""
STYLE = "style.css"
_METRICS = tuple(Metric)


@dataclass(frozen=True, slots=True)
class Written:
    """What was done: pages whose content changed, and pages in all."""

    changed: int
    pages: int


def write(folder: Path, data: SiteData) -> Written:
    """Write all pages into a folder; pages of runs and scenarios that are not in `data` stay."""
    changed = total = 0
    for name, content in _pages(data):
        total += 1
        changed += _replace(folder / name, content)
    return Written(changed, total)


def _pages(data: SiteData) -> Iterator[tuple[str, str]]:
    names = _code_names(data.runs)
    marks: dict[SeriesKey, list[Mark]] = defaultdict(list)
    for mark in sorted(data.marks, key=lambda one: (one.run_id, one.label)):
        marks[mark.key].append(mark)
    yield STYLE, (files("perfci.report") / "templates" / STYLE).read_text(encoding="utf-8")
    shown = {run.record.run_id for run in data.runs}
    yield (
        pages.INDEX,
        _rendered("index.html.j2", root="", jobs=_jobs(data), alerts=_open_alerts(data), shown=shown),
    )
    for run in data.runs:
        yield pages.run_page(run.record.run_id), _run(run)
    for histories in _by_scenario(data.histories).values():
        key = histories[0].key
        series = [_series(history, data, marks[history.key], names) for history in histories]
        yield pages.scenario_page(key), _rendered("scenario.html.j2", root="../", key=key, series=series)


def _jobs(data: SiteData) -> list[dict[str, Any]]:
    """Return what the overview shows of each job: its scenarios as they are now, and its last runs."""
    runs: dict[tuple[str, str], list[RunReport]] = defaultdict(list)
    for run in data.runs:
        runs[run.record.lab, run.record.job].append(run)
    scenarios: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    groups = _by_scenario(data.histories)
    named = Counter(place[:3] for place in groups)
    for place, histories in groups.items():
        key = histories[0].key
        summary = _scenario_summary(histories, data)
        scenarios[key.lab, key.job].append({**summary, "several": named[place[:3]] > 1})
    return [
        {
            "lab": lab,
            "job": job,
            "news": _news(_newest(runs[lab, job]), data),
            "runs": [_summary(run) for run in _newest(runs[lab, job])[:RUNS_LISTED]],
            "open": RUNS_OPEN,
            "sifted": [found for run in runs[lab, job] for found in run.suspects],
            "scenarios": sorted(scenarios[lab, job], key=_by_verdict),
            "growing": [one for one in data.growing if (one.key.lab, one.key.job) == (lab, job)],
        }
        for lab, job in sorted(runs)
    ]


def _open_alerts(data: SiteData) -> list[tuple[AlertSummary, SuspectRow | None]]:
    """Return the alerts that are open, each with the likeliest change that can have caused it.

    Those that nobody looks into come first, the newest of them on top.
    """
    suspects = {found.alert: found.rows for run in data.runs for found in run.suspects if found.rows}
    still = [one for one in data.alerts if one.closed is None]
    newest = sorted(still, key=lambda one: (one.since, one.id), reverse=True)
    return [
        (one, max(suspects[one.id], key=lambda row: row.share) if one.id in suspects else None)
        for one in sorted(newest, key=lambda one: one.acknowledged)
    ]


def _news(newest: Sequence[RunReport], data: SiteData) -> dict[str, Any]:
    """Return what a job's last run brought: alerts, series that changed, and which code differs."""
    run, before = newest[0], newest[1] if len(newest) > 1 else None
    known = {(one.key, one.since) for one in before.judgements} if before else set()
    told = {one.key for one in data.alerts if one.opened == run.record.run_id}
    fresh = [
        one
        for one in by_interest(run.judgements)
        if one.since is not None and (one.key, one.since) not in known and one.key not in told
    ]
    return {
        "run": run,
        "verdict": verdict(run),
        "opened": [one for one in data.alerts if one.opened == run.record.run_id],
        "closed": [one for one in data.alerts if one.closed == run.record.run_id],
        "changed": fresh[:NEWS],
        "more": max(len(fresh) - NEWS, 0),
        "code": _code_differences(before.record.code, run.record.code) if before else [],
    }


def _code_differences(before: CodeUnderTest, after: CodeUnderTest) -> list[tuple[str, str, str]]:
    """Return which services differ between two runs: name, what it was, what it is."""
    old, new = ({one.service: one for one in code.services} for code in (before, after))

    def revision(side: dict[str, ServiceRevision], name: str) -> str:
        return wording.revision_name(side[name]) if name in side else wording.MISSING

    return [
        (name, revision(old, name), revision(new, name))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _by_verdict(scenario: dict[str, Any]) -> tuple[Any, ...]:
    """Sort key: what changed first; what was never judged last."""
    worst = scenario["worst"]
    return (worst is None, interest_rank(worst) if worst else (), scenario["key"])


def _newest(runs: Iterable[RunReport]) -> list[RunReport]:
    return sorted(runs, key=lambda run: run.record.run_id, reverse=True)


def _summary(run: RunReport) -> dict[str, Any]:
    return {
        "run": run,
        "verdict": verdict(run),
        "seconds": (run.record.finished_at - run.record.started_at).total_seconds(),
        "changed": [one for one in by_interest(run.judgements) if one.since is not None],
    }


def _scenario_summary(histories: list[SeriesHistory], data: SiteData) -> dict[str, Any]:
    lead = histories[0]
    judged = [data.judgements[one.key] for one in histories if one.key in data.judgements]
    worst = by_interest(judged)[0] if judged else None
    now = data.judgements.get(lead.key)
    return {"key": lead.key, "spark": Markup(sparkline(lead)), "worst": worst, "now": now}  # noqa: S704


def _run(run: RunReport) -> str:
    judgements = by_interest(run.judgements)
    return _rendered(
        "run.html.j2",
        root="../",
        run=run,
        record=run.record,
        verdict=verdict(run),
        judgements=judgements,
        counts=[(outcome, count) for outcome in TONES if (count := tally(judgements, outcome))],
        excerpt=redacted(run.failure.excerpt) if run.failure else "",
        error=redacted(run.failure.error) if run.failure else "",
        fills=[{"curve": curve, "pictures": list(_pictures(curve))} for curve in run.curves],
    )


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


def _series(
    history: SeriesHistory, data: SiteData, marks: list[Mark], names: dict[str, str]
) -> dict[str, Any]:
    judgement = data.judgements.get(history.key)
    # The picture escapes what it is given.
    picture = Markup(trend(history, judgement, marks, names, changes=level_changes(history)))  # noqa: S704
    return {
        "key": history.key,
        "judgement": judgement,
        "picture": picture,
        "runs": len(history.points),
        "calibration": data.calibrations.get(history.key),
    }


def level_changes(history: SeriesHistory) -> tuple[ChangePoint, ...]:
    """Return the changes of level in what a picture shows of a history; indices count its points.

    What no verdict would report is left out: changes of less than the unit of a counter, say.
    """
    shown = shown_points(history)
    found = [run_location(point.values) if point.valid else None for point in shown]
    values = [math.nan if one is None else math.exp(one.log) for one in found]
    errors = [0.0 if one is None else one.error for one in found]
    metric = history.key.metric
    unit = 0.0 if metric is Metric.FAILURE_RATE else rule_of(metric, AnalysisSettings()).unit
    found_changes = change_points(values, errors, floor=LEAST_CHANGE)
    return tuple(one for one in found_changes if abs(one.after - one.before) >= unit)


def _by_scenario(histories: Iterable[SeriesHistory]) -> dict[tuple[str, ...], list[SeriesHistory]]:
    groups: dict[tuple[str, ...], list[SeriesHistory]] = defaultdict(list)
    for history in sorted(histories, key=lambda one: _place(one.key)):
        key = history.key
        groups[key.lab, key.job, key.scenario, key.arguments].append(history)
    return groups


def _place(key: SeriesKey) -> tuple[Any, ...]:
    """Sort key: whole iterations before actions, timings before counters."""
    return (
        key.lab,
        key.job,
        key.scenario,
        key.arguments,
        _METRICS.index(key.metric) if key.metric in COUNTERS else 0,
        key.metric is not Metric.SECONDS,
        key.action != TOTAL,
        key.action,
    )


def _code_names(runs: Iterable[RunReport]) -> dict[str, str]:
    return {run.record.code.digest: _code_name(run.record.code) for run in runs}


def _code_name(code: CodeUnderTest) -> str:
    """Return which code ran: what was put on top, or came from git; else only its digest."""
    special = [
        f"{service.service} {wording.revision_name(service)}"
        for service in code.services
        if service.changes or service.source != "wheel"
    ]
    return f"code {code.digest}{': ' if special else ''}{'; '.join(special)}"


def _rendered(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("perfci.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = breakable
    environment.globals.update(pages=pages, wording=wording, tones=TONES, style=STYLE)
    return environment


def _replace(target: Path, content: str) -> bool:
    """Write a file in one step, unless it holds that content already; return whether it was written."""
    data = content.encode()
    try:
        if target.read_bytes() == data:
            return False
    except FileNotFoundError:
        target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, data)
    return True
