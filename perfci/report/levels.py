"""Where the level of a series changed, looked back at: found now and then, and remembered in between."""

from __future__ import annotations

import math
import zlib
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from perfci.analysis.changepoints import ChangePoint, change_points
from perfci.analysis.level_rule import rule_of
from perfci.analysis.settings import AnalysisSettings
from perfci.report.points import ERROR, LOG
from perfci.results.model import COUNTERS, Metric

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perfci.report.points import SeriesTrend

LEAST_CHANGE = 0.02
"""Smaller changes of level are not drawn."""
LOOKED_BACK = 30
"""A calm series is looked back at every so many runs on average, as that takes longer than all else on its
page."""
Remembered = dict[str, Any]
"""Kept of one series: the last run that was looked `at`, `since` when it moved, `changes` by ids of runs."""


def level_changes(shown: SeriesTrend) -> tuple[ChangePoint, ...]:
    """Return the changes of level in what a picture shows of a series; indices count its measured runs.

    What no verdict would report is left out: changes of less than the unit of a counter, say.
    """
    measured = shown.measured()
    metric = shown.key.metric
    if metric is Metric.FAILURE_RATE:
        return ()
    valid = np.array([shown.runs[place].valid for place in measured.places], dtype=bool)
    values = np.where(valid, np.exp(measured.numbers[:, LOG]), math.nan)
    errors = np.where(valid, np.nan_to_num(measured.numbers[:, ERROR]), 0.0)
    unit = rule_of(metric, AnalysisSettings()).unit
    found = change_points(values.tolist(), errors.tolist(), floor=LEAST_CHANGE)
    return tuple(one for one in found if abs(one.after - one.before) >= unit)


def remembered_changes(
    shown: SeriesTrend, earlier: Remembered | None, since: str | None
) -> tuple[tuple[ChangePoint, ...], Remembered]:
    """Return the changes of level to draw, and what to remember of them for the next night.

    A series is looked back at when tonight's verdict has it move `since` another run than before, and about
    every 30 runs; a calm counter never, of which a page shows no picture until somebody asks.
    """
    measured = shown.measured()
    ids = [shown.runs[place].run_id for place in measured.places]
    if not ids or (shown.key.metric in COUNTERS and since is None):
        return (), {}
    if earlier and earlier["since"] == since and not _due(shown.key.slug, ids, earlier["at"]):
        return tuple(_from_ids(one, ids) for one in earlier["changes"] if _is_in(one, ids)), earlier
    found = level_changes(shown)
    return found, {"at": ids[-1], "since": since, "changes": [_as_ids(one, ids) for one in found]}


def _due(name: str, ids: list[str], at: str) -> bool:
    if at not in ids:
        return True
    passed = len(ids) - 1 - ids.index(at)
    # Not all series in one night: chance deals them out, the same whoever asks.
    chosen = zlib.crc32(f"{name} {ids[-1]}".encode()) % LOOKED_BACK == 0
    return passed >= 2 * LOOKED_BACK or (passed > 0 and chosen)


def _as_ids(one: ChangePoint, ids: list[str]) -> dict[str, Any]:
    return {**asdict(one), **{name: ids[getattr(one, name)] for name in ("index", "earliest", "latest")}}


def _is_in(one: Mapping[str, Any], ids: list[str]) -> bool:
    return {one["index"], one["earliest"], one["latest"]} <= set(ids)


def _from_ids(one: Mapping[str, Any], ids: list[str]) -> ChangePoint:
    found = ChangePoint(**{**one, "index": 0, "earliest": 0, "latest": 0})
    return replace(found, **{name: ids.index(one[name]) for name in ("index", "earliest", "latest")})
