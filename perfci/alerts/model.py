"""The words of the alerts: what an alert is, and what is told to whom."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

# These four are needed at run time: the state file is checked against the types below.
from perfci.analysis.types import ChangeKind, Confirmation  # noqa: TC001
from perfci.results.model import Metric, SeriesKey, ServiceRevision

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perfci.analysis.noise_trend import Growth
    from perfci.analysis.types import Judgement
    from perfci.errors import FailureClass
    from perfci.results.model import RunRecord


class SeriesStatus(StrEnum):
    """Where an alert stands."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    CLOSED = "closed"


class Closing(StrEnum):
    """Why an alert was closed."""

    FIXED = "fixed"
    """Its series were back at their baseline for long enough."""
    ACCEPTED = "accepted"
    """A person said that this is the new normal."""
    KNOWN = "known"
    """The job names it as a known exception, with its bug."""


class Audience(StrEnum):
    """Who gets the mail."""

    JOB = "job"
    """The people whom the job names."""
    ADMINS = "admins"
    """The people who look after the lab."""


class NotificationKind(StrEnum):
    """What a notification is about."""

    REGRESSION = "regression"
    CLOSED = "closed"
    IMPROVEMENT = "improvement"
    RUN_FAILED = "run failed"
    LAB_INVALID = "lab invalid"
    LAB_VALID = "lab valid"
    NOISE = "noise grows"
    BISECT = "bisect"


@dataclass(frozen=True, slots=True)
class MovedSeries:
    """A series of an alert, with the evidence of the run in which it was first seen (`joined`).

    The numbers mean what they mean in `Judgement`.
    """

    key: SeriesKey
    joined: str
    since: str
    effect: float | None
    low: float | None
    high: float | None
    q_value: float | None
    mde: float | None
    baseline_location: float | None
    location: float | None
    kind: ChangeKind | None
    confirmation: Confirmation | None = None
    level: float | None = None

    @property
    def after(self) -> float | None:
        """The level that `effect` leads to; that of the run, where an older version judged it."""
        return self.location if self.level is None else self.level


@dataclass(frozen=True, slots=True)
class RevisionChange:
    """Code of one service that differs between the last good and the first bad run."""

    service: str
    before: ServiceRevision | None
    after: ServiceRevision | None


@dataclass(frozen=True, slots=True)
class Alert:
    """One regression, from first sight to closed: the series that moved together.

    `since` is the first bad run and `last_good` the run before it (None: not known); `opened` is the
    run in which it was found. `service` is the one to blame as far as can be told, `leading` its
    clearest series. `code_known` is False where the revisions of one of the two runs are not known.
    `quiet` counts the nights in a row in which it was back to normal. `looked_into_by` is who acknowledged
    it, as `user@host`; empty where nobody did, or an older version did not note who.
    """

    id: str
    lab: str
    job: str
    service: str
    since: str
    last_good: str | None
    opened: str
    series: tuple[MovedSeries, ...]
    changes: tuple[RevisionChange, ...]
    code_known: bool
    status: SeriesStatus = SeriesStatus.OPEN
    quiet: int = 0
    closed: str | None = None
    closing: Closing | None = None
    looked_into_by: str = ""

    @property
    def leading(self) -> MovedSeries:
        """The series to name first: the clearest effect (its interval's end next to zero)."""
        return min(self.series, key=interest)

    @property
    def headline(self) -> MovedSeries:
        """The series to name to people: the clearest timing, which they feel; without one the leading one."""
        return min(self.series, key=felt_first)


def interest(series: MovedSeries) -> tuple[float, SeriesKey]:
    """Sort key: the change that is largest even in its cautious reading comes first."""
    return (-certain(series), series.key)


def felt_first(series: MovedSeries) -> tuple[bool, tuple[float, SeriesKey]]:
    """Sort key: timings before all else, which is their evidence; within both by `interest`."""
    return (series.key.metric not in {Metric.RATIO, Metric.SECONDS}, interest(series))


def worsening(one: MovedSeries | Judgement) -> tuple[float, float] | None:
    """Return the interval of a change, turned so that more is worse for every metric; None without one."""
    if one.low is None or one.high is None:
        return None
    return (-one.high, -one.low) if one.key.metric.higher_is_better else (one.low, one.high)


def certain(one: MovedSeries | Judgement) -> float:
    """Return by how much a series is certainly worse; without an interval, by how much it seems to be."""
    if found := worsening(one):
        return found[0]
    size = one.effect or 0.0
    return -size if one.key.metric.higher_is_better else size


@dataclass(frozen=True, slots=True)
class AlertState:
    """All alerts, and how far the runs were looked at.

    `processed` is the last run that was looked at for each `lab/job`; `invalid_since` the run in which
    a lab became unfit to measure.
    """

    alerts: tuple[Alert, ...] = ()
    processed: dict[str, str] = field(default_factory=dict)
    invalid_since: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JudgedRun:
    """One run as the alerts see it: its record, its judgements, and the records of earlier runs by id."""

    record: RunRecord
    judgements: tuple[Judgement, ...]
    records: Mapping[str, RunRecord]


@dataclass(frozen=True, slots=True)
class RunFailure:
    """A run that failed: at which stage, whose fault, what it said.

    `error` is the first error; `excerpt` the part of the log (named `source`) that says why; `advice`
    what perfci itself suggests.
    """

    run_id: str
    lab: str
    job: str
    stage: str
    failure_class: FailureClass
    error: str
    source: str = ""
    excerpt: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Notification:
    """Something to tell. `id` is the same whenever it is worked out again.

    Exactly the fields that belong to `kind` are filled: `alert` (regression, closed, bisect), `judgements`
    (improvement), `failure` (run failed), `reasons` (lab invalid), `growing` (noise grows).
    """

    id: str
    kind: NotificationKind
    audience: Audience
    lab: str
    job: str
    run_id: str
    alert: Alert | None = None
    judgements: tuple[Judgement, ...] = ()
    failure: RunFailure | None = None
    reasons: tuple[str, ...] = ()
    growing: tuple[Growth, ...] = ()

    @property
    def by_mail(self) -> bool:
        """Whether a mail is sent; improvements stand in the night's overview only."""
        return self.kind is not NotificationKind.IMPROVEMENT
