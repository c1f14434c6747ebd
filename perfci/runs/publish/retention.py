"""Which runs keep a page: the newest of each job, and those that an alert speaks of."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perfci.alerts.model import Alert
    from perfci.results.model import RunRecord

KEPT_RUNS = 200
"""The newest runs of each job whose pages are kept: more than half a year of nights. All that is older is in
the archive, and `perfci run show`, `perfci results show` and `perfci run compare` show it."""


def kept_runs(
    records: Iterable[RunRecord], alerts: Iterable[Alert], newest: int = KEPT_RUNS
) -> frozenset[str]:
    """Return the ids of the runs that have pages, given the records of all runs in any order."""
    jobs: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one in records:
        jobs[one.lab, one.job].append(one.run_id)
    there = {run_id for runs in jobs.values() for run_id in runs}
    told = {
        run for one in alerts for run in (one.since, one.last_good, one.opened, one.closed) if run is not None
    }
    return frozenset((told & there) | {run_id for runs in jobs.values() for run_id in sorted(runs)[-newest:]})
