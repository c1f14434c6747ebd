"""What differs between the metrics that have a level: floors, units, and how few runs may prove a change."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from perfci.results.model import Metric

if TYPE_CHECKING:
    from perfci.analysis.settings import AnalysisSettings


@dataclass(frozen=True, slots=True)
class LevelRule:
    """What differs between timings and the counters.

    `floor` is the smallest relative change worth a report. Values below `unit` (in the metric's
    unit) count as `unit`, so that 0 statements against 1 is not an infinite change, and changes of less
    are not reported. `scale_floor` is
    the smallest run-to-run deviation that is believed. `may_be_steady`: one run proves if the series
    is nearly deterministic. `higher_is_better`: what is worse is a fall.
    """

    floor: float
    unit: float
    scale_floor: float
    may_be_steady: bool
    tail: bool = False
    least_runs: int = 2
    follows_lab: bool = True
    higher_is_better: bool = False

    def is_worse(self, difference: float) -> bool:
        """Say whether a difference to the baseline is one for the worse."""
        return (difference > 0) != self.higher_is_better


def rule_of(metric: Metric, settings: AnalysisSettings) -> LevelRule:
    """Return the rule of a metric that has a level (every one but the failure rate)."""
    count = LevelRule(settings.sql_floor, 1.0, 0.002, may_be_steady=True, follows_lab=False)
    rules = {
        Metric.SECONDS: LevelRule(settings.latency_floor, 0.0, 0.002, may_be_steady=False),
        # What the lab does to both sides is in no ratio.
        Metric.RATIO: LevelRule(
            settings.latency_floor, 0.0, 0.002, may_be_steady=False, least_runs=1, follows_lab=False
        ),
        Metric.SQL_STATEMENTS: count,
        # The counters ask the database too, and it looks after its pages by itself.
        Metric.ROWS_READ: replace(count, unit=100.0),
        Metric.ROWS_CHANGED: replace(count, unit=10.0),
        Metric.PAGES_READ: replace(count, unit=1000.0),
        Metric.WARNINGS: count,
        Metric.CPU_SECONDS: LevelRule(settings.cpu_floor, 0.001, 0.005, may_be_steady=True),
        Metric.PEAK_RSS_BYTES: LevelRule(
            settings.memory_floor, 2.0**20, 0.005, may_be_steady=True, follows_lab=False
        ),
        Metric.LEFTOVERS: LevelRule(settings.sql_floor, 1.0, 0.002, may_be_steady=True, follows_lab=False),
        Metric.MEGABITS_PER_SECOND: LevelRule(
            settings.latency_floor, 0.0, 0.002, may_be_steady=False, higher_is_better=True
        ),
    }
    return rules[metric]


def tail_rule(settings: AnalysisSettings) -> LevelRule:
    """Return the rule of the tail of a timing, which is noisier than the middle."""
    return LevelRule(settings.tail_floor, 0.0, 0.005, may_be_steady=False, tail=True, least_runs=3)


CANARY_RULE = LevelRule(floor=0.01, unit=0.0, scale_floor=0.002, may_be_steady=False)
