"""What goes into the analysis and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

# Needed at run time: judgements are read back from JSON by their types.
from perfci.results.model import SeriesKey  # noqa: TC001


class Outcome(StrEnum):
    """The answer for one series in one run."""

    REGRESSION = "regression"
    IMPROVEMENT = "improvement"
    NO_CHANGE = "no change"
    TOO_NOISY = "too noisy to tell"
    INVALID = "invalid (lab)"
    NO_BASELINE = "no baseline"
    NO_DATA = "no data"


class ChangeKind(StrEnum):
    """How a change looks like in the distribution of the iterations."""

    SHIFT = "all requests"
    TAIL = "only the tail"
    MODE = "a second mode"
    FAILURES = "failure rate"
    COUNTER = "counter"


@dataclass(frozen=True, slots=True)
class RunPoint:
    """One series in one run, as the analysis sees it. Points of a series are given in time order.

    `values` (unit of the metric) holds the iterations of the run: warm-up and failed ones are not
    in it. `environment` and `code` are digests. `valid` is False where the lab was not fit to measure.
    """

    run_id: str
    environment: str
    code: str
    values: tuple[float, ...]
    attempts: int
    failures: int
    valid: bool


@dataclass(frozen=True, slots=True)
class SeriesHistory:
    """All runs of one series, oldest first; the last one is the run to be judged."""

    key: SeriesKey
    points: tuple[RunPoint, ...]


@dataclass(frozen=True, slots=True)
class Judgement:
    """The answer for one series in one run, with the evidence.

    `effect` and its confidence interval `low`..`high` are relative to the baseline: +0.05 is 5 %
    slower. `mde` is the smallest relative change that this series could show tonight. `p_value` is
    for "nothing changed", `q_value` the same after correction for the night's other series. `since`
    is the first run of the change. `baseline` names the runs compared with. `location` and
    `baseline_location` are in the unit of the metric. What does not apply is None. Effects of a failure
    rate are differences in points of the rate, because a baseline without failures has no ratio.
    `suspect` says that the latest run alone stands out, which proves nothing yet but is worth a re-run.
    """

    key: SeriesKey
    run_id: str
    outcome: Outcome
    reason: str
    baseline: tuple[str, ...] = ()
    location: float | None = None
    baseline_location: float | None = None
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    mde: float | None = None
    p_value: float | None = None
    q_value: float | None = None
    since: str | None = None
    kind: ChangeKind | None = None
    suspect: bool = False
