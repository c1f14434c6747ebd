"""Whether anybody works on the nodes of a reservation: a look at their load and terminals."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from perfci.lab.reservations.idle import LOOK_EVERY, Looks
from perfci.runs.tick.node_playbooks import ACTIVITY, NodePlaybooks, folder_of

if TYPE_CHECKING:
    from pathlib import Path

    from perfci.config import Settings
    from perfci.lab.model import Node
    from perfci.lab.reservations.service import Reservations
    from perfci.runs.tick.node_playbooks import Play

BUSY = 0.1
"""Load of the last 15 minutes per core that counts as work; a cloud without users needs less."""


def works(text: str) -> bool:
    """Tell from what playbooks/activity.yml has seen on a node whether somebody works there.

    That is a terminal on which something was typed since the look before, or load. What can't be read counts
    as work: nobody loses nodes because perfci can't see.
    """
    numbers: dict[str, list[float]] = {}
    try:
        for line in text.splitlines():
            name, number = line.split()
            numbers.setdefault(name, []).append(float(number))
        (now,), (cores,), (load,) = numbers["now"], numbers["cores"], numbers["load"]
    except (ValueError, KeyError):
        return True
    typed = max(numbers.get("terminal", ()), default=0.0)
    return load / max(1.0, cores) >= BUSY or now - typed <= 2 * LOOK_EVERY.total_seconds()


def look_at(
    settings: Settings,
    reservations: Reservations,
    nodes: tuple[Node, ...],
    reservation_id: str,
    worker: str,
    *,
    play: Play | None = None,
) -> bool:
    """Look at the machines of a reservation, write down whether somebody works there, and return it."""
    booking = reservations.show(reservation_id)
    folder = folder_of(settings, booking.id) / ACTIVITY
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    machines = reservations.machines(booking.nodes)
    run = play or NodePlaybooks(settings, nodes, threading.Event(), booking).play
    failed = run(ACTIVITY, machines, f"reservation {booking.id} of {booking.holder}")
    active = bool(failed) or any(_works_on(folder / name) for name in machines)
    Looks(reservations, worker).seen(booking.id, active=active)
    return active


def _works_on(file: Path) -> bool:
    try:
        return works(file.read_text(encoding="ascii", errors="replace"))
    except FileNotFoundError:
        return True
