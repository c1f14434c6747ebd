"""Machines that runs left provisioned are taken back when no further run needs them.

What a killed run or trial left on is taken back by the work of a reservation (`perfci tick --work`), once,
whichever tick or run comes first. What somebody else has got is left alone.
"""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from perfci.errors import LabError, PerfciError
from perfci.lab.errors import NodesBusy, NodesQuarantined
from perfci.lab.ledger import Among
from perfci.lab.reservations.service import open_reservations
from perfci.lab.reservations.work import Work
from perfci.lab.sql import open_ledger
from perfci.runs.ansible.lab_playbooks import node_playbooks
from perfci.runs.night.lease_time import RELEASE_SECONDS
from perfci.runs.night.systems import KeptMachines
from perfci.runs.state.background import in_background
from perfci.runs.state.run_folder import utc_now
from perfci.runs.state.stages import Stages
from perfci.runs.state.state_folder import StateFolder
from perfci.runs.state.switched_on import switched_on

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from perfci.config import Settings
    from perfci.lab.model import Node
    from perfci.lab.reservations.service import Reservations
    from perfci.runs.state.progress import Progress

HELD = timedelta(seconds=2 * RELEASE_SECONDS)
"""How long taking machines back may hold them."""
LOG = "reclaim.log"
"""In the controller's folder of logs: what the playbook said."""
_logger = logging.getLogger(__name__)


class NotTakenBack(LabError):
    """Machines that runs left provisioned could not be taken back."""

    template = "{nodes} could not be taken back: {reason}"
    help = (
        "They are still on, with the system of the last run. `ansible-playbook -i INVENTORY "
        "playbooks/reclaim.yml -e provision_nodes={nodes}` takes them back. The next holder gets a fresh "
        "system in any case."
    )


def take_back(
    settings: Settings, kept: KeptMachines, nodes: Iterable[Node], stages: Stages
) -> tuple[NotTakenBack, ...]:
    """Take back the kept machines among `nodes`, which the caller holds; return what failed.

    Nothing interrupts it, and nothing is known of the machines afterwards. Where they are written down, those
    that failed stay so: once this process has ended, the next tick or run tries again.
    """
    machines = [node for node in nodes if node.name in kept.systems]
    if not machines:
        return ()
    names = ",".join(sorted(node.name for node in machines))
    try:
        with stages.stage("reclaim"):
            node_playbooks(settings, machines, threading.Event()).run(
                "reclaim",
                log=settings.state_dir / "logs" / LOG,
                limit_seconds=RELEASE_SECONDS,
                on_step=stages.progress.step,
            )
    except PerfciError as error:
        _logger.warning("%s can't be taken back: %s", names, error)
        kept.give_up(node.name for node in machines)
        return (NotTakenBack(nodes=names, reason=error),)
    kept.forget(node.name for node in machines)
    return ()


@contextmanager
def kept_machines(settings: Settings, *, holder: str, progress: Progress) -> Iterator[KeptMachines]:
    """Keep machines provisioned between the runs of a trial, and take them back at its end.

    The runs hold their nodes one after the other: what somebody else has got meanwhile is left alone.
    """
    kept = KeptMachines(state=StateFolder(settings.state_dir))
    try:
        yield kept
    finally:
        if kept.systems:
            for problem in _take_back_free(settings, kept, holder=holder, progress=progress):
                progress.say(f"{problem}. {problem.advice}")


def _take_back_free(
    settings: Settings, kept: KeptMachines, *, holder: str, progress: Progress
) -> tuple[NotTakenBack, ...]:
    ledger = open_ledger(settings)
    with ExitStack() as held:
        for name in sorted(kept.systems):
            try:
                held.enter_context(
                    ledger.lease(
                        nodes=Among(frozenset({name}), 1),
                        holder=holder,
                        purpose="take it back",
                        until=utc_now() + HELD,
                    )
                )
            except (NodesBusy, NodesQuarantined):
                kept.forget([name])
        return take_back(settings, kept, ledger.nodes, Stages(progress))


def hand_over_left(state: StateFolder, reservations: Reservations) -> tuple[str, ...]:
    """Let machines be taken back that killed trials left on; return the reservations for that.

    Doing it again changes nothing. Raises DatabaseUnavailable, OSError.
    """
    if not state.switched_on.exists():
        return ()
    with switched_on(state) as machines:
        left = {one.node: one.run_id for one in machines.left()}
        made = Work(reservations, "perfci").take_back_left(left) if left else ()
        # Only now: a kill in between leaves it to the next one.
        machines.strike(left)
    for one in made:
        _logger.warning("a killed trial left machines on: reservation %s takes them back", one)
    return made


def take_back_left(settings: Settings, state: StateFolder) -> None:
    """Start processes that take back what killed nights and trials left on, but for what somebody has now.

    Raises DatabaseUnavailable, OSError.
    """
    reservations = open_reservations(settings)
    hand_over_left(state, reservations)
    spawn = in_background(settings)
    for one in Work(reservations, "perfci").left_by_nights():
        spawn(["tick", "--work", one])
