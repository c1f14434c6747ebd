"""Change points of whole histories: of the lab's own series, or of numbers in a CSV file (`history_csv`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perfci.analysis.changepoints import change_points, zero_changes
from perfci.analysis.level_rule import rule_of
from perfci.analysis.robust import run_location
from perfci.analysis.settings import AnalysisSettings
from perfci.results.model import Metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from perfci.analysis.changepoints import ChangePoint
    from perfci.analysis.types import SeriesHistory


@dataclass(frozen=True, slots=True)
class Column:
    """One history: a label, a value and its relative standard error per run, oldest first; NaN is missing.

    `segments` names what a run can be compared within (the environment); empty where nothing is known.
    A change of less than `least` (in the unit of `metric`), or of less than the share `floor`, is too small
    to matter: a verdict would not report it either.
    """

    name: str
    labels: tuple[str, ...]
    values: tuple[float, ...]
    errors: tuple[float, ...] = ()
    segments: tuple[str, ...] = ()
    metric: Metric | None = None
    least: float = 0.0
    floor: float = 0.0

    def matters(self, point: ChangePoint) -> bool:
        """Tell whether a change is large enough to be reported."""
        return abs(point.after - point.before) >= self.least and abs(point.effect) >= self.floor


@dataclass(frozen=True, slots=True)
class LevelChange:
    """A change point of a history, with the labels of its runs."""

    series: str
    since: str
    earliest: str
    latest: str
    point: ChangePoint
    environment: bool
    """Whether the environment changed there: then it may not be the code."""
    metric: Metric | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the change for `--json`; `p_value` is for "no change here", corrected for the search.

        A change from zero has no relative size: `effect`, `low` and `high` are None.
        """
        point = self.point
        sized = math.isfinite(point.effect)
        return {
            "series": self.series,
            "since": self.since,
            "earliest": self.earliest,
            "latest": self.latest,
            "index": point.index,
            "before": point.before,
            "after": point.after,
            "effect": point.effect if sized else None,
            "low": point.low if sized else None,
            "high": point.high if sized else None,
            "p_value": point.p_value,
            "confidence": 1 - point.p_value,
            "environment_changed": self.environment,
        }


def find_changes(columns: Iterable[Column], *, full: bool = False) -> Iterator[LevelChange]:
    """Find the change points of histories, in their order: those that matter, or all with `full`."""
    for column in columns:
        moves = (*change_points(column.values, column.errors or None), *zero_changes(column.values))
        for point in sorted(moves, key=lambda move: move.index):
            if not full and not column.matters(point):
                continue
            moved = column.segments[point.earliest - 1 : point.latest + 1]
            yield LevelChange(
                series=column.name,
                since=column.labels[point.index],
                earliest=column.labels[point.earliest],
                latest=column.labels[point.latest],
                point=point,
                environment=len(set(moved)) > 1,
                metric=column.metric,
            )


def column_of(history: SeriesHistory, settings: AnalysisSettings | None = None) -> Column:
    """Return a series through its valid runs that gave a value."""
    metric = history.key.metric
    leveled = metric is not Metric.FAILURE_RATE
    rule = rule_of(metric, settings or AnalysisSettings()) if leveled else None
    found = [
        (point, location)
        for point in history.points
        if point.valid and (location := run_location(point.values)) is not None
    ]
    return Column(
        history.key.label,
        tuple(point.run_id for point, _ in found),
        tuple(math.exp(location.log) for _, location in found),
        tuple(location.error for _, location in found),
        tuple(point.environment for point, _ in found),
        metric,
        rule.unit if rule else 0.0,
        rule.floor if rule else 0.0,
    )
