"""Which state may follow which, and when a reservation is ready: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfci.lab.reservations.model import BookingState

if TYPE_CHECKING:
    from collections.abc import Iterable

NEXT: dict[BookingState, frozenset[BookingState]] = {
    BookingState.ASKED: frozenset({BookingState.WAITING, BookingState.OVER}),
    BookingState.WAITING: frozenset({BookingState.ASKED, BookingState.PREPARING, BookingState.OVER}),
    # Back to the queue where its nodes broke and no others are free.
    BookingState.PREPARING: frozenset(
        {BookingState.READY, BookingState.WAITING, BookingState.ASKED, BookingState.ENDING, BookingState.OVER}
    ),
    # Another node has come in for one that broke: it is prepared first.
    BookingState.READY: frozenset({BookingState.PREPARING, BookingState.ENDING, BookingState.OVER}),
    BookingState.ENDING: frozenset({BookingState.RECLAIMING, BookingState.OVER}),
    BookingState.RECLAIMING: frozenset({BookingState.OVER}),
    BookingState.OVER: frozenset(),
}
OPEN = frozenset({BookingState.ASKED, BookingState.WAITING, BookingState.PREPARING, BookingState.READY})
"""The states in which nodes are, or will be, its holder's."""
SMOKE = "smoke"
"""The step of a cloud: it was deployed, and a server has booted in it."""


def may_follow(before: BookingState, after: BookingState) -> bool:
    """Tell whether a reservation may go from one state to another; staying is always allowed."""
    return before is after or after in NEXT[before]


def steps_before_ready(*, has_bmc: bool, cloud: str) -> tuple[str, ...]:
    """Return what must have passed on a node before its reservation is ready, in this order.

    A machine without a BMC can't be provisioned: there is nothing to do on it unless a cloud is wanted.
    """
    steps = ("power", "provision", "canary") if has_bmc else ()
    return (*steps, SMOKE) if cloud else steps


def is_ready(wanted: dict[str, tuple[str, ...]], outcomes: Iterable[tuple[str, str, bool]]) -> bool:
    """Tell whether every node has passed all its steps, in their order, with nothing failed since.

    `wanted` has the steps of each node, `outcomes` are (node, step, passed) in the order in which they were
    seen. A step that fails takes back all that passed on that node before; one that comes before its turn
    does not count.
    """
    done = dict.fromkeys(wanted, 0)
    for node, step, passed in outcomes:
        if node not in wanted:
            continue
        if not passed:
            done[node] = 0
        elif step in wanted[node][: done[node]]:
            # Done again: what followed must be done again as well.
            done[node] = wanted[node].index(step) + 1
        elif done[node] < len(wanted[node]) and wanted[node][done[node]] == step:
            done[node] += 1
    return all(done[node] == len(steps) for node, steps in wanted.items())
