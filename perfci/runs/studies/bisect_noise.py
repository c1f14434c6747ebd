"""What is known of a series before it is bisected: its name, its noise, and the size that an alert claims."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from perfci.analysis.pairs import DRAW_DEVIATION, DRAW_DEVIATION_DF, draw_effect
from perfci.analysis.robust import level_and_scale, run_location
from perfci.analysis.variance import VariancePrior
from perfci.results.errors import ResultFileError
from perfci.results.model import CALIBRATE, FINISHED, Metric
from perfci.results.pairs import is_paired
from perfci.runs.state.archive import run_folders
from perfci.runs.studies.job_history import NoPast, past_of
from perfci.runs.verdicts.rerun_round import scenarios_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfci.alerts.model import MovedSeries
    from perfci.analysis.pairs import DrawEffect
    from perfci.results.model import SeriesKey
    from perfci.results.pairs import PairedRun
    from perfci.runs.jobs.model import Job, Scenario
    from perfci.runs.state.archived_run import ArchivedRun
    from perfci.runs.verdicts.lab_services import LabServices

NOISE_RUNS = 20
USUAL_NOISE = VariancePrior(0.03**2, 4.0)
"""What a series scatters from run to run, as far as its own few runs do not tell."""
LEAST_NOISE = 0.005
USUAL_PAIR_ERROR = 0.01
"""The standard error that the pairs of one draw usually have."""
_Z95 = 1.96


@dataclass(frozen=True, slots=True)
class MeasuredSeries:
    """Which series tells; `scenario` and `arguments` are None where only the job's task is known."""

    scenario: str | None
    arguments: str | None
    action: str
    metric: Metric

    def matches(self, key: SeriesKey) -> bool:
        """Tell whether a measurement is of this series, whatever its job."""
        return (
            (key.action, key.metric) == (self.action, self.metric)
            and self.scenario in (None, key.scenario)
            and self.arguments in (None, key.arguments)
        )


def rally_name(services: LabServices, job: Job, task: Scenario) -> tuple[str | None, str | None]:
    """Return what Rally calls a task, and the digest of its arguments, as the latest run of the job tells."""
    for folder in reversed(run_folders(services.state.archive)):
        run = services.archived(folder.name)
        try:
            fits = run.record.job == job.name and run.record.status == FINISHED
            ran = services.job(folder.name) if fits else None
            places = scenarios_of(run) if ran is not None else {}
        except ResultFileError:
            continue
        shapes = [one.shape for one in ran.scenarios] if ran is not None else []
        if task.shape in shapes:
            index = shapes.index(task.shape)
            names = [name for name, indices in places.items() if index in indices]
            return names[0] if len(names) == 1 else (None, None)
    return None, None


def claimed(moved: MovedSeries) -> tuple[float | None, float]:
    """Return the size that an alert claims and its standard error, as logarithms; more is worse."""
    if moved.effect is None or not math.isfinite(moved.effect) or moved.effect <= -1:
        return None, 0.0
    sign = -1 if moved.key.metric.higher_is_better else 1
    if moved.low is None or moved.high is None or moved.low <= -1 or not math.isfinite(moved.high):
        return sign * math.log1p(moved.effect), abs(math.log1p(moved.effect)) / 2
    error = (math.log1p(moved.high) - math.log1p(moved.low)) / (2 * _Z95)
    return sign * math.log1p(moved.effect), error


def night_logs(
    services: LabServices, lab: str, job: str, series: MeasuredSeries, *, before: str | None = None
) -> tuple[float, ...]:
    """Return the logarithms of what the latest nights or calibrations measured, in one environment."""
    best: tuple[float, ...] = ()
    for name in (job, f"{job}{CALIBRATE}") if series.scenario is not None else ():
        try:
            past = past_of(services, lab, name)
        except NoPast:
            continue
        points = [
            one
            for history in past.series
            if series.matches(history.key)
            for one in history.points
            if one.valid and one.values and (before is None or one.run_id < before)
        ]
        located = (run_location(one.values) for one in points if one.environment == points[-1].environment)
        logs = tuple(one.log for one in located if one is not None)[-NOISE_RUNS:]
        best = max(best, logs, key=len)
    return best


def variance_of(nights: Sequence[float], usual: VariancePrior = USUAL_NOISE) -> float:
    """Return the variance of a run's logarithm, of neighbouring nights, so that levels may have moved.

    Few nights are moderated by what series usually scatter.
    """
    differences = [after - before for before, after in pairwise(nights)]
    if not differences:
        return usual.variance
    _, scale = level_and_scale(differences)
    found, _ = usual.moderate(scale**2 / 2, len(differences))
    return max(found, LEAST_NOISE**2)


def draw_variance_of(nights: Sequence[float], error: float) -> float:
    """Return the variance from draw to draw of log(new / old), of nights that were paired themselves.

    `error` is the standard error that the pairs of one draw have. It is in the scatter of nights, too.
    """
    usual = VariancePrior(DRAW_DEVIATION**2 + error**2, DRAW_DEVIATION_DF)
    return max(variance_of(nights, usual) - error**2, DRAW_DEVIATION**2)


def pair_error_of(run: ArchivedRun, series: MeasuredSeries) -> float:
    """Return the standard error of a night's pairs; the usual one where it has none."""
    draw = draw_of(run.paired, series) if is_paired(run.folder) else None
    return draw.error if draw is not None else USUAL_PAIR_ERROR


def draw_of(paired: PairedRun, series: MeasuredSeries) -> DrawEffect | None:
    """Return what the pairs of one run say of a timing; None with too few of them."""
    found = (one for one in paired.series if series.matches(replace(one.key, metric=Metric.RATIO)))
    first = min(found, key=lambda one: one.key, default=None)
    return draw_effect(first.differences) if first is not None else None
