"""One night: reserve nodes, measure on them, archive, then let the controller tell what it means.

The nodes are given back whatever happens, but not before what the night suspects was run again on them.
The archive is written before anything is stored or sent, so that a broken InfluxDB or mail server costs
nothing but time. A night that was killed after that is judged and told by the next start.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import yaml

from perfci import __version__
from perfci.errors import PerfciError
from perfci.results.archive import earlier_runs, load_shares
from perfci.results.canaries import read_canaries
from perfci.results.errors import ResultFileError
from perfci.results.model import Validity
from perfci.results.pairs import REFERENCE
from perfci.results.validity import ValidityLimits, validity
from perfci.runs.ansible.lab_playbooks import (
    cloud_parts,
    cloud_variables,
    node_playbooks,
    spread,
)
from perfci.runs.jobs.clouds import check_cloud
from perfci.runs.jobs.model import TASKS
from perfci.runs.jobs.procedures import PROCEDURES
from perfci.runs.jobs.rally_plan import CloudAccess, make_plan
from perfci.runs.night.measure import Measured, StageTimeouts, measure
from perfci.runs.night.record import RunEnd, document, run_record
from perfci.runs.night.recover import recover
from perfci.runs.night.reference import check_memory, reference_of
from perfci.runs.state.processes import of_run, reap
from perfci.runs.state.progress import Silent
from perfci.runs.state.run_folder import create, new_run_id, seal, utc_now, write_json
from perfci.runs.state.stages import Stages
from perfci.runs.state.unreported import left_owing, owe
from perfci.runs.verdicts.one_moment import at_one_moment
from perfci.runs.verdicts.reruns import Nodes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from perfci.config import Settings
    from perfci.lab.ledger import Ledger
    from perfci.lab.model import Reservation
    from perfci.runs.ansible.playbook import Playbooks
    from perfci.runs.jobs.model import Job
    from perfci.runs.night.reference import Reference
    from perfci.runs.publish.after_run import Aftermath, NightOutcome
    from perfci.runs.state.progress import Progress
    from perfci.runs.state.run_folder import WorkFolder
    from perfci.runs.state.state_folder import StateFolder

PLAN = "plan.json"


@dataclass(frozen=True, slots=True)
class _RunOf:
    """Which run is made: its id, the digest of the job for its environment, and what it confirms."""

    run_id: str
    job_digest: str
    confirms: str | None = None


@dataclass(frozen=True, slots=True)
class Night:
    """What a run of a job needs: the job, where things are, who holds the nodes, who is told."""

    job: Job
    settings: Settings
    state: StateFolder
    ledger: Ledger
    aftermath: Aftermath
    holder: str
    progress: Progress
    label: str
    """The lab's name in the results: series of other names are never compared with."""

    def run(self) -> NightOutcome:
        """Run the job once, to its archive and its mail.

        Raises NodesBusy where somebody holds the nodes; a run that failed is an outcome, not an error.
        """
        self.ledger.sweep()
        stages = Stages(self.progress)
        until = utc_now() + timedelta(hours=self.settings.limits.run_hours)
        run_id = new_run_id(self.job.name, utc_now())
        with self.ledger.lease(
            nodes=self.job.nodes.of(self.ledger.nodes),
            holder=self.holder,
            purpose=f"run {run_id}",
            until=until,
        ) as lease:
            with stages.stage("reserve") as stage:
                stage.note = ", ".join(lease.nodes)
                left = recover(self.state)
            self._make_up_for(left)
            run = _RunOf(run_id, self.job.job_digest)
            folder = self._measured(run, lease.nodes, stages, threading.Event())
            return self.aftermath.of(folder, stages, self._nodes(run_id, lease))

    def _make_up_for(self, killed: list[Path]) -> None:
        """Report what killed runs still owe: those that were killed while they ran, and those after.

        One that can't be reported stays owed; it is not in the way of tonight's run.
        """
        for folder in killed:
            self.progress.say(f"The run {folder.name} was killed; it is archived as failed.")
        nights = [folder for folder in killed if folder.parent == self.state.archive]
        for folder in sorted({*nights, *left_owing(self.aftermath.controller.database, self.state)}):
            try:
                self.aftermath.of(folder, Stages(Silent()))
            except PerfciError as error:
                self.progress.say(f"The run {folder.name} can't be reported: {error}")

    def _nodes(self, run_id: str, lease: Reservation) -> Nodes:
        """Offer the nodes of this night for re-runs, until the lease ends."""

        def rerun(job: Job, stop: threading.Event, progress: Progress) -> Path:
            again = replace(self, job=job, progress=progress)
            # Its environment is the night's: what it measures is compared with nothing else.
            run = _RunOf(new_run_id(job.name, utc_now()), self.job.job_digest, confirms=run_id)
            return again._measured(run, lease.nodes, Stages(progress), stop)  # noqa: SLF001 - it is a night too

        return Nodes(rerun, lease.ends_at, _stopping)

    def _measured(self, run: _RunOf, nodes: tuple[str, ...], stages: Stages, stop: threading.Event) -> Path:
        """Measure, and return the folder in the archive."""
        run_id = run.run_id
        # What is wrong with the job or the lab shows before anything is made.
        plan = self._plan(self.state.runs / run_id, self.state.root)
        leased = [node for node in self.ledger.nodes if node.name in nodes]
        books = node_playbooks(self.settings, leased, stop)
        job, step = at_one_moment(self.job, self.settings)
        check_cloud(self.job, self.settings, has_machines=bool(books.nodes))
        if self.job.reference is not None:
            check_memory(self.job)
        parts = cloud_parts(self.job, books)
        if run.confirms is None:
            owe(self.aftermath.controller.database, self.state, run_id)
        work = create(
            self.state.runs,
            run_id,
            lab=self.label,
            job=self.job.name,
            cloud=self.job.cloud.kind,
            job_digest=run.job_digest,
            confirms=run.confirms,
            nodes=list(nodes),
            started_at=utc_now().isoformat(),
            perfci=__version__,
            **({"step": step} if step is not None else {}),
        )
        stages.folder = work
        (work.path / "job.yml").write_text(yaml.safe_dump(self.job.resolved(), sort_keys=False))
        write_json(work.path / PLAN, plan)
        books = spread(books, parts, work.path)
        try:
            with _stopping(stop):
                measured = self._measure(job, work, stages, books)
        except BaseException:
            # A bug of ours must not leave a cloud running; the next start archives the run as failed.
            for root in self.state.clouds:
                reap(root, of_run(run_id))
            raise
        with stages.stage("archive") as stage:
            ended = RunEnd(
                failure=measured.failure,
                partial=measured.partial,
                cleanup_errors=tuple(measured.cleanup_errors),
                validity=self._validity(work, measured),
            )
            folder = seal(work, self.state.archive_for(run.confirms), document(work, ended))
            stages.folder = None
            stage.note = str(folder)
        return folder

    def _plan(self, output: Path, cloud: Path) -> dict[str, Any]:
        """Return the plan for the cloud whose state folder is `cloud`."""
        return make_plan(
            self.job.resolved()["scenarios"],  # none for a procedure that is not Rally's
            templates=self.settings.jobs_dir / TASKS,
            output=output,
            cloud=CloudAccess(
                clouds_file=cloud / "clouds.yaml",
                image_file=self.state.root / "rally" / "image.raw",
                services=self.job.cloud.services,
            ),
        )

    def _reference(self, job: Job, work: WorkFolder, books: Playbooks) -> Reference | None:
        """Return the cloud that is deployed beside, with its plan, where the job asks for one."""
        if job.reference is None:
            return None
        folder = work.path / REFERENCE
        folder.mkdir()
        write_json(folder / PLAN, self._plan(folder, self.state.reference))
        return reference_of(job, self.settings, self.state, work, books)

    def _measure(self, job: Job, work: WorkFolder, stages: Stages, books: Playbooks) -> Measured:
        limits = job.limits
        return measure(
            playbooks=books,
            stages=stages,
            work=work,
            state=self.state,
            limits=StageTimeouts(
                provision=limits.provision,
                deploy=limits.deploy,
                hammer=limits.hammer,
                collect=limits.collect,
            ),
            cloud_variables=cloud_variables(job, self.settings.root_dir),
            plan=work.path / PLAN,
            procedure=PROCEDURES[self.job.procedure],
            reference=self._reference(job, work, books),
        )

    def _validity(self, work: WorkFolder, measured: Measured) -> Validity:
        """Say whether the lab was fit to measure; a run that failed is not asked."""
        if measured.failure is not None:
            return Validity(valid=True)
        record = run_record(work, RunEnd())
        limits = self.settings.limits
        try:
            return validity(
                environment=record.environment,
                canaries=read_canaries(work.path / "canaries"),
                shares=load_shares(work.path),
                earlier=earlier_runs(self.state.archive, record),
                limits=ValidityLimits(
                    foreign_cpu_share=limits.foreign_cpu_share,
                    steal_share=limits.steal_share,
                    canary_change=limits.canary_change,
                ),
            )
        except ResultFileError as error:
            return Validity(valid=False, reasons=(f"the lab's own measurements can't be read: {error}",))


@contextmanager
def _stopping(stop: threading.Event) -> Iterator[None]:
    """Turn SIGTERM, SIGINT and SIGHUP into a request to stop; a second one changes nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wanted = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
