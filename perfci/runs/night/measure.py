"""The part of a night that touches nodes: provision, deploy, hammer, collect, release.

Machines behind BMCs get their system first (`systems`), and are taken back at the end, unless a further run
is to use them. Whatever fails, the cloud is taken down again; the first error is the run's, later ones stand
beside it.
"""

from __future__ import annotations

import logging
import tarfile
import zlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any

from perfci.errors import InternalError, PerfciError
from perfci.logs import FILE, traceback_of
from perfci.results.pairs import REFERENCE
from perfci.runs.ansible.lab_playbooks import CONTROLLER
from perfci.runs.ansible.playbook import Interrupted, PlaybookFailed, PlaybookTimeout
from perfci.runs.night.classify import diagnose
from perfci.runs.night.failed_tasks import problems, told
from perfci.runs.night.lease_time import RELEASE_SECONDS
from perfci.runs.night.nodes_used import PROVISIONED, lost_nodes
from perfci.runs.night.systems import Systems
from perfci.runs.state.processes import reap_run
from perfci.runs.state.stages import StageFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from perfci.runs.ansible.playbook import Playbooks
    from perfci.runs.jobs.procedures import Procedure
    from perfci.runs.night.reference import ReferenceCloud
    from perfci.runs.night.systems import SystemUsed
    from perfci.runs.state.run_folder import WorkFolder
    from perfci.runs.state.stages import Stages
    from perfci.runs.state.state_folder import StateFolder

KEEP_RUNNING = ("influxdb",)
"""Services of the controller, which outlive the cloud."""
_PROVISION = ("setup",)
_DEPLOYS = {"devstack": ("devstack",)}
"""The playbooks that deploy clouds of other kinds than `deploy` does."""
_LOG_BYTES = 200_000
_READ_BYTES = 1 << 20
_logger = logging.getLogger(__name__)
_TASKS_HELP = "logs/ in the archive has all logs; rally/ and rally-progress.log have those of Rally's tasks."


@dataclass(frozen=True, slots=True)
class StageTimeouts:
    """Seconds that each stage may take."""

    provision: float
    deploy: float
    hammer: float
    collect: float = 120.0
    release: float = RELEASE_SECONDS


@dataclass(frozen=True, slots=True)
class Measured:
    """How the part on the nodes went: the first failure, and beside it what went wrong while cleaning up.

    `partial` says that some tasks gave nothing, in a run whose other tasks count.
    """

    failure: StageFailure | None
    partial: StageFailure | None
    cleanup_errors: list[str]


def measure(
    *,
    playbooks: Playbooks,
    stages: Stages,
    work: WorkFolder,
    state: StateFolder,
    limits: StageTimeouts,
    cloud_variables: Mapping[str, Any],
    plan: Path,
    procedure: Procedure,
    reference: ReferenceCloud | None = None,
    least: int | None = None,
    used: Callable[[Playbooks], Playbooks] = lambda books: books,
    systems: Systems | None = None,
) -> Measured:
    """Deploy a cloud, hammer it as its procedure says, collect what it left, and take it down again.

    Of machines behind BMCs `least` must come up, None: all. `used` then limits the playbooks to those that
    the run works on. `systems` says whether they may keep the system that they have, and whether they stay
    provisioned after a run that went well; None: they get a fresh one, and are taken back.

    With a `reference`, that is deployed, collected and taken down at the same time, and hammered in lock-step
    with it.

    Raises nothing once the first stage has begun: whatever goes wrong, also what nobody expected, is part of
    what is returned, and the clean-up stages run.
    """
    playbooks = playbooks.of_run(work.run_id)
    logs = work.path / "logs"
    variables = {**cloud_variables, "perfci_run_dir": str(work.path)}
    errors: list[str] = []

    def run(books: Playbooks, name: str, *names: str, limit: float, **extra: Any) -> None:
        for playbook in names:
            books.run(
                playbook,
                log=logs / f"{name}.log",
                limit_seconds=limit,
                variables={**variables, **extra},
                on_step=stages.progress.step,
            )

    def stage(books: Playbooks, name: str, *names: str, limit: float, **extra: Any) -> None:
        with stages.stage(name):
            run(books, name, *names, limit=limit, **extra)

    def stage_of_both(books: Playbooks, name: str, *names: str, limit: float) -> None:
        with stages.stage(name), beside(reference, books, name, names, limit_seconds=limit):
            run(books, name, *names, limit=limit)

    more = {"hammer_reference": reference.hammered} if reference else {}
    deploys = _DEPLOYS.get(cloud_variables.get("cloud_kind", ""), procedure.deploy)
    systems = systems or Systems()
    record = {
        "provision_record": str(work.path / PROVISIONED),
        "provision_least": least or 0,
        "node_baseline_reference": str(state.reference) if reference else "",
    }
    first: BaseException | None = None
    working = with_machines = playbooks
    system: SystemUsed | None = None

    def play(books: Playbooks, playbook: str, **extra: Any) -> None:
        run(books, "provision", playbook, limit=limits.provision, **record, **extra)

    try:
        with stages.stage("provision"):
            with_machines, system = systems.install(play, playbooks, work, stages.progress.say)
            working = used(with_machines)
            run(working, "provision", *_PROVISION, limit=limits.provision)
        stage_of_both(working, "deploy", *deploys, limit=limits.deploy)
        # Each side's tasks take as long as those of one cloud alone.
        limit = limits.hammer * (2 if reference else 1)
        stage(working, "hammer", procedure.hammer, limit=limit, hammer_plan=str(plan), **more)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the nodes are given back and it is told
        first = error
    failed = stages.done[-1].name if first else ""
    # From here on a second signal changes nothing: giving the nodes back comes first.
    calm = working.uninterrupted()
    try:
        stage_of_both(calm, "collect", "collect", limit=limits.collect)
    except Exception as error:  # noqa: BLE001 - as above
        errors.append(f"collect: {_beside(error)}")
    taken_back, left = release(
        playbooks=calm,
        machines=with_machines.nodes,
        stages=stages,
        work=work,
        state=state,
        limit_seconds=limits.release,
        reference=reference,
        stay=systems.stay and first is None,
    )
    errors += left
    systems.settle(system, working.nodes, taken_back, work.run_id)
    return _concluded(work, reference, failed, first, errors)


def _concluded(
    work: WorkFolder,
    reference: ReferenceCloud | None,
    failed: str,
    first: BaseException | None,
    errors: list[str],
) -> Measured:
    """Say how the run went; where that can't be worked out, that is the failure."""
    try:
        evidence, damaged = service_logs(work.path / "logs")
        errors += [f"collect: logs/{one}" for one in damaged]
        if reference:
            beside, damaged = service_logs(reference.logs)
            evidence |= {f"{REFERENCE}/{name}": text for name, text in beside.items()}
            errors += [f"collect: {REFERENCE}/logs/{one}" for one in damaged]
        if first is not None:
            return Measured(_explain(failed, first, work, evidence), None, errors)
        failure, partial = _tasks(work.path, evidence)
    except Exception as error:  # noqa: BLE001 - a fault of ours must not cost the run
        return Measured(unexpected(failed or "collect", first or error), None, errors)
    return Measured(failure, partial, errors)


def unexpected(stage: str, error: BaseException) -> StageFailure:
    """Return the failure that an unexpected error is: the lab's, with its traceback, which is logged too."""
    _logger.error("unexpected error in the stage %s", stage, exc_info=error)
    said = InternalError.of(error, log=f"the archive's logs/{FILE}")
    return StageFailure(
        stage, said.failure_class, str(said), said.advice, f"logs/{FILE}", traceback_of(error)
    )


def _beside(error: BaseException) -> str:
    """Say what went wrong while cleaning up; of what was not expected the log has the traceback."""
    if isinstance(error, PerfciError):
        return str(error)
    _logger.error("unexpected error while cleaning up", exc_info=error)
    return str(InternalError.of(error, log=f"logs/{FILE}"))


def release(
    *,
    playbooks: Playbooks,
    stages: Stages,
    work: WorkFolder,
    state: StateFolder,
    limit_seconds: float,
    reference: ReferenceCloud | None = None,
    machines: tuple[str, ...] = (),
    stay: bool = False,
) -> tuple[tuple[str, ...], list[str]]:
    """Take the clouds down, and end what the playbooks left running.

    Then all `machines` behind BMCs are taken back, also those that the cloud was not on. Where they are to
    `stay`, and the cloud was taken down, those that it was on are not. Returns which were to be taken back,
    and what went wrong.
    """
    errors: list[str] = []

    def give_back(name: str, playbook: str, books: Playbooks, both: ReferenceCloud | None = None) -> None:
        try:
            with (
                stages.stage(name),
                beside(both, books, name, (playbook,), limit_seconds=limit_seconds),
            ):
                books.run(
                    playbook,
                    log=work.path / "logs" / f"{name}.log",
                    limit_seconds=limit_seconds,
                    variables={"teardown_keep": list(KEEP_RUNNING)},
                    on_step=stages.progress.step,
                )
        except Exception as error:  # noqa: BLE001 - the next one gives back what this one did not
            errors.append(f"{name}: {_beside(error)}")

    give_back("release", "teardown", playbooks, reference)
    if stay and not errors:
        machines = tuple(node for node in machines if node not in playbooks.nodes)
    for name, books in _taken_back(playbooks, machines, lost_nodes(work.read(PROVISIONED), machines)):
        give_back(name, "reclaim", books)
    try:
        ended = reap_run(state, work.run_id)
    except Exception as error:  # noqa: BLE001 - as above
        errors.append(f"release: {_beside(error)}")
        ended = []
    # Ansible's own processes are no surprise: ssh keeps its connections open for the next playbook.
    if left := [name for name in ended if name != CONTROLLER]:
        errors.append(f"release: these still ran and were ended: {', '.join(left)}")
    return machines, errors


def _taken_back(
    playbooks: Playbooks, machines: tuple[str, ...], lost: Mapping[str, str]
) -> Iterator[tuple[str, Playbooks]]:
    """Give the stages that take machines back, each with those that it is for.

    Machines that did not come up are taken back by themselves: what their BMCs take delays no other.
    """
    came, away = (tuple(node for node in machines if (node in lost) is way) for way in (False, True))
    if came:
        yield "reclaim", replace(playbooks, nodes=came)
    if away:
        yield "reclaim lost", replace(playbooks, nodes=away)


@contextmanager
def beside(
    reference: ReferenceCloud | None,
    books: Playbooks,
    name: str,
    playbooks: tuple[str, ...],
    *,
    limit_seconds: float,
) -> Iterator[None]:
    """Let the same playbooks work on the reference, if there is one, while the caller's own are at work.

    Both are waited for. Of two errors the caller's own is raised.
    """
    if reference is None:
        yield
        return
    own = replace(reference.playbooks, stop=books.stop)

    def work() -> None:
        for playbook in playbooks:
            own.run(
                playbook,
                log=reference.logs / f"{name}.log",
                limit_seconds=limit_seconds,
                variables=reference.variables,
            )

    with ThreadPoolExecutor(1, thread_name_prefix=REFERENCE) as pool:
        other = pool.submit(work)
        yield
        other.result()


def _tasks(folder: Path, logs: Mapping[str, str]) -> tuple[StageFailure | None, StageFailure | None]:
    """Say what came of the tasks: where none gave anything the run failed, where some did it is partial."""
    found, total = problems(folder)
    if not found and total:
        return None, None
    message = told(found, total)
    cause = diagnose(stage="hammer", role="rally", message=message, logs=logs)
    failure = StageFailure("hammer", cause.failure_class, message, _TASKS_HELP, cause.source, cause.excerpt)
    return (failure, None) if len(found) == total else (None, failure)


def _explain(stage: str, error: BaseException, work: WorkFolder, logs: Mapping[str, str]) -> StageFailure:
    """Say whose fault an error is, with the services' logs as evidence."""
    if isinstance(error, KeyboardInterrupt | SystemExit):
        error = Interrupted()
    if not isinstance(error, PerfciError):
        return unexpected(stage, error)
    # When this is read, the working folder is the archive's.
    advice = error.advice.replace(f"{work.path}/", "the archive's ")
    if not isinstance(error, PlaybookFailed | PlaybookTimeout):
        return StageFailure(stage, error.failure_class, str(error), advice)
    found = diagnose(stage=stage, role=error.role, message=str(error), logs=logs)
    return StageFailure(stage, found.failure_class, str(error), advice, found.source, found.excerpt)


def service_logs(logs: Path) -> tuple[dict[str, str], list[str]]:
    """Return the last part of each service's log, out of the archives that `collect` made per node.

    Of an archive that is damaged, what stands before the damage counts; the second value says so.
    """
    found: dict[str, str] = {}
    damaged: list[str] = []
    for path in sorted(logs.glob("*.tar.gz")):
        try:
            _read_archive(path, found)
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            _logger.warning("%s is damaged", path, exc_info=error)
            damaged.append(f"{path.name} is damaged: {error}")
    return found, damaged


def _read_archive(path: Path, found: dict[str, str]) -> None:
    with tarfile.open(path) as archive:
        for member in archive:
            source = archive.extractfile(member) if member.isfile() else None
            if source is not None:
                found[f"{path.name.removesuffix('.tar.gz')}/{member.name}"] = _end_of(source)


def _end_of(source: IO[bytes]) -> str:
    """Return the last part of a log, however long it is, without holding all of it."""
    kept: deque[bytes] = deque(maxlen=2)
    while chunk := source.read(_READ_BYTES):
        kept.append(chunk)
    return b"".join(kept)[-_LOG_BYTES:].decode(errors="replace")
