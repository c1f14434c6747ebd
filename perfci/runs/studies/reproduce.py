"""Running an archived run again: the same job, the same code, on the lab as it is now."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from perfci.results.archive import read_archive
from perfci.results.model import COUNTERS
from perfci.runs.night.assemble import night
from perfci.runs.state.archived_run import ArchivedRun
from perfci.runs.verdicts.lab_services import ArchivedJobInvalid, read_job
from perfci.runs.verdicts.rerun_jobs import same_job

if TYPE_CHECKING:
    from pathlib import Path

    from perfci.config import Settings
    from perfci.results.model import Metric, RunResults
    from perfci.runs.state.progress import Progress


@dataclass(frozen=True, slots=True)
class Pair:
    """One series in both runs: medians in the unit of the metric, `change` relative to the first."""

    scenario: str
    action: str
    metric: Metric
    before: float
    after: float

    @property
    def change(self) -> float | None:
        """The relative change; None where the first is 0."""
        return self.after / self.before - 1 if self.before else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The archived run and the new one, series by series."""

    run_id: str
    again: str
    same_environment: bool
    pairs: tuple[Pair, ...]
    exit_code: int

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison for `--json`."""
        return {
            "run": self.run_id,
            "again": self.again,
            "same_environment": self.same_environment,
            "series": [
                {
                    "scenario": p.scenario,
                    "action": p.action,
                    "metric": str(p.metric),
                    "then": p.before,
                    "now": p.after,
                    "change": p.change,
                }
                for p in self.pairs
            ],
        }


def reproduce(folder: Path, settings: Settings, *, holder: str, progress: Progress) -> Comparison:
    """Run what an archived run ran, with the very revisions it had, and compare.

    Raises ArchivedJobInvalid, and what a run raises.
    """
    before = read_archive(folder)
    ran = read_job(ArchivedRun(folder))
    if ran is None:
        raise ArchivedJobInvalid(run_id=folder.name, reason="there is none")
    job = same_job(ran, before.record.code.services)
    outcome = night(job, settings, holder=holder, progress=progress).run()
    after = read_archive(outcome.folder)
    return Comparison(
        run_id=before.record.run_id,
        again=after.record.run_id,
        same_environment=before.record.environment == after.record.environment,
        pairs=pairs(before, after),
        exit_code=0 if outcome.failure is None else 1,
    )


def pairs(before: RunResults, after: RunResults) -> tuple[Pair, ...]:
    """Return the series that both runs measured, in the order of their names; counters come last."""

    def values(results: RunResults) -> dict[tuple[str, str, str, Metric], float]:
        return {
            (m.key.scenario, m.key.arguments, m.key.action, m.key.metric): median(m.values)
            for m in results.measurements
            if m.values
        }

    first, second = values(before), values(after)
    both = sorted(first.keys() & second.keys(), key=lambda key: (key[3] in COUNTERS, key))
    return tuple(Pair(key[0], key[2], key[3], first[key], second[key]) for key in both)
