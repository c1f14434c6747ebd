"""The work on one reservation: its machines get their system and a canary, or are taken back."""

from __future__ import annotations

import shutil
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from perfci.errors import PerfciError
from perfci.lab.errors import ControllerUnprepared
from perfci.lab.reservations.model import BookingState, Wipe
from perfci.lab.reservations.node_orders import NodeOrders
from perfci.lab.reservations.states import SMOKE
from perfci.lab.reservations.wiping import WIPED
from perfci.lab.reservations.work import CLAIM_SECONDS, Work
from perfci.runs.tick.node_playbooks import CLOUD, LOGIN, RECLAIMS, NodePlaybooks, folder_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from perfci.config import Settings
    from perfci.lab.model import Node
    from perfci.lab.reservations.model import Booking
    from perfci.lab.reservations.service import Reservations
    from perfci.runs.tick.node_playbooks import Play

MOST_DEPLOYMENTS = 2
"""After so many deployments that failed a reservation ends: its cloud can't be had."""


def work_on(
    settings: Settings,
    reservations: Reservations,
    nodes: tuple[Node, ...],
    reservation_id: str,
    worker: str,
    *,
    play: Play | None = None,
) -> Booking | None:
    """Do what is to be done for a reservation, and return it; None where another controller does it."""
    work = Work(reservations, worker)
    booking = work.claim(reservation_id)
    if booking is None:
        return None
    stop = threading.Event()
    run = play or NodePlaybooks(settings, nodes, stop, booking).play
    with _kept(work, reservation_id, stop):
        if booking.state is BookingState.PREPARING:
            return _prepare(work, reservations, booking, run)
        _reclaim(work, reservations, booking, run)
        # The access to its cloud.
        shutil.rmtree(folder_of(settings, reservation_id), ignore_errors=True)
        return reservations.show(reservation_id)


def let_in(
    settings: Settings,
    reservations: Reservations,
    nodes: tuple[Node, ...],
    reservation_id: str,
    worker: str,
    *,
    play: Play | None = None,
) -> dict[str, str]:
    """Put the SSH keys of a reservation on its machines; return those that failed, with the words.

    One that fails is not tried again: its holder sees it in the history, and may change the keys once more.
    """
    booking = reservations.show(reservation_id)
    names = reservations.machines(booking.nodes)
    if booking.state is not BookingState.READY:
        return {}
    run = play or NodePlaybooks(settings, nodes, threading.Event(), booking).play
    failed = run(LOGIN, names, f"reservation {booking.id} of {booking.holder}") if names else {}
    fine = ", ".join(name for name in names if name not in failed) or "none"
    words = "; ".join(dict.fromkeys(failed.values()))
    Work(reservations, worker).logins_set(booking, f"on {fine}; {words}" if failed else f"on {fine}")
    return failed


def _prepare(work: Work, reservations: Reservations, booking: Booking, play: Play) -> Booking | None:
    """Prepare machine after machine, until all that the reservation has then are ready, or none is left."""
    orders, reason = NodeOrders(reservations), f"reservation {booking.id} of {booking.holder}"
    current: Booking | None = booking
    while current is not None and current.state is BookingState.PREPARING:
        unprepared = work.unprepared(current)
        if not unprepared:
            return work.ready(booking.id)
        machines = reservations.machines(unprepared)
        try:
            failed = _systems(orders, current, play, names=machines, owed=work.wipes_owed(machines))
        except ControllerUnprepared as error:
            work.put_off(booking.id, str(error))
            return reservations.show(booking.id)
        for name, words in failed.items():
            current = work.without(booking.id, name, words)
            if current is None or current.state is not BookingState.PREPARING or name in current.nodes:
                # Nothing else fits: the next controller tries again, or the queue has it.
                work.give_up(booking.id)
                return current
        current = reservations.show(booking.id)
        if failed or not current.cloud:
            continue
        failed = play(CLOUD, current.nodes, reason)
        # A cloud is one thing on all its nodes: where it fails, none of them has it.
        words = "; ".join(dict.fromkeys(failed.values()))
        _note(
            orders, booking.id, current.nodes, dict.fromkeys(current.nodes, words) if failed else {}, (SMOKE,)
        )
        if failed and work.failed_deployments(current) >= MOST_DEPLOYMENTS:
            return work.end(booking.id, "cloud failed", words)
    return current


def _systems(
    orders: NodeOrders,
    booking: Booking,
    play: Play,
    *,
    names: tuple[str, ...],
    owed: Mapping[str, Wipe],
) -> dict[str, str]:
    """Give machines their system and run their canaries; return those that failed, with the words.

    Disks of those in `owed` are wiped first.
    """
    if not names:
        return {}
    reason = f"reservation {booking.id} of {booking.holder}"
    # Somebody who asked for that had them just before.
    unwiped = {name: wipe for name, wipe in owed.items() if name in names}
    failed = _taken_back(orders, booking, play, reason, unwiped)
    fresh = tuple(name for name in names if name not in failed)
    provisioned = play("provision", fresh, reason) if fresh else {}
    _note(orders, booking.id, fresh, provisioned, ("power", "provision"))
    failed |= provisioned
    fine = tuple(name for name in names if name not in failed)
    if fine:
        slow = play("check", fine, reason)
        _note(orders, booking.id, fine, slow, ("canary",))
        failed |= slow
    return failed


def _reclaim(work: Work, reservations: Reservations, booking: Booking, play: Play) -> None:
    """Take nodes back; a machine that fails is tried once more, and is in quarantine then."""
    orders, reason = NodeOrders(reservations), f"end of reservation {booking.id} of {booking.holder}"
    nodes = work.to_reclaim(booking)
    machines = reservations.machines(nodes)
    owed = work.wipes_owed(machines)
    # Machines are switched off, with whatever runs on them; on others the cloud is stopped.
    left = {name: owed.get(name, Wipe.NONE) for name in machines}
    others = tuple(name for name in nodes if name not in machines)
    for _ in range(2):
        failed = _taken_back(orders, booking, play, reason, left)
        left = {name: left[name] for name in failed}
        if others:
            failed = play("teardown", others, reason)
            _note(orders, booking.id, others, failed, ("reclaim",))
            others = tuple(failed)
    work.reclaimed(booking.id)


def _taken_back(
    orders: NodeOrders, booking: Booking, play: Play, reason: str, machines: Mapping[str, Wipe]
) -> dict[str, str]:
    """Take machines back, each with as much of its disk wiped as is said; return those that failed."""
    failed: dict[str, str] = {}
    for wipe in Wipe:
        names = tuple(name for name, wanted in machines.items() if wanted is wipe)
        if not names:
            continue
        here = play(RECLAIMS[wipe], names, reason)
        _note(orders, booking.id, names, here, ("reclaim",) if wipe is Wipe.NONE else (WIPED, "reclaim"))
        failed |= here
    return failed


def _note(
    orders: NodeOrders,
    booking_id: str,
    names: tuple[str, ...],
    failed: dict[str, str],
    steps: tuple[str, ...],
) -> None:
    """Write down how steps on nodes ended: of one that failed the last step only."""
    if fine := [name for name in names if name not in failed]:
        orders.passed(fine, steps, reservation_id=booking_id)
    for name in names:
        if name in failed:
            orders.note(name, steps[-1], ok=False, reservation_id=booking_id, detail=failed[name])


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
