"""Nodes that are not there: re-runs whose results are made up from a recorded Rally report."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import archives
from paired_runs import OLD_CODE, write_sides

from perfci.analysis.sequential_test import Side
from perfci.results.archive import read_record
from perfci.results.model import Validity
from perfci.runs.verdicts.rerun_round import Nodes

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from perfci.runs.jobs.model import Job
    from perfci.runs.jobs.sources import Source


@dataclass
class FakeLab:
    """Archives a re-run wherever a real lab would measure one.

    `factors` says how slow a side is; `spoil` may change what becomes of the n-th re-run (from 1): fields of
    its record. `on_run` is called with its number before it is archived, for signals and kills.
    """

    archive: Path
    night: Path
    factors: dict[Side, float]
    spoil: Callable[[int, Side], dict] = lambda _number, _side: {}
    on_run: Callable[[int, threading.Event], None] = lambda _number, _stop: None
    sides: list[Side] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    until: datetime = datetime.now(UTC) + timedelta(hours=6)

    def nodes(self) -> Nodes:
        return Nodes(self._rerun, self.until, _nobody)

    def _rerun(self, job: Job, stop: threading.Event, _progress: object) -> Path:
        tonight = read_record(self.night / "run.json")
        neutron = job.sources.neutron
        # The made up archives tell revisions by version only.
        old = neutron is None or neutron.version is None
        side = Side.OLD if old else Side.NEW
        self.sides.append(side)
        self.jobs.append(job)
        number = len(self.sides)
        self.on_run(number, stop)
        changed = {
            "run_id": f"{tonight.run_id.partition('-')[0][:-1]}Z-nightly-confirm-{number:04x}",
            "job": job.name,
            "lab": tonight.lab,
            "environment": tonight.environment,
            "code": OLD_CODE if old else tonight.code.digest,
            "changes": () if old else tonight.code.services[0].changes,
            "validity": Validity(valid=True),
            "started_at": tonight.finished_at + timedelta(minutes=2 * number),
            "finished_at": tonight.finished_at + timedelta(minutes=2 * number + 2),
            "confirms": tonight.run_id,
            **self.spoil(number, side),
        }
        return archives.night(self.archive / "reruns", 1000 + number, factor=self.factors[side], **changed)


@dataclass
class FakePairLab(FakeLab):
    """Archives a draw of two sides wherever a real lab would measure one; `factors` are those of either code."""

    def nodes(self) -> Nodes:
        return Nodes(self._draw, self.until, _nobody, lambda _job: True)

    def _draw(self, job: Job, stop: threading.Event, _progress: object) -> Path:
        tonight = read_record(self.night / "run.json")
        assert job.reference is not None
        sides = {
            "new": _is_old(job.sources.neutron),
            "old": _is_old(job.reference.neutron),
        }
        assert len(set(sides.values())) == 2, "each code is on one side"
        number = len(self.jobs) + 1
        self.sides.append(Side.OLD if sides["new"] else Side.NEW)
        self.jobs.append(job)
        self.on_run(number, stop)
        digests = {True: OLD_CODE, False: tonight.code.digest}
        changed = {
            "run_id": f"{tonight.run_id.partition('-')[0][:-1]}Z-nightly-confirm-{number:04x}",
            "job": job.name,
            "lab": tonight.lab,
            "environment": tonight.environment,
            "code": digests[sides["new"]],
            "reference": digests[sides["old"]],
            "changes": () if sides["new"] else tonight.code.services[0].changes,
            "started_at": tonight.finished_at + timedelta(minutes=2 * number),
            "finished_at": tonight.finished_at + timedelta(minutes=2 * number + 2),
            "confirms": tonight.run_id,
            **self.spoil(number, self.sides[-1]),
        }
        folder = archives.night(self.archive / "reruns", 1000 + number, **changed)
        slower = {True: self.factors[Side.OLD], False: self.factors[Side.NEW]}
        if "status" not in changed:
            factor = slower[sides["new"]] / slower[sides["old"]]
            write_sides(folder, factor=factor, both=slower[sides["old"]], seed=1000 + number)
        return folder


def _is_old(neutron: Source | None) -> bool:
    return neutron is None or neutron.version is None


@contextmanager
def _nobody(_stop):
    yield
