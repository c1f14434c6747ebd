"""What a lab's series can show, from runs of unchanged code: MDE by number of nights, and the noise budget.

The runs are those of `perfci calibrate`, or the stretch of a history since its last change point. The MDE is
that of the nightly verdict: the decision limit of one change among all series of the night, so nothing
smaller is ever reported. One night alone proves nothing for a timing; its MDE says from where on a series is
worth a re-run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from perfci.analysis.changepoints import change_points
from perfci.analysis.evidence import (
    LARGEST,
    RunValue,
    baseline_scale,
    limit,
    relative,
    shift_error,
)
from perfci.analysis.failures import RateReach
from perfci.analysis.false_discovery import threshold
from perfci.analysis.level_rule import rule_of, tail_rule
from perfci.analysis.level_track import LevelTrack
from perfci.analysis.robust import level_and_scale
from perfci.analysis.variance import VariancePrior, fit_prior, variance_levels

# Needed at run time: calibrations are read back from JSON by their types.
from perfci.results.model import Metric, SeriesKey

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perfci.analysis.settings import AnalysisSettings
    from perfci.analysis.types import RunPoint, SeriesHistory

NIGHTS = (1, 2, 3, 5, 8)
LEAST_RUNS = 3
"""Fewer runs have no deviation to speak of."""


@dataclass(frozen=True, slots=True)
class NoiseBudget:
    """Variances of logarithms: where the differences between runs come from.

    `iterations`: what the few iterations of a run leave open. `run`: from run to run on one deployment.
    `deployment`: from deployment to deployment. Where no deployment was run twice, `run` is None and
    `deployment` holds both.
    """

    iterations: float
    run: float | None
    deployment: float

    @property
    def total(self) -> float:
        """The variance of one run on a deployment of its own."""
        return self.iterations + (self.run or 0.0) + self.deployment


@dataclass(frozen=True, slots=True)
class SeriesCalibration:
    """What one series can show.

    `location` (unit of the metric) is the level of its `runs` unchanged runs (below the metric's smallest
    unit, as measured), `scale` the run-to-run deviation (relative) that the verdict uses. `mde` has the
    smallest relative change by number of nights; of a failure rate, in points, by one run.
    """

    key: SeriesKey
    runs: int
    location: float
    scale: float
    mde: dict[int, float]
    budget: NoiseBudget | None


def calibrate(
    histories: Sequence[SeriesHistory],
    settings: AnalysisSettings,
    deployments: Mapping[str, str] | None = None,
) -> tuple[SeriesCalibration, ...]:
    """Return what every series can show that has at least three unchanged valid runs, sorted by series.

    Only runs in the environment of the series' last valid run count. `deployments` names, per run id, the
    deployment on which it ran; without it every run had its own.
    """
    unchanged = {history.key: _unchanged(history, settings) for history in histories}
    usable = {key: runs for key, runs in unchanged.items() if len(runs) >= LEAST_RUNS}
    levels = {key: _values(key, runs, settings) for key, runs in usable.items()}
    levels = {key: values for key, values in levels.items() if len(values) >= LEAST_RUNS}
    rates = {key: runs for key, runs in usable.items() if key.metric is Metric.FAILURE_RATE}
    tails = sum(key.metric is Metric.SECONDS and _has_tail(usable[key][-1], settings) for key in levels)
    tests = len(levels) + tails + len(rates)
    p_value = min(
        settings.largest_p,
        threshold(settings.false_discovery_rate, found=1, tests=tests, before=0, nights=settings.memory),
    )
    priors = _priors(levels, settings)
    found = [_level(key, runs, settings, priors[key.metric], p_value) for key, runs in levels.items()]
    found = [_as_measured(one, usable[one.key], settings) for one in found]
    found = [_with_budget(one, levels[one.key], deployments or {}) for one in found]
    found += [_rate(key, runs, settings, p_value) for key, runs in rates.items()]
    return tuple(sorted(found, key=lambda one: one.key))


def _unchanged(history: SeriesHistory, settings: AnalysisSettings) -> list[RunPoint]:
    """Return the valid runs since the last change point, in the environment of the last of them."""
    valid = [point for point in history.points if point.valid]
    same = [point for point in valid if point.environment == valid[-1].environment]
    if history.key.metric is Metric.FAILURE_RATE:
        return [point for point in same if point.attempts > 0][-settings.longest_baseline :]
    track = LevelTrack(rule_of(history.key.metric, settings), settings)
    with_value = [point for point in same if track.value_of(point) is not None]
    logs = [run.log for run in _values(history.key, with_value, settings)]
    values = [math.exp(min(max(log - logs[0], -LARGEST), LARGEST)) for log in logs]
    changes = change_points(values, wander=settings.wander)
    start = changes[-1].index if changes else 0
    return with_value[start:][-settings.longest_baseline :]


def _values(key: SeriesKey, runs: Sequence[RunPoint], settings: AnalysisSettings) -> list[RunValue]:
    if key.metric is Metric.FAILURE_RATE:
        return []
    track = LevelTrack(rule_of(key.metric, settings), settings)
    return [value for run in runs if (value := track.value_of(run)) is not None]


def _has_tail(run: RunPoint, settings: AnalysisSettings) -> bool:
    return LevelTrack(tail_rule(settings), settings).value_of(run) is not None


def _priors(
    levels: Mapping[SeriesKey, Sequence[RunValue]], settings: AnalysisSettings
) -> dict[Metric, VariancePrior]:
    """Learn, as the verdict does, how much runs of a metric's series differ."""
    priors = {}
    for metric in {key.metric for key in levels}:
        floor = rule_of(metric, settings).scale_floor
        alike = [runs for key, runs in levels.items() if key.metric is metric]
        spreads = [baseline_scale(runs, floor) for runs in alike]
        variances = np.array([spread.scale**2 for spread in spreads])
        priors[metric] = fit_prior(variances, np.array([spread.df for spread in spreads]))
    return priors


def _level(
    key: SeriesKey,
    runs: Sequence[RunValue],
    settings: AnalysisSettings,
    prior: VariancePrior,
    p_value: float,
) -> SeriesCalibration:
    rule = rule_of(key.metric, settings)
    level, own, known = baseline_scale(runs, rule.scale_floor)
    variance, df = prior.moderate(own**2, known)
    scale = math.sqrt(variance)
    steady = rule.may_be_steady and own <= settings.steady_scale
    tests = len(settings.windows) + steady
    floor = max(rule.floor, rule.unit / math.exp(level))

    def smallest(nights: int) -> float:
        error = shift_error(scale, settings.wander, nights, len(runs))
        return max(relative(limit(df, error, p_value / tests)), floor)

    # After three nights the last two may speak as well, of which the mean is nearly as good.
    mde = {nights: min(smallest(n) for n in NIGHTS if n <= nights) for nights in NIGHTS}
    return SeriesCalibration(key, len(runs), math.exp(level), scale, mde, None)


def _as_measured(
    one: SeriesCalibration, runs: Sequence[RunPoint], settings: AnalysisSettings
) -> SeriesCalibration:
    """Undo what the rule made of a level below its unit: nothing left behind is 0, not 1."""
    measured = float(np.median([np.median(run.values) for run in runs if run.values]))
    below = measured < rule_of(one.key.metric, settings).unit
    return replace(one, location=measured) if below else one


def _with_budget(
    one: SeriesCalibration, runs: Sequence[RunValue], deployments: Mapping[str, str]
) -> SeriesCalibration:
    """Split the differences between runs into their levels."""
    groups: dict[str, list[tuple[float, float]]] = {}
    for run in runs:
        name = deployments.get(run.run_id, run.run_id)
        groups.setdefault(name, []).append((run.log, run.error))
    if len(groups) > 1 and len(groups) < len(runs):
        found = variance_levels(list(groups.values()))
        budget = NoiseBudget(found.within, found.run, found.deployment)
    else:
        within = float(np.mean([run.error**2 for run in runs]))
        _, own = level_and_scale([run.log for run in runs])
        budget = NoiseBudget(within, None, max(own**2 - within, 0.0))
    return replace(one, budget=budget)


def _rate(
    key: SeriesKey, runs: Sequence[RunPoint], settings: AnalysisSettings, p_value: float
) -> SeriesCalibration:
    before = (sum(run.failures for run in runs), sum(run.attempts for run in runs))
    rate = before[0] / before[1]
    attempts = runs[-1].attempts
    scale = math.sqrt(rate * (1 - rate) / attempts)
    mde = {1: RateReach(attempts, before, settings.failure_floor).at(p_value)}
    return SeriesCalibration(key, len(runs), rate, scale, mde, None)
