"""From what a run measured to one number: its location, of one series or of many at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from perfci.analysis.change_shape import shape_of, shapes_of, tail_location, tail_locations
from perfci.analysis.evidence import RunValue
from perfci.analysis.robust import median, run_location, run_locations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfci.analysis.level_rule import LevelRule
    from perfci.analysis.noise import Array
    from perfci.analysis.types import RunPoint


def run_value(rule: LevelRule, point: RunPoint) -> RunValue | None:
    """Return a run's location, or None where nothing usable was measured."""
    usable = [max(v, rule.unit) for v in point.values if v >= 0]
    if rule.tail:
        tail = tail_location(usable)
        return None if tail is None else RunValue(point.run_id, tail, 0.0, shape_of(usable), point.code)
    location = run_location(usable)
    if location is None:
        return None
    seen = [v for v in point.values if 0 <= v < math.inf]
    measured = median(seen) if min(seen) < rule.unit else None
    return RunValue(point.run_id, location.log, location.error, shape_of(usable), point.code, measured)


def run_values(rule: LevelRule, points: Sequence[RunPoint]) -> list[RunValue | None]:
    """Return the `run_value` of each point, computed together where points have equally many values."""
    found: list[RunValue | None] = [None] * len(points)
    alike: dict[int, list[int]] = {}
    for place, point in enumerate(points):
        alike.setdefault(len(point.values), []).append(place)
    for number, places in alike.items():
        if not number:
            continue
        values = np.array([points[place].values for place in places], dtype=np.float64)
        used = np.maximum(values, rule.unit)
        # What has to be left out makes rows of several lengths: those one by one.
        whole = (np.isfinite(values) & (values >= 0) & (used > 0)).all(axis=1)
        rows = np.flatnonzero(whole).tolist()
        located = _located(rule, [points[places[row]] for row in rows], used[rows])
        for row, value in zip(rows, located, strict=True):
            found[places[row]] = value
        for row in np.flatnonzero(~whole).tolist():
            found[places[row]] = run_value(rule, points[places[row]])
    return found


def _located(rule: LevelRule, points: Sequence[RunPoint], values: Array) -> list[RunValue | None]:
    """Return the locations of rows of positive values."""
    logs = np.sort(np.log(values), axis=1)
    shapes = shapes_of(logs)
    if rule.tail:
        tails = tail_locations(logs)
        return [
            None if tails is None else RunValue(point.run_id, tails[row], 0.0, shapes[row], point.code)
            for row, point in enumerate(points)
        ]
    locations, errors = run_locations(logs)
    return [
        RunValue(
            point.run_id,
            log,
            error,
            shape,
            point.code,
            median(point.values) if rule.unit > 0 and min(point.values) < rule.unit else None,
        )
        for point, log, error, shape in zip(points, locations, errors, shapes, strict=True)
    ]
