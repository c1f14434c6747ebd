"""One tick: everything that is due now, told once, started once, whichever controller comes first.

The tick itself is short: what takes long is done by processes of their own, which it starts. Each step is
done again by the next tick where this one is killed.
"""

from __future__ import annotations

import logging
import os
import socket
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from perfci.errors import InternalError, PerfciError
from perfci.lab.reservations.idle import Looks
from perfci.lab.reservations.model import NodeWish
from perfci.lab.reservations.nights import Nights, Plan
from perfci.lab.reservations.node_orders import NodeOrders
from perfci.lab.reservations.service import open_reservations
from perfci.lab.reservations.work import Work
from perfci.logs import FILE, controller_log
from perfci.runs.night.lease_time import needed
from perfci.runs.night.take_back import hand_over_left
from perfci.runs.publish.notify import deliver
from perfci.runs.state.background import in_background
from perfci.runs.state.state_folder import StateFolder
from perfci.runs.tick.letters import NEVER_IDLE
from perfci.runs.tick.mail import idle_policy, post_due
from perfci.runs.tick.scheduled import scheduled, windows
from perfci.runs.verdicts.lab_services import LabServices

if TYPE_CHECKING:
    from collections.abc import Callable

    from perfci.config import Settings
    from perfci.lab.reservations.service import Reservations
    from perfci.runs.jobs.model import Job

MOST_STARTED = 32
"""How many processes one tick starts at most; the next one starts more."""
MOST_DELIVERED = 20
"""How many mails one tick sends itself; more are sent by a process of their own."""
_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class TickReport:
    """What one tick did: ids of reservations and nights, number of mails, problems in words."""

    ended: list[str] = field(default_factory=list)
    left_on: list[str] = field(default_factory=list)
    """Reservations for taking machines back that killed trials left on."""
    begun: list[str] = field(default_factory=list)
    planned: list[str] = field(default_factory=list)
    nights: list[str] = field(default_factory=list)
    work: list[str] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    looks: list[str] = field(default_factory=list)
    mails: int = 0
    problems: list[str] = field(default_factory=list)


def worker_name() -> str:
    """Return the name of this controller's process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def tick(
    settings: Settings,
    *,
    reservations: Reservations | None = None,
    spawn: Callable[[list[str]], None] | None = None,
) -> TickReport:
    """Do what is due. A step that fails is a problem of the report and keeps no other from being done.

    `spawn` starts `perfci` with these words in the background. Raises what opening the database raises.
    """
    service = reservations or open_reservations(settings)
    start = spawn or in_background(settings)
    report = TickReport()
    planned: list[Job] = []
    steps: tuple[Callable[[], object], ...] = (
        lambda: report.ended.extend(one.id for one, _ in service.sweep()),
        lambda: report.left_on.extend(hand_over_left(StateFolder(settings.state_dir), service)),
        NodeOrders(service).mend,
        lambda: planned.extend(scheduled(settings, report.problems)),
        lambda: _plan_nights(settings, service, planned, report),
        lambda: _start_nights(service, planned, report, start),
        lambda: report.begun.extend(one.id for one in service.begin()),
        lambda: _start_work(service, report, start),
        lambda: _look(settings, service, report, start),
        lambda: _mails(settings, service, report, start),
    )
    logs = StateFolder(settings.state_dir).logs
    with controller_log(logs), service.database.kept_open():
        for step in steps:
            try:
                step()
            except (PerfciError, OSError) as error:
                _logger.warning("tick: %s", error)
                report.problems.append(str(error))
            except Exception as error:
                # A fault of ours in one step must not keep nights from being started, minute after minute.
                _logger.exception("tick: unexpected error")
                report.problems.append(str(InternalError.of(error, log=logs / FILE)))
    return report


def _plan_nights(settings: Settings, service: Reservations, planned: list[Job], report: TickReport) -> None:
    nights = Nights(service, worker_name())
    for job in planned:
        names = frozenset(job.nodes.names)
        if names and job.nodes.count < len(names):
            wish = NodeWish(job.nodes.count, where=f"name in {sorted(names)}")
        else:
            wish = NodeWish(job.nodes.count, names, job.nodes.where)
        mail = settings.mail
        addresses = (job.mail.to if job.mail else ()) or mail.to or mail.admins
        plan = Plan(
            job=job.name,
            holder="perfci",
            wish=wish,
            length=timedelta(hours=settings.limits.run_hours),
            needed=needed(job),
            windows=windows(job, nights.last_window(job.name), service.now()),
            contact=addresses[0] if addresses else "",
        )
        report.planned.extend(one.id for one in nights.plan(plan))
    nights.move_up()


def _start_nights(
    service: Reservations, planned: list[Job], report: TickReport, spawn: Callable[[list[str]], None]
) -> None:
    nights = Nights(service, worker_name())
    for job in planned:
        for one in nights.due(job.name, needed(job)):
            if nights.start(one):
                spawn(["run", job.name, "--reservation", one])
                report.nights.append(one)


def _start_work(service: Reservations, report: TickReport, spawn: Callable[[list[str]], None]) -> None:
    work = Work(service, worker_name())
    for one in work.due(MOST_STARTED):
        spawn(["tick", "--work", one])
        report.work.append(one)
    for one in work.logins_due()[:MOST_STARTED]:
        spawn(["tick", "--login", one])
        report.logins.append(one)


def _look(
    settings: Settings, service: Reservations, report: TickReport, spawn: Callable[[list[str]], None]
) -> None:
    """Let processes look whether anybody works on nodes, and end what was idle for too long."""
    policy = idle_policy(settings)
    if policy == NEVER_IDLE:
        return
    looks = Looks(service, worker_name())
    report.ended.extend(looks.end(policy))
    for one in looks.due(MOST_STARTED):
        spawn(["tick", "--look", one])
        report.looks.append(one)


def _mails(
    settings: Settings, service: Reservations, report: TickReport, spawn: Callable[[list[str]], None]
) -> None:
    report.mails = post_due(settings, service)
    services = LabServices(settings)
    waiting = services.outbox.waiting()
    if waiting > MOST_DELIVERED:
        spawn(["alerts", "deliver"])
    elif waiting:
        report.problems.extend(deliver(services).problems)
