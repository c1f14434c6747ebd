"""What a comparison can show before it begins: from how a job's runs scatter, and how long they take."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

from perfci.analysis.pair_decision import smallest_proven
from perfci.analysis.pairs import DRAW_DEVIATION_DF, LEAST_PAIRS, DrawEffect
from perfci.results.model import COMPARE, FINISHED, TOTAL, Metric
from perfci.runs.studies.bisect_noise import (
    USUAL_PAIR_ERROR,
    MeasuredSeries,
    night_logs,
    rally_name,
    variance_of,
)
from perfci.runs.studies.side_by_side import budget_of, pair_settings_of
from perfci.runs.verdicts.rerun_jobs import named
from perfci.wording import NBSP, counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perfci.runs.jobs.model import Job
    from perfci.runs.verdicts.lab_services import LabServices

RUNS = 5
"""So many of the latest runs say how long one takes."""
SHARE = 0.9
"""The forecast is what so many of the scenarios reach."""
_Z95 = 1.96
_LEAST_NIGHTS = 3


@dataclass(frozen=True, slots=True)
class Forecast:
    """What so many runs in so many minutes can show.

    `widths` are half 95 % intervals of the difference of both sides, relative, by task, of the tasks whose
    noise is known; `tasks` is how many there are.
    """

    runs: int
    minutes: float
    widths: Mapping[str, float]
    tasks: int

    @property
    def text(self) -> str:
        """Say it in one line: `±3 % on 9 of 10 tasks in 35 min (24 runs)`."""
        cost = f"in {math.ceil(self.minutes)}{NBSP}min ({counted(self.runs, 'run')})"
        if not self.widths:
            return f"how much its runs scatter is not known yet; {cost}"
        ordered = sorted(self.widths.values())
        reached = math.ceil(SHARE * len(ordered))
        width = 100 * ordered[reached - 1]
        digits = f"{width:.1f}" if width < 1 else f"{math.ceil(width)}"
        return f"±{digits}{NBSP}% on {reached} of {counted(self.tasks, 'task')} {cost}"

    def as_dict(self) -> dict[str, object]:
        """Return it for `--json`."""
        return {"runs": self.runs, "minutes": self.minutes, "tasks": self.tasks, "widths": dict(self.widths)}


def half_width(nights: Sequence[float], runs: int) -> float:
    """Return half the 95 % interval of new against old after so many runs, half of them on either side."""
    a_side = max(1, runs // 2)
    return math.expm1(_Z95 * math.sqrt(2 * variance_of(nights) / a_side))


def forecast(services: LabServices, job: Job) -> Forecast | None:
    """Return what a comparison of a job can show within its budget; None where it has never run."""
    records = services.local.records(services.settings.lab, job.name)
    took = [
        (one.finished_at - one.started_at).total_seconds() / 60 for one in records if one.status == FINISHED
    ][-RUNS:]
    if not took:
        return None
    limits, each = job.analysis.confirm, max(median(took), 1 / 60)
    runs = max(2, min(limits.most_runs, int(limits.most_minutes / each)))
    widths = {}
    for task in job.scenarios:
        scenario, arguments = rally_name(services, job, task)
        series = MeasuredSeries(scenario, arguments, TOTAL, Metric.SECONDS)
        nights = night_logs(services, services.settings.lab, job.name, series)
        if len(nights) >= _LEAST_NIGHTS:
            widths[task.task] = half_width(nights, runs)
    return Forecast(runs, runs * each, widths, len(job.scenarios))


@dataclass(frozen=True, slots=True)
class PairForecast:
    """What so many draws of two clouds side by side can show: relative changes from `smallest` on.

    `minutes` are those of all draws; None where no paired run of the job tells how long one takes.
    """

    draws: int
    minutes: float | None
    smallest: float

    @property
    def text(self) -> str:
        """Say it in one line: `steps from 4 % on in up to 6 draws of two clouds (18 min)`."""
        cost = f" ({math.ceil(self.minutes)}{NBSP}min)" if self.minutes is not None else ""
        size = math.ceil(100 * self.smallest)
        return f"steps from {size}{NBSP}% on in up to {counted(self.draws, 'draw')} of two clouds{cost}"

    def as_dict(self) -> dict[str, object]:
        """Return it for `--json`."""
        return {"draws": self.draws, "minutes": self.minutes, "smallest": self.smallest}


def paired_forecast(services: LabServices, job: Job) -> PairForecast:
    """Return what a comparison in pairs can show within a job's budget."""
    lab = services.settings.lab
    took = [
        (one.finished_at - one.started_at).total_seconds() / 60
        for name in (job.name, named(job, COMPARE))
        for one in services.local.records(lab, name)
        if one.status == FINISHED and one.reference is not None
    ][-RUNS:]
    allowed = budget_of(job)
    draws = allowed.most_draws
    if took:
        draws = max(1, min(draws, int(allowed.most_minutes / max(median(took), 1 / 60))))
    rule = pair_settings_of(job)
    shared = replace(rule, error=rule.error / max(1, len(job.scenarios)))
    usual = DrawEffect(0.0, USUAL_PAIR_ERROR, DRAW_DEVIATION_DF, LEAST_PAIRS, USUAL_PAIR_ERROR)
    minutes = draws * median(took) if took else None
    return PairForecast(draws, minutes, smallest_proven([usual] * draws, shared))
