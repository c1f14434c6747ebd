"""Any two archived runs beside each other: what differs, how far each timing has moved, counters."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from perfci.analysis.quantiles import LEAST
from perfci.report.distribution import QuantileShift, quantile_shifts
from perfci.results.model import Metric
from perfci.runs.studies.run_diff import Moved, moves

if TYPE_CHECKING:
    from perfci.results.model import Measurement, SeriesKey
    from perfci.runs.state.archived_run import ArchivedRun

_MIDDLE = 4
"""Of the nine deciles, the one that is the median."""


@dataclass(frozen=True, slots=True)
class ComparedTiming:
    """A timing that both runs have measured; `shifts` has the deciles, the lowest first."""

    key: SeriesKey
    shifts: tuple[QuantileShift, ...]

    @property
    def middle(self) -> QuantileShift:
        """The shift of the median."""
        return self.shifts[_MIDDLE]


@dataclass(frozen=True, slots=True)
class ComparedCounter:
    """What has one value a run, or too few for a distribution: both medians, in the unit of the metric."""

    key: SeriesKey
    before: float
    after: float

    @property
    def change(self) -> float | None:
        """The relative change, of a failure rate in points; None from zero."""
        if self.key.metric is Metric.FAILURE_RATE:
            return self.after - self.before
        return self.after / self.before - 1 if self.before else None


@dataclass(frozen=True, slots=True)
class TwoRuns:
    """Two runs: what differs between them, timings with certain shifts first, counters that differ."""

    before: str
    after: str
    valid: tuple[bool, bool]
    moved: tuple[Moved, ...]
    timings: tuple[ComparedTiming, ...]
    counters: tuple[ComparedCounter, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return {
            "before": self.before,
            "after": self.after,
            "valid": list(self.valid),
            "differences": [asdict(one) for one in self.moved],
            "timings": [
                {"series": asdict(one.key), "deciles": [asdict(s) for s in one.shifts]}
                for one in self.timings
            ],
            "counters": [{**asdict(one), "change": one.change} for one in self.counters],
        }


def compare_runs(before: ArchivedRun, after: ArchivedRun, wanted: str = "") -> TwoRuns:
    """Compare two runs series by series; `wanted` is a part of the names of those that are compared.

    The runs may be of different jobs or labs: series are the same where scenario, arguments, action and
    metric are. Raises ArchiveError, and ResultFileError where what was measured can't be read.
    """
    old, new = (
        {_place(one.key): one for one in run.results.measurements if one.values} for run in (before, after)
    )
    both = [(old[place], new[place]) for place in sorted(old.keys() & new.keys())]
    both = [pair for pair in both if wanted.lower() in pair[1].key.label.lower()]
    timings = [
        ComparedTiming(b.key, quantile_shifts(a.values, b.values)) for a, b in both if _has_shape(a, b)
    ]
    counters = [
        ComparedCounter(b.key, median(a.values), median(b.values)) for a, b in both if not _has_shape(a, b)
    ]
    return TwoRuns(
        before=before.run_id,
        after=after.run_id,
        valid=(before.record.validity.valid, after.record.validity.valid),
        moved=moves(before.document, after.document),
        timings=tuple(sorted(timings, key=_clearest)),
        counters=tuple(sorted((one for one in counters if one.before != one.after), key=_largest)),
    )


def _place(key: SeriesKey) -> tuple[str, str, str, Metric]:
    return (key.scenario, key.arguments, key.action, key.metric)


def _has_shape(before: Measurement, after: Measurement) -> bool:
    return before.key.metric is Metric.SECONDS and min(len(before.values), len(after.values)) >= LEAST


def _clearest(one: ComparedTiming) -> tuple[bool, float, SeriesKey]:
    return (not one.middle.is_certain, -abs(one.middle.relative or 0.0), one.key)


def _largest(one: ComparedCounter) -> tuple[float, SeriesKey]:
    return (-abs(one.change) if one.change is not None else float("-inf"), one.key)
