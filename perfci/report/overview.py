"""The overview: open alerts, what each job's last run brought, runs and scenarios; and each job's page."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from perfci import pages, wording
from perfci.report.model import by_interest, interest_rank, verdict
from perfci.report.rendered import rendered
from perfci.report.run_page import code_differences
from perfci.report.scenario_page import latest_value
from perfci.report.svg import sparkline
from perfci.results.model import Metric

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from perfci.report.model import AlertSummary, RunReport, SiteData, SuspectRow
    from perfci.report.points import SeriesTrend

RUNS_OPEN = 14
"""Of each job, on the overview; its own page has all that have a page."""
SCENARIOS_OPEN = 40
SCENARIOS_A_PAGE = 60
"""A job with more has several pages of them: each stays below 100 kB."""
NEWS = 12
"""So many series are named as new; the run's page has them all."""


def overview_pages(
    data: SiteData,
    scenarios: Mapping[tuple[str, ...], Sequence[SeriesTrend]],
    summaries: Sequence[Mapping[str, Any]],
    report: Callable[[str], RunReport],
) -> dict[str, str]:
    """Return the overview and the jobs' pages. `summaries` are of all runs, `report` reads one by its id."""
    shown = {one["run_id"] for one in summaries}
    jobs = _jobs(data, scenarios, summaries, report)
    open_alerts = _open_alerts(data)
    found = {
        pages.INDEX: rendered("index.html.j2", root="", jobs=jobs, alerts=open_alerts, shown=shown),
        pages.COMPARE: rendered("compare.html.j2", root="", jobs=jobs),
    }
    for job in jobs:
        begins = range(0, max(len(job["scenarios"]), 1), SCENARIOS_A_PAGE)
        names = [pages.job_page(job["lab"], job["job"], n) for n in range(1, len(begins) + 1)]
        for number, (name, first) in enumerate(zip(names, begins, strict=True)):
            part = job["scenarios"][first : first + SCENARIOS_A_PAGE]
            found[name] = rendered(
                "job.html.j2", root="../", job=job, part=part, number=number, names=names, first=first + 1
            )
    return found


def _jobs(
    data: SiteData,
    scenarios: Mapping[tuple[str, ...], Sequence[SeriesTrend]],
    summaries: Sequence[Mapping[str, Any]],
    report: Callable[[str], RunReport],
) -> list[dict[str, Any]]:
    """Return what is shown of each job: its scenarios as they are now, and its runs, the newest first."""
    runs: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for one in sorted(summaries, key=lambda one: str(one["run_id"]), reverse=True):
        runs[one["lab"], one["job"]].append(one)
    named = Counter(place[:3] for place in scenarios)
    listed: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for place, series in scenarios.items():
        listed[place[:2]].append({**_scenario(series, data), "several": named[place[:3]] > 1})
    return [
        {
            "lab": lab,
            "job": job,
            "page": pages.job_page(lab, job),
            "data": pages.job_data(lab, job).removesuffix(".js"),
            "news": _news([report(one["run_id"]) for one in mine[:2]], data),
            "runs": mine,
            "open": RUNS_OPEN,
            "several": wording.several_arguments(
                one[0].key for place, one in scenarios.items() if place[:2] == (lab, job)
            ),
            "sifted": [
                one.suspects
                for one in data.alerts
                if one.suspects and (one.key.lab, one.key.job) == (lab, job)
            ],
            "scenarios": sorted(listed[lab, job], key=_by_verdict),
            "scenarios_open": SCENARIOS_OPEN,
            "growing": [one for one in data.growing if (one.key.lab, one.key.job) == (lab, job)],
        }
        for (lab, job), mine in sorted(runs.items())
    ]


def _open_alerts(data: SiteData) -> list[tuple[AlertSummary, SuspectRow | None]]:
    """Return the alerts that are open, each with the likeliest change that can have caused it.

    Those that nobody looks into come first, the newest of them on top.
    """
    still = [one for one in data.alerts if one.closed is None]
    newest = sorted(still, key=lambda one: (one.since, one.id), reverse=True)
    return [
        (one, max(one.suspects.rows, key=lambda row: row.share, default=None) if one.suspects else None)
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
        "first": before is None,
        "opened": [one for one in data.alerts if one.opened == run.record.run_id],
        "closed": [one for one in data.alerts if one.closed == run.record.run_id],
        "changed": fresh[:NEWS],
        "more": max(len(fresh) - NEWS, 0),
        "code": code_differences(before.record.code, run.record.code) if before else [],
    }


def _by_verdict(scenario: dict[str, Any]) -> tuple[Any, ...]:
    """Sort key: what changed first; what was never judged last."""
    worst = scenario["worst"]
    return (worst is None, interest_rank(worst) if worst else (), scenario["key"])


def _scenario(series: Sequence[SeriesTrend], data: SiteData) -> dict[str, Any]:
    """Return a scenario's row: the seconds of the last run, and the trend of what is judged of them."""
    lead = series[0]
    judged = [data.judgements[one.key] for one in series if one.key in data.judgements]
    worst = min(judged, key=interest_rank, default=None)
    judgement, trend = data.judgements.get(lead.key), lead
    if judgement is None:
        # Beside a reference the ratio has the verdict: what the machine does to both sides is not in it.
        ratio = replace(lead.key, metric=Metric.RATIO)
        trend = next((one for one in series if one.key == ratio), lead)
    value = latest_value(lead, judgement)
    # The picture escapes what it is given.
    return {"key": lead.key, "spark": Markup(sparkline(trend)), "worst": worst, "value": value}  # noqa: S704
