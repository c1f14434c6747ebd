"""Series whose noise grows: which measurements rot, before they are too noisy to show anything.

The run-to-run deviation is taken from the absolute differences of neighbouring runs, of which a step of the
level spoils one. The mean of the latest differences is held against that of those before:

    log ratio +- t * sqrt(c (v1 / (n1 m1^2) + v2 / (n2 m2^2)))

with means m, variances v and numbers n of the differences. c = 1.45 as neighbouring differences share a run:
for independent normal runs the absolute values of neighbouring differences have a correlation of 0.224
(Nabeya 1951, absolute moments of the bivariate normal). A single outlier night makes two large
differences, so it widens the interval more than it moves the ratio.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from perfci.analysis.false_discovery import q_values
from perfci.analysis.level_rule import rule_of
from perfci.results.model import Metric, SeriesKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from perfci.analysis.noise import Array
    from perfci.analysis.settings import AnalysisSettings

RECENT, PAST, LEAST_PAST = 14, 60, 20
"""Runs: two weeks, held against at most two months before, at least 20."""
SHARED = 1.45
WORTH_TELLING = 1.25
"""A series whose noise has certainly grown by less is not worth anybody's time."""
NORMAL_MEAN = 2 / math.sqrt(math.pi)
"""Mean absolute difference of two runs of a normal distribution, in deviations."""


@dataclass(frozen=True, slots=True)
class Growth:
    """The noise of one series, then and now: run-to-run deviations (relative), and the ratio of the two.

    `low`..`high` is the 95 % interval of the ratio, `q_value` that of "it did not grow", over all series.
    `since` is the first of the latest runs.
    """

    key: SeriesKey
    past: float
    recent: float
    ratio: float
    low: float
    high: float
    q_value: float
    since: str


@dataclass(frozen=True, eq=False)
class NoiseTrack:
    """One series in its last valid run's environment: `logs` of the locations of `run_ids`, oldest first."""

    key: SeriesKey
    run_ids: Sequence[str]
    logs: Array


def noise_growth(tracks: Iterable[NoiseTrack], settings: AnalysisSettings) -> tuple[Growth, ...]:
    """Return the series whose noise has credibly grown against their own past, the worst first.

    Credibly: the 95 % interval of the ratio lies above 1.25, and the false discovery rate over all series is
    at most that of the settings.
    """
    floors: dict[Metric, float] = {
        metric: rule_of(metric, settings).scale_floor
        for metric in Metric
        if metric is not Metric.FAILURE_RATE
    }
    compared = [found for track in tracks if (found := _compared(track, floors, settings)) is not None]
    if not compared:
        return ()
    adjusted = q_values(np.array([p for _, p in compared]))
    grown = [
        Growth(one.key, one.past, one.recent, one.ratio, one.low, one.high, float(q), one.since)
        for (one, _), q in zip(compared, adjusted, strict=True)
    ]
    rate = settings.false_discovery_rate
    credible = [one for one in grown if one.low > WORTH_TELLING and one.q_value <= rate]
    return tuple(sorted(credible, key=lambda one: (-one.ratio, one.key)))


def _compared(
    track: NoiseTrack, floors: Mapping[Metric, float], settings: AnalysisSettings
) -> tuple[Growth, float] | None:
    """Return a series' noise then and now with its p-value; None where it has too few runs."""
    logs = track.logs[-(RECENT + PAST) :]
    if track.key.metric not in floors or len(logs) < RECENT + LEAST_PAST:
        return None
    away = np.maximum(np.abs(np.diff(logs)), floors[track.key.metric])
    past, recent = away[:-RECENT], away[-RECENT:]
    ratio = float(recent.mean() / past.mean())
    error = math.sqrt(SHARED * (_relative_variance(past) + _relative_variance(recent)))
    if error == 0:  # all differences are at the floor
        return None
    df = RECENT - 1.0
    half = float(special.stdtrit(df, 0.5 + settings.confidence / 2)) * error
    p_value = float(special.stdtr(df, -math.log(ratio) / error))
    found = Growth(
        key=track.key,
        past=float(past.mean()) / NORMAL_MEAN,
        recent=float(recent.mean()) / NORMAL_MEAN,
        ratio=ratio,
        low=ratio * math.exp(-half),
        high=ratio * math.exp(half),
        q_value=1.0,
        since=track.run_ids[-RECENT],
    )
    return found, p_value


def _relative_variance(values: Array) -> float:
    """Return the variance of a mean relative to its square."""
    return float(values.var(ddof=1) / (values.size * values.mean() ** 2))
