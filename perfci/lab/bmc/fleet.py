"""Hundreds of BMCs at once, from one process and one thread.

Each node has a deadline of its own, the whole has one, and each node's outcome is told by itself: what
one BMC does is never another's failure.
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from perfci.errors import PerfciError
from perfci.lab.bmc.errors import BmcDeadline

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator

    from perfci.lab.bmc.base import Target

Done = TypeVar("Done")

CONCURRENCY = 128
"""The processor is the limit: 16 at once take as long as 512. It must only leave room beside those that hang,
and stay far below the number of files that a process may open."""
DEADLINE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class FleetLimits:
    """What an operation on a fleet may take."""

    deadline_seconds: float = DEADLINE_SECONDS
    """For one node, from its begin."""
    whole_seconds: float | None = None
    """For all of them; None: as long as the nodes' own deadlines let it."""
    concurrency: int = CONCURRENCY


@dataclass(frozen=True, slots=True)
class NodeResult(Generic[Done]):
    """What came of one node: a value or an error."""

    node: str
    seconds: float
    value: Done | None = None
    error: PerfciError | None = None

    @property
    def ok(self) -> bool:
        """Whether it was done."""
        return self.error is None


async def each(
    targets: Iterable[Target],
    work: Callable[[Target], Awaitable[Done]],
    *,
    limits: FleetLimits,
    tell: Callable[[NodeResult[Done]], None] = lambda _: None,
) -> dict[str, NodeResult[Done]]:
    """Do the work for each target; return the outcomes by the names of the nodes, in the targets' order.

    `tell` hears of each node as it ends. Errors of perfci's become outcomes; what is not begun or not done
    when a deadline is over becomes a BmcDeadline.
    """
    waiting = list(targets)
    found: dict[str, NodeResult[Done]] = {}
    clock = asyncio.get_running_loop().time
    end = clock() + limits.whole_seconds if limits.whole_seconds is not None else None
    queue = iter(waiting)

    async def work_off() -> None:
        for target in queue:
            outcome = await _one(target, work, limits.deadline_seconds, end)
            found[target.node] = outcome
            tell(outcome)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(limits.concurrency, len(waiting))):
            group.create_task(work_off())
    return {target.node: found[target.node] for target in waiting}


async def _one(
    target: Target, work: Callable[[Target], Awaitable[Done]], seconds: float, end: float | None
) -> NodeResult[Done]:
    clock = asyncio.get_running_loop().time
    begun = clock()
    error: PerfciError
    if end is not None and begun >= end:
        error = BmcDeadline(node=target.node, seconds=0, reason="the time for all nodes was over")
        return NodeResult(target.node, 0.0, error=error)
    scope = asyncio.timeout_at(min(begun + seconds, end) if end is not None else begun + seconds)
    try:
        async with scope:
            return NodeResult(target.node, value=await work(target), seconds=clock() - begun)
    except TimeoutError:
        if not scope.expired():
            raise
        took = clock() - begun
        error = BmcDeadline(node=target.node, seconds=took, reason="the time was over")
    except PerfciError as told:
        error = told
    return NodeResult(target.node, clock() - begun, error=error)


def run(work: Coroutine[Any, Any, Done]) -> Done:
    """Run it to its end; a TERM ends it as Ctrl-C does (KeyboardInterrupt), with all sessions closed."""

    async def interruptible() -> Done:
        with _interrupted_by(signal.SIGTERM):
            return await work

    try:
        return asyncio.run(interruptible())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


@contextmanager
def _interrupted_by(number: signal.Signals) -> Iterator[None]:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101  (a coroutine that runs is in a task)
    loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(number)
