"""What goes into the analysis and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

# Needed at run time: judgements are read back from JSON by their types.
from perfci.analysis.decision import Decision  # noqa: TC001
from perfci.results.model import SeriesKey  # noqa: TC001

if TYPE_CHECKING:
    from collections.abc import Sequence


class Outcome(StrEnum):
    """The answer for one series in one run."""

    REGRESSION = "regression"
    KNOWN = "known regression"
    """A regression that the job names as a known exception, with its bug: seen, and not told."""
    IMPROVEMENT = "improvement"
    NO_CHANGE = "no change"
    TOO_NOISY = "too noisy to tell"
    INVALID = "invalid (lab)"
    NO_BASELINE = "no baseline"
    NO_DATA = "no data"


WORST_FIRST = (
    Outcome.REGRESSION,
    Outcome.KNOWN,
    Outcome.IMPROVEMENT,
    Outcome.TOO_NOISY,
    Outcome.NO_CHANGE,
)
"""What a whole night is called: the first of these that any of its series has. A series that can't show a
change comes before one that shows there was none."""


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
    values: Sequence[float]
    attempts: int
    failures: int
    valid: bool


@dataclass(frozen=True, slots=True)
class SeriesHistory:
    """All runs of one series, oldest first; the last one is the run to be judged."""

    key: SeriesKey
    points: tuple[RunPoint, ...]


class Basis(StrEnum):
    """What a confirmation rests on."""

    RERUNS = "re-runs"
    """Fresh deployments of both revisions."""
    SAME_CODE = "same code"
    """Nothing was run: code and environment are those of the baseline, so the lab has changed."""
    NOTHING = "nothing"
    """No re-runs were possible: the night's own verdict stands."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What re-runs of the last good and of the new revision have shown of one series.

    `asked` is the run that raised the question, whose code is the new side; `since` the first run of the
    suspected change; `good` the run whose code is the old side. `worse` says what was asked: whether the
    series is slower, or whether it is faster; `claimed` whether the night's own rules had called it a
    change, or only found it worth asking. `old` and `new` name the revisions for people. `runs` are
    the ids of the re-runs that counted, in their order; `old_runs` and `new_runs` of them were of each
    side, each a fresh deployment; where both were side by side, `pairs` of their iterations. `effect` with
    its 95 % interval `low`..`high` is new against old, relative. `log_proof` is the natural logarithm of the
    Bayes factor for a change, from the re-runs
    alone. `began` and `ended` are seconds since the epoch. `reason` says how it ended.
    """

    decision: Decision
    basis: Basis
    reason: str
    asked: str
    since: str
    worse: bool = True
    tail: bool = False
    claimed: bool = True
    good: str | None = None
    old: str = ""
    new: str = ""
    runs: tuple[str, ...] = ()
    old_runs: int = 0
    new_runs: int = 0
    pairs: int = 0
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    log_proof: float | None = None
    began: float | None = None
    ended: float | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """The answer for one series in one run, with the evidence.

    `effect` and its confidence interval `low`..`high` are relative to the baseline: +0.05 is 5 %
    slower. `mde` is the smallest relative change that this series could show tonight. `p_value` is
    for "nothing changed", `q_value` the same after correction for the night's other series. `since`
    is the first run of the change. `baseline` names the runs compared with. `location` is what the run
    measured, `level` the level of the latest runs that `effect` describes (those since the change), and
    `baseline_location` that of the baseline, all in the unit of the metric. What does not apply is None.
    Effects of a failure rate are differences in points of the rate, because a baseline without failures
    has no ratio.
    `suspect` says that the latest run alone stands out, which proves nothing yet but is worth a re-run.
    `confirmation` is what re-runs have shown of this change; None where nobody asked.
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
    confirmation: Confirmation | None = None
    level: float | None = None

    @property
    def after(self) -> float | None:
        """The level that `effect` leads to; that of the run, where an older version judged it."""
        return self.location if self.level is None else self.level
