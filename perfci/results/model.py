"""The words of the results: series, measurements, the record of a run.

Everything here is immutable and plain, so that `analysis`, `alerts` and `report` can read it
without knowing where it was stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

TOTAL = "total"
"""The action name of a whole iteration, beside its atomic actions."""

FINISHED = "finished"
"""The status of a run that came to the end of its load; any other one failed."""


CALIBRATE = "-calibrate"
"""How the name of a job ends that is run to learn how much unchanged code scatters."""
COMPARE = "-compare"
"""How the name of a job ends that is run to compare two codes or two sets of pins."""
BISECT = "-bisect"
"""How the name of a job ends that is run to find the change that made something slower."""
CONFIRM = "-confirm"
"""How the job's name of a re-run ends."""
NOT_JUDGED = (CALIBRATE, COMPARE, BISECT, CONFIRM)
"""How the names of jobs end whose runs are no nights: perfci makes these jobs from others."""


class Purpose(StrEnum):
    """What a run is for."""

    NIGHT = "night"
    """It is a point of its job's series."""
    CONFIRM = "confirm"
    """It was run to confirm another run's verdict, and is a point of nothing."""
    CALIBRATE = "calibrate"
    """It was run to learn how much unchanged code scatters, under a job of its own."""
    COMPARE = "compare"
    """It was run to compare two codes or two sets of pins, under a job of its own."""
    BISECT = "bisect"
    """It was run to find the change that made something slower, under a job of its own."""


class Metric(StrEnum):
    """What a series counts. Lower is better, but where `higher_is_better` says otherwise."""

    SECONDS = "seconds"
    """Seconds of one iteration, or of one atomic action inside it (repeated ones added up)."""
    FAILURE_RATE = "failure_rate"
    """Failed iterations / attempted iterations of a run, 0..1; one value a run."""
    CPU_SECONDS = "cpu_seconds"
    """CPU seconds per iteration of one service (the action), over the whole task; one value a run."""
    SQL_STATEMENTS = "sql_statements"
    """SQL statements per iteration of one service (the action), over the whole task; one value a run."""
    PEAK_RSS_BYTES = "peak_rss_bytes"
    """Largest resident set of one service (the action) during the task; one value a run."""
    LEFTOVERS = "leftovers"
    """Things of a task's tenants (servers, ports, users, ...) that were there after it; one value a run."""
    ROWS_READ = "rows_read"
    """Rows that the database read for one phase (the action), such as a migration; one value a run."""
    ROWS_CHANGED = "rows_changed"
    """Rows that the database inserted, updated or deleted for one phase (the action); one value a run."""
    PAGES_READ = "pages_read"
    """Pages of tables and indexes that the database looked at for one phase (the action); one value a run.

    What MariaDB alters in place is in no count of rows; here it is.
    """
    WARNINGS = "warnings"
    """Different warnings about configuration in the logs of one service (the action); one value a run."""
    MEGABITS_PER_SECOND = "megabits_per_second"
    """What one path (the action) carries, 10**6 bits a second: the iterations' median; one value a run."""
    RATIO = "ratio"
    """Seconds on the code under test / seconds on the reference beside it, pair by pair; no unit.

    Only a run of two clouds side by side has it, for each timing.
    """

    @property
    def higher_is_better(self) -> bool:
        """Whether a fall is what is worse."""
        return self is Metric.MEGABITS_PER_SECOND


COUNTERS = frozenset(Metric) - {
    Metric.SECONDS,
    Metric.FAILURE_RATE,
    Metric.LEFTOVERS,
    Metric.MEGABITS_PER_SECOND,
    Metric.RATIO,
}


@dataclass(frozen=True, slots=True, order=True)
class SeriesKey:
    """The name of one measured quantity through time.

    `scenario` is Rally's name; `arguments` a digest (8 hex digits) of the scenario's arguments,
    runner and contexts, so that a changed scenario is a new series. `action` is `total`, the name of
    an atomic action, or for counters the name of a service.
    """

    lab: str
    job: str
    scenario: str
    arguments: str
    action: str
    metric: Metric

    @property
    def label(self) -> str:
        """A short name for people: `NeutronNetworks.create_and_list_ports · total · seconds`."""
        return f"{self.scenario} · {self.action} · {self.metric}"

    @property
    def slug(self) -> str:
        """A file name: unique, stable, only letters, digits, `.`, `_` and `-`."""
        raw = "--".join((self.lab, self.job, self.scenario, self.arguments, self.action, str(self.metric)))
        return "".join(c if c.isalnum() or c in "._-" else "_" for c in raw)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One series in one run.

    `values` are in the order in which the iterations started; warm-up and failed iterations are not
    among them, so it can be empty. `timestamps` (seconds since the epoch, UTC) are as long as
    `values`. A counter has one value. `attempts` and `failures` count measured iterations only.
    """

    key: SeriesKey
    run_id: str
    values: tuple[float, ...]
    timestamps: tuple[float, ...]
    attempts: int
    failures: int


@dataclass(frozen=True, slots=True)
class ServiceRevision:
    """Which code of one service ran: its version, and where it came from.

    `source` is `wheel` or a git URL; `revision` the full commit for git, else the version.
    `changes` names what was put on top (patches, filters) with a digest of each: `slow.patch@1f2e3d4c`.
    """

    service: str
    version: str
    source: str
    revision: str
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CodeUnderTest:
    """All code under test, with one digest (12 hex digits) over it."""

    digest: str
    services: tuple[ServiceRevision, ...]


@dataclass(frozen=True, slots=True)
class Validity:
    """Whether the lab was fit to measure during the run; `reasons` are sentences for people.

    `level_since` is the run with which the lab's canaries came to their present level, where they have
    changed for good in this environment: series begin again there (`results.validity`).

    `pairs_only`: the run is valid although the lab was not fit, because the pairs of its two sides are
    precise. Only what was measured in pairs counts then; `reasons` say why the rest does not.
    """

    valid: bool
    reasons: tuple[str, ...] = ()
    level_since: str | None = None
    pairs_only: bool = False


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What an index needs to know of one archived run. Times are aware datetimes in UTC.

    `run_id` sorts by time. `environment` is the digest (12 hex digits) over everything that is not
    the code under test. Only a run whose `status` is `finished` has measurements. `confirms` is set on a
    re-run, which is no night of its own: the run whose verdict it is to confirm. `reference` is the digest of
    the code beside the code under test, in a run of two sides.
    """

    run_id: str
    lab: str
    job: str
    cloud: str
    started_at: datetime
    finished_at: datetime
    environment: str
    code: CodeUnderTest
    validity: Validity
    status: str = FINISHED
    confirms: str | None = None
    reference: str | None = None

    @property
    def purpose(self) -> Purpose:
        """What the run is for."""
        # A re-run whose own folder was damaged no longer says of which run; its job does.
        if self.confirms is not None or self.job.endswith(CONFIRM):
            return Purpose.CONFIRM
        if self.job.endswith(COMPARE):
            return Purpose.COMPARE
        if self.job.endswith(BISECT):
            return Purpose.BISECT
        return Purpose.CALIBRATE if self.job.endswith(CALIBRATE) else Purpose.NIGHT


@dataclass(frozen=True, slots=True)
class RunResults:
    """One run with everything that was measured in it.

    `dropped` counts iterations by scenario that were left out because the clock was set back while they ran.
    Only the archive knows it: a store keeps what was measured.
    """

    record: RunRecord
    measurements: tuple[Measurement, ...] = field(default=())
    dropped: tuple[tuple[str, int], ...] = field(default=(), compare=False)
