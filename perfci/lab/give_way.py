"""Leases that give way: work in the nodes' free time ends at once when somebody else wants the nodes.

A lease says by its purpose that it gives way. Who wants its nodes asks its process to stop (SIGTERM) and
waits until they are free; the process ends its run as it does for Ctrl-C, and gives the nodes back. Between
two that give way the first one keeps the nodes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from perfci.lab import owners
from perfci.lab.errors import NodesBusy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perfci.lab.model import Owner, Reservation

GIVES_WAY = " (gives way)"
"""How the purpose of a lease ends that others may end."""
SECONDS = 300.0
"""How long one waits for nodes that are being given back."""
_PAUSE = 0.5


def ask(busy: NodesBusy) -> tuple[Reservation, ...]:
    """Ask those who hold the nodes to give them back; return whom, nobody where not all of them give way.

    A process of another host can't be asked.
    """
    asked = busy.reservations
    if not asked or not all(_may_be_asked(one) for one in asked):
        return ()
    for one in asked:
        if one.owner is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.owner.pid, signal.SIGTERM)
    return asked


def _may_be_asked(reservation: Reservation) -> bool:
    owner = reservation.owner
    return reservation.purpose.endswith(GIVES_WAY) and owner is not None and _lives_here(owner)


def _lives_here(owner: Owner) -> bool:
    """Tell whether the very process runs on this host: another one may have got its number."""
    return owner.host == owners.me().host and not owners.dead([owner])


def taken(
    take: Callable[[], Reservation], *, gives_way: bool = False, seconds: float = SECONDS
) -> Reservation:
    """Return what `take` takes; where somebody who gives way holds the nodes, after they are given back.

    Raises what `take` raises; NodesBusy where nobody gives way, or the nodes are not back within `seconds`.
    """
    until: float | None = None
    while True:
        try:
            return take()
        except NodesBusy as busy:
            if until is None:
                if gives_way or not ask(busy):
                    raise
                until = time.monotonic() + seconds
            elif time.monotonic() > until:
                raise
            time.sleep(_PAUSE)


@contextmanager
def lease(
    hold: Callable[[], contextlib.AbstractContextManager[Reservation]], *, gives_way: bool = False
) -> Iterator[Reservation]:
    """Hold nodes as `hold` does, once those who give way have given them back. Raises as `taken`."""
    with ExitStack() as stack:
        yield taken(lambda: stack.enter_context(hold()), gives_way=gives_way)
