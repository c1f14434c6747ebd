"""Simulated BMCs for the tests of whatever talks to BMCs: in the test's own loop, or in a thread."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from perfci.lab.bmc.base import Target
from perfci.lab.virtual.ipmi import BootFlags, Faults, SessionLimits, VirtualBmc
from perfci.lab.virtual.null import NullMachine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

USERNAME, PASSWORD = "perfci", "s3cret-of-bmc"
QUICK = SessionLimits(sessions=4, reset_seconds=0.3, cycle_seconds=0.05)


@dataclass
class Simulated:
    """A BMC with its machine, and how it is reached."""

    bmc: VirtualBmc
    machine: NullMachine
    boot: BootFlags
    target: Target


@asynccontextmanager
async def simulated(
    node: str = "node-1",
    *,
    limits: SessionLimits = QUICK,
    console: object = None,
    power_seconds: float = 0.1,
    username: str = USERNAME,
    listens: str = "127.0.0.1",
    **faults: object,
) -> AsyncIterator[Simulated]:
    """Start one BMC on a free port; it is gone when the context ends.

    Its machine is given `power_seconds` to switch, which it does at once unless a fault makes it slow.
    """
    boot = BootFlags()
    machine = NullMachine(boot.next_boot)
    credentials = {username: PASSWORD.encode()}
    bmc = VirtualBmc(
        node, credentials, machine, boot=boot, faults=Faults(**faults), limits=limits, console=console
    )
    await bmc.listen(listens, 0)
    address, port = bmc.address[:2]
    try:
        target = Target(node, address, username, PASSWORD, port=port, power_seconds=power_seconds)
        yield Simulated(bmc, machine, boot, target)
    finally:
        await bmc.close()


def with_wrong_password(target: Target) -> Target:
    return replace(target, password="wrong")


class Thread:
    """BMCs in a loop of their own, for tests of programs that have none."""

    def __init__(self, *nodes: str, limits: SessionLimits = QUICK) -> None:
        self._nodes, self._limits = nodes, limits
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self.bmcs: dict[str, Simulated] = {}

    def call(self, function: Callable[[], object]) -> object:
        """Call something in the BMCs' thread."""

        async def called() -> object:
            return function()

        return asyncio.run_coroutine_threadsafe(called(), self._loop).result(10)

    def faults(self, node: str, **faults: object) -> None:
        """Set faults of a node."""
        self.call(lambda: self.bmcs[node].bmc.faults.change(faults))

    def sessions(self) -> int:
        """Count the open sessions of all BMCs."""
        return self.call(lambda: sum(one.bmc.sessions for one in self.bmcs.values()))

    @contextmanager
    def running(self) -> Iterator[Thread]:
        """Run them."""
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        try:
            assert self._ready.wait(10)
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join(10)
            self._loop.close()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        async with asyncio.TaskGroup() as group:
            started = [asyncio.Event() for _ in self._nodes]
            for node, event in zip(self._nodes, started, strict=True):
                group.create_task(self._one(node, event))
            for event in started:
                await event.wait()
            self._ready.set()

    async def _one(self, node: str, started: asyncio.Event) -> None:
        async with simulated(node, limits=self._limits) as one:
            self.bmcs[node] = one
            started.set()
            await self._stop.wait()
