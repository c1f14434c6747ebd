"""Power, POST and reset: the same for all machines that run something."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol, TypeVar

from perfci.errors import PerfciError
from perfci.lab.virtual.machine import MachineBroken

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from perfci.lab.virtual.faults import MachineFaults
    from perfci.lab.virtual.machine import Boot, NextBoot

POST_SECONDS = 0.2
"""What a power-on self-test takes here; it also keeps a machine that resets at once from using up a CPU."""
REBOOT_LOOP_SECONDS = 5.0
"""How long a machine with the fault `reboot_loop` lasts."""

POLL_SECONDS = 0.05

_Result = TypeVar("_Result")

log = logging.getLogger(__name__)


class Ending(Enum):
    """How the system on a machine ended by itself."""

    RESET = auto()
    OFF = auto()


class Hardware(Protocol):
    """What a kind of machine is made of. All may raise PerfciError."""

    @property
    def stage(self) -> str:
        """Say what it does now, in a few words; "" before its first POST."""

    async def plug(self) -> None:
        """Make what the machine needs while it is on: its network card, its control group."""

    async def run(self, boot: Boot) -> Ending:
        """Boot, and run the system until it ends by itself. Cancelled when the power is cut."""

    async def press(self) -> bool:
        """Tell the system that somebody pressed the power button; return whether there is one to obey."""

    async def unplug(self) -> None:
        """End everything that runs on it, at once, and take away what `plug` made. Twice is fine."""

    async def scrap(self) -> None:
        """Remove its files."""


class PoweredMachine:
    """A `Machine` made of `Hardware`: takes orders one at a time, and starts anew what resets itself."""

    def __init__(
        self, name: str, hardware: Hardware, next_boot: NextBoot, faults: MachineFaults, log_file: Path
    ) -> None:
        self._name = name
        self._hardware = hardware
        self._next_boot = next_boot
        self._faults = faults
        self._log_file = log_file
        self._orders = asyncio.Lock()
        self._life: asyncio.Task[None] | None = None
        self._on = False

    @property
    def is_on(self) -> bool:
        """Tell whether it has power now."""
        return self._on

    @property
    def stage(self) -> str:
        """Say what it does, for the lab's status."""
        return (self._hardware.stage or "POST") if self._on else "off"

    async def power_on(self) -> None:
        """Switch on."""
        async with self._orders:
            if not self._on:
                await self._start("power on")

    async def power_off(self) -> None:
        """Cut the power."""
        async with self._orders:
            await self._cut("power off")

    async def shut_down(self) -> None:
        """Press the power button."""
        async with self._orders:
            # Without a system the firmware itself obeys.
            if self._on and not await self._obeyed("shut down", self._hardware.press()):
                await self._cut("shut down")

    async def reset(self) -> None:
        """Reset, if it is on."""
        async with self._orders:
            if self._on:
                await self._halt("reset")
                await self._start("reset")

    async def close(self) -> None:
        """Cut the power and remove everything that was made for it."""
        async with self._orders:
            await self._cut("be removed")
            await self._obeyed("be removed", self._hardware.scrap())

    async def _start(self, order: str) -> None:
        if self._life is not None:
            await asyncio.wait([self._life])  # one that turned itself off may still be clearing up
        await self._obeyed(order, self._hardware.plug())
        self._on = True
        self._life = asyncio.create_task(self._live(), name=f"{self._name} is on")

    async def _cut(self, order: str) -> None:
        self._on = False
        await self._halt(order)

    async def _halt(self, order: str) -> None:
        if self._life is not None:
            self._life.cancel()
            await asyncio.wait([self._life])
        await self._obeyed(order, self._hardware.unplug())

    async def _obeyed(self, order: str, doing: Awaitable[_Result]) -> _Result:
        try:
            return await doing
        except (PerfciError, OSError) as error:
            self._on = False
            log.exception("%s can't %s", self._name, order)
            raise MachineBroken(name=self._name, order=order, reason=error, log=self._log_file) from error

    async def _live(self) -> None:
        """Run from power-on until the system turns the power off. What can't run any more is off, too."""
        try:
            while await self._boot() is Ending.RESET:
                log.info("%s resets", self._name)
                await self._hardware.unplug()
                await self._hardware.plug()
            log.info("%s turned itself off", self._name)
        except (PerfciError, OSError):
            log.exception("%s failed", self._name)
        self._on = False
        with contextlib.suppress(PerfciError, OSError):
            await self._hardware.unplug()

    async def _boot(self) -> Ending:
        await asyncio.sleep(POST_SECONDS)
        boot = self._next_boot()
        log.info("%s boots from %s", self._name, boot.device)
        if not self._faults.reboot_loop:
            return await self._hardware.run(boot)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REBOOT_LOOP_SECONDS):
                return await self._hardware.run(boot)
        return Ending.RESET


async def unless(condition: Callable[[], bool], doing: Awaitable[Ending]) -> Ending:
    """Return what comes of `doing`; or, once the condition holds, end it: the power has failed."""
    task = asyncio.ensure_future(doing)
    try:
        while not task.done():
            await asyncio.wait([task], timeout=POLL_SECONDS)
            if condition():
                return Ending.OFF
        return task.result()
    finally:
        task.cancel()
        await asyncio.wait([task])
