"""A store that lasts as long as the process: for trying things out, and for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfci.results.errors import UnknownRun
from perfci.results.stores.base import Store, checked, last

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfci.results.model import Measurement, RunRecord, RunResults, SeriesKey


class MemoryStore(Store):
    """Keeps runs in a dictionary."""

    def __init__(self) -> None:
        self._runs: dict[str, RunResults] = {}

    @property
    def identity(self) -> str:
        """The name of the kind; each object is a store of its own."""
        return "memory"

    def write(self, results: RunResults) -> None:
        """Keep a run in the place of an earlier one with its id."""
        self._runs[results.record.run_id] = checked(results)

    def record(self, run_id: str) -> RunRecord:
        """See Store."""
        try:
            return self._runs[run_id].record
        except KeyError:
            raise UnknownRun(store=self.identity, run_id=run_id) from None

    def records(
        self, lab: str, job: str, *, limit: int | None = None, until: str | None = None
    ) -> tuple[RunRecord, ...]:
        """See Store."""
        mine = [r.record for r in self._runs.values() if (r.record.lab, r.record.job) == (lab, job)]
        return last(mine, limit, until)

    def series(self, lab: str, job: str) -> tuple[SeriesKey, ...]:
        """See Store."""
        return tuple(sorted({m.key for m in self.measurements(self.records(lab, job))}))

    def measurements(
        self, records: Sequence[RunRecord], key: SeriesKey | None = None
    ) -> tuple[Measurement, ...]:
        """See Store."""
        found = (m for r in records for m in self._runs[r.run_id].measurements if key in (None, m.key))
        return tuple(sorted(found, key=lambda m: (m.key, m.run_id)))
