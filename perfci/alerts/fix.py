"""Which run ended a regression, and with which code. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from perfci.alerts.attribution import revision_changes
from perfci.results.model import Metric

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perfci.alerts.model import Alert, RevisionChange
    from perfci.analysis.types import RunPoint, SeriesHistory
    from perfci.results.model import RunRecord


@dataclass(frozen=True, slots=True)
class Fix:
    """The first run back at the old level, the last one before it, and the code that differs between them.

    `code_known` is False where the revisions of one of the two are not known.
    """

    run_id: str
    last_bad: str
    changes: tuple[RevisionChange, ...]
    code_known: bool


def found_fix(
    alert: Alert, histories: Sequence[SeriesHistory], records: Mapping[str, RunRecord]
) -> Fix | None:
    """Return what ended an alert; None where its history does not show it.

    An alert closes only after some quiet nights. The fix is where those began: its headline's series has been
    nearer to the baseline than to the level of the regression ever since, in every run that was valid.
    """
    moved = alert.headline
    before, after = moved.baseline_location, moved.after
    history = next((one for one in histories if one.key == moved.key), None)
    if history is None or before is None or after is None or alert.closed is None:
        return None
    first: str | None = None
    for point in reversed(history.points):
        value = _value(point, moved.key.metric)
        if value is None or not point.valid or point.run_id > alert.closed:
            continue
        if point.run_id < alert.since:
            return None
        if abs(value - before) < abs(value - after):
            first = point.run_id
        elif first is None:
            return None
        else:
            old, new = records.get(point.run_id), records.get(first)
            known = old is not None and new is not None
            changes = revision_changes(old, new) if old is not None and new is not None else ()
            return Fix(first, point.run_id, changes, known)
    return None


def _value(point: RunPoint, metric: Metric) -> float | None:
    if metric is Metric.FAILURE_RATE:
        return point.failures / point.attempts if point.attempts else None
    return median(point.values) if point.values else None
