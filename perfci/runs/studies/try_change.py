"""The job of a try, cut to what is asked for, and what it found as text for a review."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from perfci.alerts.lifecycle import find
from perfci.analysis.decision import Decision
from perfci.results.model import TOTAL, Metric
from perfci.runs.jobs.clouds import SERVICES
from perfci.runs.studies.change_sets import ChangeInvalid
from perfci.runs.studies.side_by_side import SideBySide, budget_of, pair_settings_of, side_by_side
from perfci.runs.verdicts.rerun_jobs import exact
from perfci.runs.verdicts.rerun_round import scenarios_of
from perfci.validation import nearest
from perfci.wording import NBSP, action_name, change, interval

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta

    from perfci.alerts.model import Alert
    from perfci.analysis.ab_test import Finding
    from perfci.results.model import SeriesKey
    from perfci.runs.jobs.model import Job
    from perfci.runs.state.progress import Progress
    from perfci.runs.studies.change_sets import Sides
    from perfci.runs.studies.compare import Compared
    from perfci.runs.verdicts.lab_services import LabServices

_MOST_MINUTES = 1440


def limited(job: Job, *, scenarios: Sequence[str], budget: timedelta | None, runs: int | None) -> Job:
    """Return the job with these tasks alone, and with this much to spend. Raises ChangeInvalid."""
    known = {one.task for one in job.scenarios}
    for name in scenarios:
        if name not in known:
            raise ChangeInvalid(change=name, reason=f"the job has no such task; {nearest(name, known)}")
    kept = tuple(one for one in job.scenarios if not scenarios or one.task in scenarios)
    limits = job.analysis.confirm
    if budget is not None:
        minutes = min(max(1, math.floor(budget.total_seconds() / 60)), _MOST_MINUTES)
        limits = limits.model_copy(update={"most_minutes": minutes})
    if runs is not None:
        limits = limits.model_copy(update={"most_runs": runs})
    analysis = job.analysis.model_copy(update={"confirm": limits})
    return job.model_copy(update={"scenarios": kept, "analysis": analysis})


def job_of_alert(services: LabServices, alert_id: str) -> tuple[Job, Alert]:
    """Return the job of an alert on the code that is slow, with the tasks alone that became slower.

    Raises UnknownAlert and ChangeInvalid.
    """
    alert = find(services.alerts.load(), alert_id)
    bad, job = services.archived(alert.since), services.job(alert.since)
    if job is None:
        raise ChangeInvalid(change=f"alert {alert.id}", reason=f"the archive lacks the job of {alert.since}")
    places = scenarios_of(bad)
    names = {(one.key.scenario, one.key.arguments) for one in alert.series}
    wanted = {index for name in names for index in places.get(name, ())}
    kept = tuple(one for index, one in enumerate(job.scenarios) if index in wanted)
    if not kept:
        raise ChangeInvalid(
            change=f"alert {alert.id}", reason="no task of the job measures the slower series"
        )
    sources = exact(job.sources, bad.record.code.services)
    return job.model_copy(update={"scenarios": kept, "sources": sources, "reference": None}), alert


def cure_text(alert: Alert, found: Compared | SideBySide) -> str:
    """Say how much of an alert's slow-down a change takes back, in one sentence."""
    moved = next((one for one in alert.series if _is_total(one.key)), alert.headline)
    decision, size = _shown(found, moved.key.scenario)
    if size is None or decision is Decision.UNKNOWN:
        return f"perfci could not decide whether it fixes alert {alert.id}."
    told = change(moved.effect, moved.key.metric)
    now = change(size, moved.key.metric)
    if decision is Decision.SAME or size >= 0:
        return f"It does not fix alert {alert.id} ({told}): with it, {moved.key.scenario} is {now}."
    text = f"With it, {moved.key.scenario} is {now}; alert {alert.id} said {told}"
    if not _is_total(moved.key) or not moved.effect or moved.effect <= 0:
        return f"{text} of {action_name(moved.key)}."
    share = math.log1p(size) / -math.log1p(moved.effect)
    return f"{text}: it removes {min(share, 1):.0%} of it."


def _shown(found: Compared | SideBySide, scenario: str) -> tuple[Decision, float | None]:
    """Return what is decided about the whole iteration of a scenario, and its relative change."""
    if isinstance(found, SideBySide):
        for side in found.findings:
            if side.key.scenario == scenario and _is_total(side.key) and side.reading is not None:
                return side.reading.decision, math.expm1(side.reading.log)
        return Decision.UNKNOWN, None
    for key, one in found.found.items():
        if key.scenario == scenario:
            return one.decision, one.effect.size if one.effect is not None else None
    return Decision.UNKNOWN, None


def _is_total(key: SeriesKey) -> bool:
    """Say whether a timing is that of whole iterations; a paired night has its ratio."""
    return key.action == TOTAL and key.metric in {Metric.SECONDS, Metric.RATIO}


def in_pairs(
    controller: LabServices, sides: Sides, job: Job, *, holder: str, progress: Progress
) -> SideBySide:
    """Measure both sides of a try on two clouds side by side, as much as the job allows.

    Draws of an earlier start that was cut short count. Raises ChangeInvalid for clouds of two shapes, and
    what `side_by_side` raises.
    """
    old, new = (
        {str(name): source for name in SERVICES if (source := getattr(one.sources, name)) is not None}
        for one in (sides.old, sides.new)
    )
    ours, theirs = sides.new.cloud.variables, sides.old.cloud.variables
    if sides.old.cloud.model_copy(update={"variables": ours}) != sides.new.cloud:
        raise ChangeInvalid(change="--side-by-side", reason="the clouds of both sides differ in their shape")
    apart = {
        name: theirs.get(name) for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)
    }
    return side_by_side(
        controller,
        job.model_copy(
            update={"sources": job.sources.model_copy(update={"all": None}), "cloud": sides.new.cloud}
        ),
        old=old,
        new=new,
        settings=pair_settings_of(job),
        budget=budget_of(job),
        holder=holder,
        progress=progress,
        apart=apart,
        resume=datetime.min.replace(tzinfo=UTC),
    )


def review_text(found: Compared, notes: Sequence[str]) -> str:
    """Return what was found as plain text for a comment in a review: no tables, which Gerrit would reflow."""
    word = "slower" if found.slower else "not decided" if found.undecided else "nothing is slower"
    lines = [f"perfci: {word} ({len(found.runs)} fresh deployments in turns)", ""]
    lines += [f"* {line}" for line in _lines(found)]
    lines += ["", *(f"{one}" for one in notes)]
    if found.ended:
        lines.append(f"It ended early: {found.ended}.")
    return "\n".join(lines).replace(NBSP, " ")


def _lines(found: Compared) -> Iterator[str]:
    for key, one in sorted(found.found.items()):
        yield f"{key.scenario}: {_verdict(key, one)} ({one.old_runs} old, {one.new_runs} new)"


def _verdict(key: SeriesKey, one: Finding) -> str:
    shown = one.effect
    size = f" {change(shown.size, key.metric)}" if shown else ""
    around = f", 95 % {interval(shown.low, shown.high, key.metric)}" if shown else ""
    if one.decision is Decision.DIFFERENT and shown:
        return f"{'slower' if shown.size > 0 else 'faster'}{size}{around}"
    return f"{one.decision}{size}{around}"
