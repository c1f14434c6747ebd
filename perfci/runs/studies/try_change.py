"""The job of a try, cut to what is asked for, and what it found as text for a review."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from perfci.analysis.decision import Decision
from perfci.runs.studies.change_sets import ChangeInvalid
from perfci.validation import nearest
from perfci.wording import NBSP, change, interval

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta

    from perfci.analysis.ab_test import Finding
    from perfci.results.model import SeriesKey
    from perfci.runs.jobs.model import Job
    from perfci.runs.studies.compare import Compared

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
