"""The work on one reservation: its machines get their system and a canary, or are taken back."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from perfci.errors import PerfciError
from perfci.lab.reservations.model import BookingState
from perfci.lab.reservations.node_orders import NodeOrders
from perfci.lab.reservations.work import CLAIM_SECONDS, Work
from perfci.runs.ansible.lab_playbooks import node_playbooks
from perfci.runs.ansible.playbook import PlaybookFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perfci.config import Settings
    from perfci.lab.model import Node
    from perfci.lab.reservations.model import Booking
    from perfci.lab.reservations.service import Reservations

PREPARE_SECONDS = 3600.0
CHECK_SECONDS = 600.0
RECLAIM_SECONDS = 900.0
_NEEDED = {"provision": ("supplies", "provision")}
"""The playbooks that one needs before it, with itself."""


class NodePlaybooks:
    """Runs the project's playbooks on some nodes, and says which of them failed."""

    def __init__(self, settings: Settings, nodes: tuple[Node, ...], stop: threading.Event) -> None:
        self._settings = settings
        self._nodes = nodes
        self._stop = stop

    def play(self, playbook: str, names: tuple[str, ...], reason: str) -> dict[str, str]:
        """Return the nodes that failed, each with the words; where nobody can say which, all of them.

        Raises Interrupted.
        """
        chosen = [node for node in self._nodes if node.name in names]
        books = node_playbooks(self._settings, chosen, self._stop)
        limits = {"provision": PREPARE_SECONDS, "check": CHECK_SECONDS}
        # The book says that the nodes are the holder's: that is for whom this is done, and it is recorded.
        variables = {"provision_force": True, "provision_reason": reason, "provision_nodes": ",".join(names)}
        log = self._settings.state_dir / "logs" / f"{playbook}-{'-'.join(names)[:80]}.log"
        try:
            for name in _NEEDED.get(playbook, (playbook,)):
                books.run(
                    name,
                    log=log,
                    limit_seconds=limits.get(playbook, RECLAIM_SECONDS),
                    variables=variables,
                )
        except PlaybookFailed as error:
            return failed_nodes(names, str(error))
        except PerfciError as error:
            if self._stop.is_set():
                raise
            return dict.fromkeys(names, str(error))
        return {}


def failed_nodes(names: tuple[str, ...], text: str) -> dict[str, str]:
    """Return the nodes that a playbook's error names, at the begin of a line or as the host; else all."""
    found = {}
    for name in names:
        told = [line for line in text.splitlines() if line.strip().startswith(f"{name}: ")]
        if told or f" on {name}: " in text:
            found[name] = told[0].strip() if told else text.splitlines()[0]
    return found or dict.fromkeys(names, text.splitlines()[0])


def work_on(
    settings: Settings,
    reservations: Reservations,
    nodes: tuple[Node, ...],
    reservation_id: str,
    worker: str,
    *,
    play: Callable[[str, tuple[str, ...], str], dict[str, str]] | None = None,
) -> Booking | None:
    """Do what is to be done for a reservation, and return it; None where another controller does it."""
    work = Work(reservations, worker)
    booking = work.claim(reservation_id)
    if booking is None:
        return None
    stop = threading.Event()
    run = play or NodePlaybooks(settings, nodes, stop).play
    with _kept(work, reservation_id, stop):
        if booking.state is BookingState.PREPARING:
            return _prepare(work, reservations, booking, run)
        _reclaim(work, reservations, booking, run)
        return reservations.show(reservation_id)


def _prepare(
    work: Work,
    reservations: Reservations,
    booking: Booking,
    play: Callable[[str, tuple[str, ...], str], dict[str, str]],
) -> Booking | None:
    """Prepare machine after machine, until all that the reservation has then are ready, or none is left."""
    orders, reason = NodeOrders(reservations), f"reservation {booking.id} of {booking.holder}"
    current: Booking | None = booking
    while current is not None and current.state is BookingState.PREPARING:
        machines = reservations.machines(work.unprepared(current))
        if not machines:
            return work.ready(booking.id)
        failed = play("provision", machines, reason)
        _note(orders, booking.id, machines, failed, ("power", "provision"))
        fine = tuple(name for name in machines if name not in failed)
        if fine:
            slow = play("check", fine, reason)
            _note(orders, booking.id, fine, slow, ("canary",))
            failed |= slow
        for name, words in failed.items():
            current = work.without(booking.id, name, words)
            if current is None or current.state is not BookingState.PREPARING or name in current.nodes:
                # Nothing else fits: the next controller tries again, or the queue has it.
                work.give_up(booking.id)
                return current
        current = reservations.show(booking.id)
    return current


def _reclaim(
    work: Work,
    reservations: Reservations,
    booking: Booking,
    play: Callable[[str, tuple[str, ...], str], dict[str, str]],
) -> None:
    """Take machines back; one that fails is tried once more, and is in quarantine then."""
    orders, reason = NodeOrders(reservations), f"end of reservation {booking.id} of {booking.holder}"
    machines = work.machines_to_reclaim(booking)
    for _ in range(2):
        if not machines:
            break
        failed = play("reclaim", machines, reason)
        _note(orders, booking.id, machines, failed, ("reclaim",))
        machines = tuple(failed)
    work.reclaimed(booking.id)


def _note(
    orders: NodeOrders,
    booking_id: str,
    names: tuple[str, ...],
    failed: dict[str, str],
    steps: tuple[str, ...],
) -> None:
    """Write down how steps on nodes ended: of one that failed the last step only."""
    for name in names:
        for step in steps[-1:] if name in failed else steps:
            orders.note(
                name, step, ok=name not in failed, reservation_id=booking_id, detail=failed.get(name, "")
            )


@contextmanager
def _kept(work: Work, reservation_id: str, stop: threading.Event) -> Iterator[None]:
    """Keep the claim alive from a thread; where it is lost, stop the playbooks."""
    over = threading.Event()

    def keep() -> None:
        while not over.wait(CLAIM_SECONDS / 4):
            try:
                if not work.keep(reservation_id):
                    stop.set()
                    return
            except PerfciError:
                continue  # the database does not answer: the claim still lasts for a while

    thread = threading.Thread(target=keep, name=f"claim {reservation_id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
