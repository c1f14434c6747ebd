"""The chassis: how Chassis Control reaches the machine, and what the event log says of it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from enum import IntEnum
from typing import TYPE_CHECKING

from perfci.lab.virtual.ipmi.completion import CommandRefused, Completion
from perfci.lab.virtual.ipmi.events import BmcEvent
from perfci.lab.virtual.machine import MachineBroken

if TYPE_CHECKING:
    from perfci.lab.virtual.ipmi.events import EventLog
    from perfci.lab.virtual.ipmi.faults import Faults
    from perfci.lab.virtual.machine import Machine


class ChassisOrder(IntEnum):
    """Chassis Control (28.3); the diagnostic interrupt is not offered."""

    OFF = 0
    ON = 1
    CYCLE = 2
    RESET = 3
    SOFT = 5


class PowerSwitch:
    """Switches one machine, one order at a time; an order meanwhile is refused as "node busy".

    A cycle is answered once the machine is off; it comes on again by itself, unless another order
    to switch comes first. With `faults.switch_seconds`, on and off are answered at once and obeyed later.
    """

    def __init__(self, machine: Machine, faults: Faults, events: EventLog, cycle_seconds: float) -> None:
        self._machine = machine
        self._faults = faults
        self._events = events
        self._cycle_seconds = cycle_seconds
        self._busy = False
        self._cycle: asyncio.TimerHandle | None = None
        self._return: asyncio.Task[None] | None = None
        self._late: asyncio.TimerHandle | None = None
        self.broken: MachineBroken | None = None
        """Why the machine did not obey the last order; None when it did."""

    @property
    def is_on(self) -> bool:
        """Whether the machine has power."""
        return self._machine.is_on

    async def order(self, order: ChassisOrder) -> None:
        """Obey. Raises `CommandRefused`: busy, not possible in this state, or the machine is broken."""
        if self._busy:
            raise CommandRefused(Completion.NODE_BUSY)
        if order in {ChassisOrder.CYCLE, ChassisOrder.RESET} and not self.is_on:
            raise CommandRefused(Completion.NOT_IN_THIS_STATE)
        self._forget_cycle()
        if self._faults.switch_seconds and order in {ChassisOrder.ON, ChassisOrder.OFF}:
            loop = asyncio.get_running_loop()
            self._late = loop.call_later(self._faults.switch_seconds, self._begin, order)
            return
        await self._carry_out(order)

    async def _carry_out(self, order: ChassisOrder) -> None:
        self._busy = True
        try:
            await self._obey(order)
            self.broken = None
        except MachineBroken as error:
            self.broken = error
            raise CommandRefused(Completion.NOT_IN_THIS_STATE) from None
        finally:
            self._busy = False

    async def cut(self) -> None:
        """Take the mains away. Raises `MachineBroken`."""
        self._forget_cycle()
        await self._machine.power_off()

    async def stop(self) -> None:
        """Leave the machine as it is now, also in the middle of a cycle."""
        self._forget_cycle()
        if self._return:
            self._return.cancel()
            await asyncio.wait([self._return])

    async def _obey(self, order: ChassisOrder) -> None:
        if order is ChassisOrder.ON:
            await self._switch_on()
        elif order is ChassisOrder.OFF:
            await self._switch_off(BmcEvent.POWER_OFF)
        elif order is ChassisOrder.SOFT:
            await self._machine.shut_down()
        elif order is ChassisOrder.RESET:
            await self._machine.reset()
            self._events.note(BmcEvent.HARD_RESET)
        else:
            await self._switch_off(BmcEvent.POWER_CYCLE)
            loop = asyncio.get_running_loop()
            self._cycle = loop.call_later(self._cycle_seconds, self._begin, ChassisOrder.ON)

    def _begin(self, order: ChassisOrder) -> None:
        """Begin an order that nobody waits for."""
        self._cycle = self._late = None
        self._return = asyncio.create_task(self._unanswered(order))

    async def _unanswered(self, order: ChassisOrder) -> None:
        with suppress(CommandRefused):  # why is kept in `broken`
            if not self._busy:
                await self._carry_out(order)

    async def _switch_on(self) -> None:
        if self.is_on or self._faults.power_on_never:
            return
        await self._machine.power_on()
        self._events.note(BmcEvent.POWER_ON)

    async def _switch_off(self, event: BmcEvent) -> None:
        if not self.is_on:
            return
        await self._machine.power_off()
        self._events.note(event)

    def _forget_cycle(self) -> None:
        for timer in (self._cycle, self._late):
            if timer:
                timer.cancel()
        self._cycle = self._late = None
