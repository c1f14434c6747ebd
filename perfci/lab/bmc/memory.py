"""BMCs that live in this process: to try things out without any hardware, and for tests.

`Rack.connect` is used in place of `ipmi.connect`; a rack's machines are made as they are asked for.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from perfci.lab.bmc.base import BootOrder, Event, Power, PowerOrder, Reading, Restart
from perfci.lab.bmc.errors import BmcCredentialsWrong, BmcRefused, BmcSessionsFull, BmcSilent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from perfci.lab.bmc.base import Console, Target

SESSIONS = 4
"""How many sessions a cheap BMC has."""


@dataclass(slots=True)
class Sickness:
    """What ails a BMC; `heals_by` is the restart (or `outlet`) that makes it well."""

    hang: bool = False
    wrong_credentials: bool = False
    sessions_full: bool = False
    ok_without_effect: bool = False
    power_on_never: bool = False
    delay_seconds: float = 0.0
    heals_by: frozenset[str] = frozenset()


@dataclass(slots=True)
class MemoryBmc:
    """One BMC and its machine."""

    node: str
    on: bool = False
    order: BootOrder = field(default_factory=BootOrder)
    sickness: Sickness = field(default_factory=Sickness)
    lamp_seconds: int | None = 0
    sessions: int = 0
    opened: int = 0
    presses: list[PowerOrder] = field(default_factory=list)
    restarts: list[Restart] = field(default_factory=list)
    serial: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    stale_sessions: int = 0

    async def power(self) -> Power:
        """Say whether the machine is on."""
        await self._answer()
        return Power.ON if self.on else Power.OFF

    async def press(self, order: PowerOrder) -> None:
        """Give the order."""
        await self._answer()
        self.presses.append(order)
        if order is PowerOrder.CYCLE:
            raise BmcRefused(
                node=self.node, order="power cycle", reason="invalid field", code="code 0xcc", passing=False
            )
        if self.sickness.ok_without_effect or (order is PowerOrder.ON and self.sickness.power_on_never):
            return
        if order is PowerOrder.ON and not self.on and not self.order.persistent:
            self.order = BootOrder()
        self.on = order is PowerOrder.ON

    async def boot(self) -> BootOrder:
        """Say what was ordered; an order for once is used up by the next start."""
        await self._answer()
        return self.order

    async def set_boot(self, order: BootOrder) -> None:
        """Order it."""
        await self._answer()
        if not self.sickness.ok_without_effect:
            self.order = order

    async def identify(self, seconds: int | None) -> bool:
        """Remember it in `lamp_seconds`."""
        await self._answer()
        self.lamp_seconds = seconds
        return seconds is not None

    async def sensors(self) -> tuple[Reading, ...]:
        """Return one temperature."""
        await self._answer()
        return (Reading("Inlet", "Temperature", 21.0, "°C", (), "ok"),)

    async def events(self) -> tuple[Event, ...]:
        """Return an empty log."""
        await self._answer()
        return ()

    @asynccontextmanager
    async def console(self, *, take_over: bool = False) -> AsyncIterator[Console]:
        """Open a console that prints what is typed."""
        del take_over
        await self._answer()
        yield _Echo(self.serial)

    async def close_other_sessions(self) -> int:
        """Forget the stale ones."""
        await self._answer()
        closed, self.stale_sessions = self.stale_sessions, 0
        return closed

    async def restart(self, how: Restart) -> None:
        """Forget all stale sessions, and get well where this restart is the cure."""
        await self._answer()
        self.restarts.append(how)
        self.stale_sessions = 0
        self.cure(how)

    def cure(self, by: str) -> None:
        """Get well, where this helps."""
        if by in self.sickness.heals_by:
            self.sickness = Sickness()

    async def _answer(self) -> None:
        if self.sickness.delay_seconds:
            await asyncio.sleep(self.sickness.delay_seconds)
        if self.sickness.hang:
            raise BmcSilent(node=self.node, address="memory", reason="it fell silent", deaf=False)


class Rack:
    """BMCs by the names of their nodes."""

    def __init__(self, *, silence_seconds: float = 0.05) -> None:
        self.bmcs: dict[str, MemoryBmc] = {}
        self.silence_seconds = silence_seconds

    def bmc(self, node: str) -> MemoryBmc:
        """Return the BMC of a node."""
        return self.bmcs.setdefault(node, MemoryBmc(node))

    @asynccontextmanager
    async def connect(self, target: Target) -> AsyncIterator[MemoryBmc]:
        """Log in."""
        bmc = self.bmc(target.node)
        await self._greet(bmc, target)
        bmc.sessions += 1
        bmc.opened += 1
        try:
            yield bmc
        finally:
            bmc.sessions -= 1

    async def switch_outlet(self, target: Target) -> None:
        """Cut the power of a node and give it back: the machine is off, the BMC starts anew."""
        bmc = self.bmc(target.node)
        bmc.on, bmc.stale_sessions = False, 0
        bmc.cure("outlet")

    async def _greet(self, bmc: MemoryBmc, target: Target) -> None:
        sick = bmc.sickness
        # Also a healthy answer takes a turn of the loop: orders to many BMCs overlap as real ones do.
        await asyncio.sleep(self.silence_seconds if sick.hang else sick.delay_seconds)
        if sick.hang:
            raise BmcSilent(node=bmc.node, address=target.address, reason="no answer")
        if sick.wrong_credentials:
            raise BmcCredentialsWrong(
                node=bmc.node, address=target.address, username=target.username, reason="wrong password"
            )
        if sick.sessions_full or bmc.sessions + bmc.stale_sessions >= SESSIONS:
            raise BmcSessionsFull(node=bmc.node, address=target.address, reason="the table is full")


class _Echo:
    def __init__(self, serial: asyncio.Queue[bytes]) -> None:
        self._serial = serial

    async def read(self) -> bytes:
        return await self._serial.get()

    async def write(self, data: bytes) -> None:
        self._serial.put_nowait(data)
