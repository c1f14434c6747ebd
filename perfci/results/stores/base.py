"""What a store is: an index of archived runs that can be asked for the history of a series.

There are three: `MemoryStore`, `LocalStore` (SQLite under the state folder) and `InfluxStore`. All
give back exactly what was written, and writing a run again changes nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from perfci.results.model import Measurement, RunRecord, RunResults

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfci.results.model import SeriesKey


@dataclass(frozen=True, slots=True)
class History:
    """One series through the runs that measured it, oldest first."""

    key: SeriesKey
    points: tuple[tuple[RunRecord, Measurement], ...]


class Store(ABC):
    """An index of runs. Runs are in the order of their ids, which is that of time.

    `until` names the last run that counts; `limit` says how many runs of the job, back from there, are
    looked at. Methods raise errors of perfci.results.errors: UnknownRun, and what the store's own ones are.
    """

    @property
    @abstractmethod
    def identity(self) -> str:
        """Which store this is, for messages and for the ledger of deliveries; without secrets."""

    @abstractmethod
    def write(self, results: RunResults) -> None:
        """Keep a run, whole or not at all as far as readers can see. Raises ValueError, see `checked`."""

    @abstractmethod
    def record(self, run_id: str) -> RunRecord:
        """Return the record of one run; raises UnknownRun."""

    @abstractmethod
    def records(
        self, lab: str, job: str, *, limit: int | None = None, until: str | None = None
    ) -> tuple[RunRecord, ...]:
        """Return the runs of a job, oldest first."""

    @abstractmethod
    def series(self, lab: str, job: str) -> tuple[SeriesKey, ...]:
        """Return all series of a job that any run measured, sorted."""

    @abstractmethod
    def measurements(
        self, records: Sequence[RunRecord], key: SeriesKey | None = None
    ) -> tuple[Measurement, ...]:
        """Return what runs of one job measured, of all series or of one; sorted by series, then by run."""

    def run_ids(self, lab: str, job: str) -> tuple[str, ...]:
        """Return the ids of a job's runs, oldest first."""
        return tuple(record.run_id for record in self.records(lab, job))

    def results(self, run_id: str) -> RunResults:
        """Return one run with all its measurements, sorted by series; raises UnknownRun."""
        record = self.record(run_id)
        return RunResults(record, self.measurements([record]))

    def history(self, key: SeriesKey, *, until: str | None = None, limit: int | None = None) -> History:
        """Return one series through the last `limit` runs of its job up to `until`."""
        records = self.records(key.lab, key.job, limit=limit, until=until)
        return _history(key, records, self.measurements(records, key))

    def histories(self, run_id: str, limit: int | None = None) -> tuple[History, ...]:
        """Return every series that a run measured, through the last `limit` runs up to this one.

        The last point of each is the run itself. Raises UnknownRun.
        """
        record = self.record(run_id)
        records = self.records(record.lab, record.job, limit=limit, until=run_id)
        by_key: dict[SeriesKey, list[Measurement]] = defaultdict(list)
        for measurement in self.measurements(records):
            by_key[measurement.key].append(measurement)
        return tuple(
            _history(key, records, found) for key, found in by_key.items() if found[-1].run_id == run_id
        )


def checked(results: RunResults) -> RunResults:
    """Return results with their measurements sorted by series.

    Raises ValueError where a measurement is another run's or job's, a series is there twice, or values
    and timestamps do not belong together.
    """
    record = results.record
    found = sorted(results.measurements, key=lambda measurement: measurement.key)
    if len({measurement.key for measurement in found}) < len(found):
        msg = f"{record.run_id}: a series was measured twice"
        raise ValueError(msg)
    for m in found:
        if (m.run_id, m.key.lab, m.key.job) != (record.run_id, record.lab, record.job):
            msg = f"{record.run_id}: {m.key.label} belongs to run {m.run_id} of {m.key.lab}/{m.key.job}"
            raise ValueError(msg)
        if len(m.values) != len(m.timestamps):
            msg = f"{record.run_id}: {m.key.label} has {len(m.values)} values, {len(m.timestamps)} timestamps"
            raise ValueError(msg)
    return replace(results, measurements=tuple(found))


def last(records: Sequence[RunRecord], limit: int | None, until: str | None) -> tuple[RunRecord, ...]:
    """Return the last `limit` of some runs up to `until`, in order."""
    found = sorted((r for r in records if until is None or r.run_id <= until), key=lambda r: r.run_id)
    return tuple(found if limit is None else found[max(0, len(found) - limit) :])


def _history(key: SeriesKey, records: Sequence[RunRecord], found: Sequence[Measurement]) -> History:
    by_id = {record.run_id: record for record in records}
    return History(key, tuple((by_id[measurement.run_id], measurement) for measurement in found))
