"""One night: reserve nodes, measure on them, archive, then let the controller tell what it means.

The nodes are given back whatever happens, but not before what the night suspects was run again on them. Until
then, machines behind BMCs keep the system that the night gave them.
The archive is written before anything is stored or sent, so that a broken InfluxDB or mail server costs
nothing but time. A night that was killed after that is judged and told by the next start.
"""

from __future__ import annotations

import logging
import signal
import threading
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import yaml

from perfci import __version__
from perfci.errors import InternalError, LabError, PerfciError
from perfci.files import write_json, write_whole
from perfci.lab import give_way
from perfci.lab.errors import NodesBusy, NodesQuarantined, ReservationNotFound
from perfci.lab.give_way import GIVES_WAY
from perfci.lab.inventory import VIRTUAL
from perfci.logs import FILE, controller_log, logging_to
from perfci.results.archive import RunFiles, earlier_runs
from perfci.results.errors import ArchiveError
from perfci.results.model import FINISHED, Validity
from perfci.results.pairs import REFERENCE, is_paired
from perfci.results.validity import ValidityLimits, validity
from perfci.runs.ansible.lab_playbooks import cloud_parts, cloud_variables, node_playbooks
from perfci.runs.jobs.clouds import check_cloud
from perfci.runs.jobs.load import TASKS
from perfci.runs.jobs.procedures import PROCEDURES
from perfci.runs.jobs.rally_plan import CloudAccess, make_plan
from perfci.runs.night.lease_time import check_fits, needed
from perfci.runs.night.measure import Measured, StageTimeouts, measure, unexpected
from perfci.runs.night.nodes_used import playbooks_on_used
from perfci.runs.night.record import RunEnd, document, note_end, run_record
from perfci.runs.night.recover import recover
from perfci.runs.night.reference import (
    ReferenceElsewhere,
    TooLittleMemory,
    by_pairs,
    carry_two,
    check_room,
    reference_of,
)
from perfci.runs.night.systems import KeptMachines, Systems
from perfci.runs.night.take_back import HELD, take_back, take_back_left
from perfci.runs.publish.hardware_alarms import look_at_hardware
from perfci.runs.state.archived_run import JOB
from perfci.runs.state.processes import reap_run
from perfci.runs.state.progress import Silent
from perfci.runs.state.run_folder import create, new_run_id, seal, utc_now
from perfci.runs.state.stages import Stages
from perfci.runs.state.unreported import left_owing, owe
from perfci.runs.verdicts.accepted_code import accepted_reference
from perfci.runs.verdicts.lab_services import ArchivedJobInvalid
from perfci.runs.verdicts.one_moment import at_one_moment
from perfci.runs.verdicts.rerun_round import Nodes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path
    from types import FrameType

    from perfci.config import Settings
    from perfci.lab.ledger import Ledger
    from perfci.lab.model import Reservation
    from perfci.runs.ansible.playbook import Playbooks
    from perfci.runs.jobs.model import Job
    from perfci.runs.night.reference import ReferenceCloud
    from perfci.runs.publish.after_run import Aftermath, NightOutcome
    from perfci.runs.state.archived_run import ArchivedRun
    from perfci.runs.state.progress import Progress
    from perfci.runs.state.run_folder import WorkFolder
    from perfci.runs.state.state_folder import StateFolder

PLAN = "plan.json"
_logger = logging.getLogger(__name__)


class RunNotArchived(LabError):
    """A run has ended, but its folder can't be moved into the archive now."""

    template = "the run {run_id} can't be archived: {reason}"
    help = "Nothing is lost: its folder is {folder}. Make room on the disk; the next start archives it."


@dataclass(frozen=True, slots=True)
class _RunOf:
    """Which run is made: its id, the digest of the job for its environment, and what it confirms."""

    run_id: str
    job_digest: str
    confirms: str | None = None


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What was worked out before anything was made: the job with its revisions, the plan of its tasks,
    the playbooks.
    """

    job: Job
    plan: dict[str, Any]
    books: Playbooks


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
    gives_way: bool = False
    """Whether it ends at once when somebody else wants the nodes."""
    alone: str = ""
    """Why it has no reference although its job wants one."""
    planned: str | None = None
    """The reservation that was planned for this night; None: it takes nodes that are free."""
    kept: KeptMachines | None = None
    """The machines that the runs of a trial leave provisioned for each other; who made it takes them back.
    None: the night takes its own back, when its re-runs have ended."""
    _own: KeptMachines = field(default_factory=KeptMachines)

    def run(self) -> NightOutcome:
        """Run the job once, to its archive and its mail.

        Raises LimitsBeyondLease before anything is done, NodesBusy where somebody holds the nodes,
        ReservationOver where another process took what was planned for this night, RunNotArchived, and
        InternalError for what nobody expected; a run that failed is an outcome, no error.
        """
        check_fits(self.job, self.settings.limits.run_hours)
        with controller_log(self.state.logs), _interruptible():
            try:
                return self._with_reference()._run()  # noqa: SLF001 - it is this night
            except PerfciError as error:
                _logger.error("%s: %s", type(error).__name__, error)  # noqa: TRY400 - its text says all
                raise
            except Exception as error:
                _logger.exception("unexpected error")
                raise InternalError.of(error, log=self.state.logs / FILE) from error

    def _with_reference(self) -> Night:
        """Return the night with the code that was last accepted as its reference, where the job wants that.

        Where two clouds have no room, or nobody can read which code was accepted, it has none, and says so.
        """
        if self.job.reference is None or not self.job.reference.accepted:
            return self
        try:
            check_room(self.job, self.ledger.nodes)
            reference = accepted_reference(self.aftermath.controller, self.job, self.label)
        except (TooLittleMemory, ReferenceElsewhere, ArchiveError, ArchivedJobInvalid) as error:
            reason = f"This night has no reference: {error}."
            _logger.warning("%s", reason)
            self.progress.say(reason)
            return replace(self, job=self.job.model_copy(update={"reference": None}), alone=reason)
        return replace(self, job=self.job.model_copy(update={"reference": reference}))

    def _run(self) -> NightOutcome:
        self.ledger.sweep()
        stages = Stages(self.progress)
        until = utc_now() + timedelta(hours=self.settings.limits.run_hours)
        run_id = new_run_id(self.job.name, utc_now())
        with self._lease(run_id, until) as lease:
            _logger.info("run %s of %s holds %s", run_id, self.job.name, ", ".join(lease.nodes))
            with stages.stage("reserve") as stage:
                stage.note = ", ".join(lease.nodes)
                left = recover(self.state)
            self._take_back_left()
            self._make_up_for(left)
            run = _RunOf(run_id, self.job.job_digest)
            not_back: tuple[PerfciError, ...] = ()
            try:
                measured = self._measured(run, lease.nodes, stages, threading.Event())
                nodes = self._nodes(run_id, lease, _nodes_of(measured, lease))
                self._look_at_hardware(lease, stages)
                outcome = self.aftermath.of(measured, stages, nodes)
            finally:
                not_back = self._take_back(lease, stages)
            return replace(outcome, later=(*outcome.later, *not_back))

    def _take_back_left(self) -> None:
        """Let what killed nights left on be taken back; this one goes on meanwhile, whatever comes of it."""
        if not any(node.has_bmc for node in self.ledger.nodes):
            return
        try:
            take_back_left(self.settings, self.state)
        except (PerfciError, OSError):
            _logger.exception("what killed nights left on can't be taken back now")

    def _look_at_hardware(self, lease: Reservation, stages: Stages) -> None:
        """Ask the machines' BMCs what is wrong, for the admins; the night goes on whatever comes of it.

        Simulated machines are reached in another network, and have no hardware.
        """
        machines = [node.name for node in self.ledger.nodes if node.name in lease.nodes and node.has_bmc]
        if not machines or self.settings.lab == VIRTUAL:
            return
        try:
            with stages.stage("hardware") as stage:
                stage.note = look_at_hardware(self.settings, machines).text
        except Exception:
            # The archive is written, and re-runs wait for their nodes.
            _logger.exception("the hardware can't be looked at")

    def _take_back(self, lease: Reservation, stages: Stages) -> tuple[PerfciError, ...]:
        """Take back the machines that were kept for re-runs; return what went wrong."""
        if not self._own.systems:
            return ()
        with suppress(NodesBusy, ReservationNotFound):
            self.ledger.extend(lease.id, utc_now() + HELD)
        held = [node for node in self.ledger.nodes if node.name in lease.nodes]
        with _stopping(threading.Event()):  # a signal now changes nothing: giving the nodes back comes first
            return take_back(self.settings, self._own, held, stages)

    @contextmanager
    def _lease(self, run_id: str, until: datetime) -> Iterator[Reservation]:
        """Hold the nodes, with as many of the spares as are free. Raises what the ledger raises.

        Work that gives way is asked to for the nodes themselves, and left alone for a spare.
        """
        wanted = self.job.nodes
        purpose = f"run {run_id}{GIVES_WAY if self.gives_way else ''}"

        def hold(spares: int) -> AbstractContextManager[Reservation]:
            nodes = wanted.of(self.ledger.nodes, spares)
            return self.ledger.lease(nodes=nodes, holder=self.holder, purpose=purpose, until=until)

        if self.planned is not None:
            nodes = wanted.of(self.ledger.nodes)
            with self.ledger.lease(
                nodes=nodes, holder=self.holder, purpose=purpose, until=until, planned=self.planned
            ) as lease:
                yield lease
            return
        with ExitStack() as held:
            for spares in range(wanted.spares, -1, -1):
                try:
                    lease = held.enter_context(
                        give_way.lease(partial(hold, spares), gives_way=self.gives_way or spares > 0)
                    )
                except (NodesBusy, NodesQuarantined):
                    if not spares:
                        raise
                    continue
                if spares < wanted.spares:
                    self.progress.say(f"{spares} of {wanted.spares} spare nodes are free.")
                break
            yield lease

    def _make_up_for(self, killed: list[ArchivedRun]) -> None:
        """Report the runs that a kill kept from it: while they ran, or after.

        A run stays unreported where this is interrupted, or where its verdict can't be made now. One whose
        folder is damaged is reported to the admins as that. None is in the way of tonight's run.
        """
        for run in killed:
            ended = "its archive is complete" if _finished(run) else "it is archived as failed"
            self.progress.say(f"The run {run.run_id} was killed; {ended}.")
        nights = [run for run in killed if run.folder.parent == self.state.archive]
        owed = left_owing(self.aftermath.controller.database, self.state)
        for _, run in sorted({run.run_id: run for run in (*owed, *nights)}.items()):
            try:
                self.aftermath.of(run, Stages(Silent()))
            except Exception as error:
                _logger.exception("the run %s can't be reported", run.run_id)
                self.progress.say(f"The run {run.run_id} can't be reported: {error}")
                # Where not even that can be said, the next start tries again.
                self.aftermath.give_up(run.run_id, error)

    def _nodes(self, run_id: str, lease: Reservation, used: tuple[str, ...] = ()) -> Nodes:
        """Offer the nodes that this night used for re-runs, left out: all, until the lease ends."""

        def rerun(job: Job, stop: threading.Event, progress: Progress) -> Path:
            again = replace(self, job=job, progress=progress)
            # The nodes are held until it can have ended, however little of the lease is left.
            self.ledger.extend(lease.id, utc_now() + needed(job))
            # Its environment is the night's: what it measures is compared with nothing else.
            run = _RunOf(new_run_id(job.name, utc_now()), self.job.job_digest, confirms=run_id)
            measured = again._measured(run, used or lease.nodes, Stages(progress), stop)  # noqa: SLF001 - it is a night too
            return measured.folder

        held = [node for node in self.ledger.nodes if node.name in lease.nodes]
        return Nodes(rerun, lease.ends_at, _stopping, partial(carry_two, nodes=held))

    def _measured(
        self, run: _RunOf, nodes: tuple[str, ...], stages: Stages, stop: threading.Event
    ) -> ArchivedRun:
        """Measure, and return the archived run."""
        run_id = run.run_id
        # What is wrong with the job or the lab shows before anything is made.
        plan = self._plan(self.state.runs / run_id, self.state.root)
        leased = [node for node in self.ledger.nodes if node.name in nodes]
        books = node_playbooks(self.settings, leased, stop)
        job, step = at_one_moment(self.job, self.settings)
        check_cloud(self.job, self.settings, has_machines=bool(books.nodes))
        if self.job.reference is not None:
            check_room(self.job, leased)
        # Who plays which part is known once the nodes are up; that the job can be spread over so many, now.
        cloud_parts(self.job, replace(books, nodes=books.nodes[: self.job.nodes.count]))
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
            **({"alone": self.alone} if self.alone else {}),
        )
        stages.folder = work
        with logging_to(work.path / "logs" / FILE):  # closed before the folder is sealed
            _logger.info("perfci %s runs %s on %s", __version__, run_id, ", ".join(nodes))
            ended = self._ended(work, stages, _Prepared(job, plan, books), stop)
            _note_end(work, ended)
        try:
            with stages.stage("archive") as stage:
                archived = seal(work, self.state.archive_for(run.confirms), document(work, ended))
                stages.folder = None
                stage.note = str(archived.folder)
        except OSError as error:
            _logger.exception("the run %s can't be archived", run_id)
            raise RunNotArchived(run_id=run_id, reason=error, folder=work.path) from error
        return archived

    def _ended(self, work: WorkFolder, stages: Stages, prepared: _Prepared, stop: threading.Event) -> RunEnd:
        """Measure, and return how that ended; an error that nobody expected is how it ended, too."""
        try:
            with _stopping(stop):
                written = yaml.safe_dump(self.job.resolved(), sort_keys=False)
                write_whole(work.path / JOB, written)
                write_json(work.path / PLAN, prepared.plan)
                measured = self._measure(prepared.job, work, stages, prepared.books)
                return RunEnd(
                    failure=measured.failure,
                    partial=measured.partial,
                    cleanup_errors=tuple(measured.cleanup_errors),
                    validity=self._validity(work, measured),
                )
        except Exception as error:  # noqa: BLE001 - a bug of ours must not leave a cloud running
            reap_run(self.state, work.run_id)
            return RunEnd(unexpected("prepare", error))
        except BaseException:
            reap_run(self.state, work.run_id)
            raise  # the next start archives the run as failed

    def _plan(self, output: Path, cloud: Path) -> dict[str, Any]:
        """Return the plan for the cloud whose state folder is `cloud`."""
        return make_plan(
            self.job.resolved()["scenarios"],  # none for a procedure that is not Rally's
            templates=self.settings.jobs_dir / TASKS,
            output=output,
            paired=self.job.reference is not None,
            cloud=CloudAccess(
                clouds_file=cloud / "clouds.yaml",
                image_file=self.state.root / "rally" / "image.raw",
                services=self.job.cloud.services,
            ),
        )

    def _reference(self, job: Job, work: WorkFolder, books: Playbooks) -> ReferenceCloud | None:
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
            least=job.nodes.count,
            used=playbooks_on_used(job, work, stages.progress.say),
            systems=self._systems(job),
        )

    def _systems(self, job: Job) -> Systems:
        """Say whether machines may keep the system that they have, and keep it for a further run."""
        again = self.kept is not None or job.analysis.confirm.enabled
        return Systems(
            kept=self._own if self.kept is None else self.kept,
            reimage_every=job.provision.reimage_every if again else 1,
            count=job.nodes.count,
            unfit="devstack changes its nodes for good" if job.cloud.kind == "devstack" else "",
        )

    def _validity(self, work: WorkFolder, measured: Measured) -> Validity:
        """Say whether the lab was fit to measure; a run that failed is not asked.

        Where that can't be told, whatever the reason, it was not.
        """
        if measured.failure is not None:
            return Validity(valid=True)
        record = run_record(work, RunEnd())
        files, limits = RunFiles(work.path, record), self.settings.limits
        try:
            found = validity(
                environment=record.environment,
                canaries=files.canaries,
                shares=files.shares,
                restarts=files.restarts,
                earlier=earlier_runs(self.state.archive, record),
                limits=ValidityLimits(
                    foreign_cpu_share=limits.foreign_cpu_share,
                    steal_share=limits.steal_share,
                    canary_change=limits.canary_change,
                ),
            )
            if found.valid or files.restarts or not is_paired(work.path):
                return found
            return by_pairs(found, files.paired)
        except Exception as error:
            _logger.exception("the lab's own measurements can't be read")
            return Validity(valid=False, reasons=(f"the lab's own measurements can't be read: {error}",))


def _note_end(work: WorkFolder, ended: RunEnd) -> None:
    """Note how a run ended; where that fails, run.json may still be written."""
    try:
        note_end(work, ended)
    except OSError:
        _logger.exception("how the run ended can't be noted")


def _finished(run: ArchivedRun) -> bool:
    """Tell whether an archived run ended as it should; not where its run.json can't be read."""
    try:
        return run.record.status == FINISHED
    except ArchiveError:
        return False


def _nodes_of(run: ArchivedRun, lease: Reservation) -> tuple[str, ...]:
    """Return the nodes that a run worked on: re-runs are compared with it, so they take the same ones."""
    try:
        return tuple(map(str, run.document.get("nodes") or lease.nodes))
    except ArchiveError:
        return lease.nodes


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end perfci as Ctrl-C does: the nodes are given back on the way out."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handling((signal.SIGTERM, signal.SIGHUP), interrupt):
        yield


@contextmanager
def _stopping(stop: threading.Event) -> Iterator[None]:
    """Turn SIGTERM, SIGINT and SIGHUP into a request to stop; a second one changes nothing."""
    with _handling((signal.SIGTERM, signal.SIGINT, signal.SIGHUP), lambda *_: stop.set()):
        yield


@contextmanager
def _handling(
    numbers: tuple[signal.Signals, ...], handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Handle signals so until the context ends; only the main thread can, others leave them as they are."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
