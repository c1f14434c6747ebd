"""A lab for bisects: git repositories made here, nights in the archive, and runs that take no time.

What a run measures follows from the code that it deploys, as git tells: slow are the commits that are named.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import archives
import yaml
from git_repositories import git
from paired_runs import write_sides

from perfci import config
from perfci.alerts.model import Alert, AlertState, MovedSeries, RevisionChange
from perfci.changes.pin_moves import normal
from perfci.results.model import CodeUnderTest, Metric, SeriesKey, ServiceRevision
from perfci.results.record import record_from_dict
from perfci.runs.publish.after_run import Aftermath
from perfci.runs.state.archived_run import ArchivedRun
from perfci.runs.state.digests import digest
from perfci.runs.state.progress import Silent
from perfci.runs.state.run_folder import new_run_id
from perfci.runs.state.stages import Stages
from perfci.runs.studies import bisect_question
from perfci.runs.verdicts.lab_services import LabServices

if TYPE_CHECKING:
    from collections.abc import Callable

    from git_repositories import Landscape

    from perfci.runs.jobs.model import Job

TASK = "neutron-create-and-list-ports"
NIGHTS = 8
SOON = datetime.fromisoformat("2026-12-01T02:15:00+00:00")


class Killed(BaseException):
    """As if the process were gone."""


@dataclass
class BisectLab:
    """Stands where `assemble.night` does. `slow` are factors by commit; `broken` commits do not deploy.

    `kill_at` is the number of the run, from 1, that ends the process; `unfit` are numbers of runs in which the
    lab is not fit to measure.
    """

    land: Landscape
    services: LabServices
    slow: dict[str, float] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    unfit: set[int] = field(default_factory=set)
    kill_at: int = 0
    jobs: list[Job] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    fails: Callable[[Job], bool] | None = None
    """Which code does not deploy, beside that with `broken` commits."""
    machine: Callable[[int], float] = lambda _number: 1.0
    """How slow the machine is in a run, by its number: both sides of a pair feel it."""
    left: dict[int, str] = field(default_factory=dict)
    """Why the cloud beside stopped, by the number of the run."""

    gave_way: list[bool] = field(default_factory=list)
    """Of each run, whether it would have."""

    def __call__(self, job, settings, *, gives_way=False, **_):
        self.gave_way.append(gives_way)
        return SimpleNamespace(run=lambda: self.run(job))

    def run(self, job):
        number = len(self.jobs) + 1
        if number == self.kill_at:
            self.kill_at = 0
            raise Killed
        self.jobs.append(job)
        fails = any(self.has(job, commit) for commit in self.broken) or (self.fails and self.fails(job))
        folder = archived(
            self.services,
            job,
            SOON + timedelta(minutes=number),
            self.factor(job) * self.machine(number),
            status="failed" if fails else "finished",
            fit=number not in self.unfit,
            facts=self.facts,
            beside=self.factor(job.beside()) * self.machine(number) if job.reference is not None else None,
            left=self.left.get(number),
        )
        return Aftermath(self.services).of(ArchivedRun(folder), Stages(Silent()))

    def factor(self, job):
        found = 1.0
        for commit, factor in self.slow.items():
            if self.has(job, commit):
                found *= factor
        return found

    def has(self, job, commit):
        """Tell whether a job deploys a commit, and has not taken it back by a patch."""
        for name, repo in self.land.repos.items():
            if commit not in git(repo.folder, "rev-list", "--all").split():
                continue
            source = getattr(job.sources, name, None)
            if source is None:
                return self._has_library(job, name, repo, commit)
            if source.patches or source.git is None:
                return False
            return commit in git(repo.folder, "rev-list", source.ref).split()
        return False

    def _has_library(self, job, name, repo, commit):
        variables, name = job.cloud.variables, normal(name)
        for one in variables.get("openstack_code_requirements", ()):
            if one.startswith(f"{name} @ git+"):
                return commit in git(repo.folder, "rev-list", one.rpartition("@")[2]).split()
        if "openstack_code_constraints" not in variables:
            return False
        text = Path(variables["openstack_code_constraints"]).read_text()
        pinned = [line.partition("==")[2] for line in text.splitlines() if line.startswith(f"{name}==")]
        return bool(pinned) and commit in git(repo.folder, "rev-list", pinned[0]).split()


def archived(
    services,
    job,
    at,
    factor,
    *,
    status="finished",
    fit=True,
    facts=None,
    step=None,
    lab="embedded",
    confirms=None,
    beside=None,
    left=None,
):
    """Archive a run of a job; return its folder.

    `beside` is the factor of its reference, `left` why that stopped.
    """
    code = [
        ServiceRevision(
            name, "29.0.1", one.git, one.ref, tuple(path.rpartition("/")[2] for path in one.patches)
        )
        for name in job.cloud.services
        if (one := getattr(job.sources, name)) is not None and one.git is not None
    ]
    folder = archives.night(
        services.state.archive_for(confirms),
        int(at.timestamp()) % 1000,
        factor=factor,
        run_id=new_run_id(job.name, at),
        job=job.name,
        lab=lab,
        confirms=confirms,
        started_at=at,
        finished_at=at + timedelta(seconds=50),
        status=status,
        environment=digest(facts or {}),
    )
    document = json.loads((folder / "run.json").read_text())
    document["code"] = {
        "digest": digest([[one.service, one.revision, *one.changes] for one in code]),
        "services": [
            {"service": one.service, "version": one.version, "source": one.source,
             "revision": one.revision, "changes": list(one.changes)} for one in code
        ],
    }  # fmt: skip
    document["validity"] = {"valid": fit, "reasons": [] if fit else ["a neighbour was loud"]}
    document["versions"] = {}
    document["environment"]["facts"] = facts or {}
    if beside is not None:
        document["reference"] = {"digest": "0123456789ab", "services": []}
        if status == "finished":
            write_sides(
                folder, factor=factor / beside, both=beside, seed=int(at.timestamp()) % 1000, left=left
            )
    if step is not None:
        document["step"] = step
    (folder / "run.json").write_text(json.dumps(document))
    (folder / "job.yml").write_text(yaml.safe_dump(job.resolved()))
    return folder


def services_on(land: Landscape, state: Path, **environ) -> LabServices:
    """Return the stores of a new state folder, with the repositories of a landscape."""
    given = {"PERFCI_STATE_DIR": str(state), "PERFCI_GIT_BASE": str(land.base), **environ}
    return LabServices(config.load(environ=given))


def pinned_job(job, land):
    """Return a job with the present commits of all repositories."""
    fixed = {
        name: {"git": str(land.repos[name].folder), "ref": land.repos[name].head}
        for name in job.cloud.services
        if name in land.repos
    }
    return type(job).model_validate({**job.resolved(), "sources": fixed})


def nights(services, job, land, *, number=NIGHTS, factor=1.0, start=None):
    """Archive and index nights with the present code; return the id of the last."""
    start = start or SOON - timedelta(days=30)
    fixed = pinned_job(job, land)
    for day in range(number):
        folder = archived(services, fixed, start + timedelta(days=day), factor, step=land.steps[-1])
        services.local.write(ArchivedRun(folder).results)
    return folder.name


def alert(services, good, bad, *, effect=0.3, metric=Metric.SECONDS, action="total", job="tiny"):
    """Save an alert between two runs; return its id."""
    measured = ArchivedRun(services.state.archive / bad).results.measurements
    known = next(
        one.key for one in measured if one.key.action == "total" and one.key.metric is Metric.SECONDS
    )
    key = SeriesKey("embedded", job, known.scenario, known.arguments, action, metric)
    moved = MovedSeries(
        key, bad, bad, effect, effect - 0.04, effect + 0.04, 1e-5, 0.05, 1.0, 1 + effect, None
    )
    records = [record_from_dict(ArchivedRun(services.state.archive / one).document) for one in (good, bad)]
    before, after = ({one.service: one for one in record.code.services} for record in records)
    changes = tuple(
        RevisionChange(name, before.get(name), after.get(name))
        for name in sorted(after)
        if before.get(name) != after.get(name)
    )
    made = Alert("3f2a1b", "embedded", job, "neutron", bad, good, bad, (moved,), changes, code_known=True)
    services.alerts.save(AlertState(alerts=(made,)))
    return made.id


def carries_two(monkeypatch, *, yes):
    """Let labs have room for two clouds at a time, or for one."""
    monkeypatch.setattr(bisect_question, "two_fit", lambda *_: yes)


__all__ = [
    "BisectLab",
    "CodeUnderTest",
    "Killed",
    "alert",
    "archived",
    "carries_two",
    "nights",
    "pinned_job",
    "services_on",
]
