"""Orders whose effect is looked at: on means that the BMC *says* on."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, repeat
from typing import TYPE_CHECKING

from perfci.lab.bmc.base import BootOrder, Power, PowerOrder
from perfci.lab.bmc.errors import (
    BmcDeadline,
    BmcIneffective,
    BmcRefused,
    BmcRightsMissing,
    ShutdownIgnored,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from perfci.lab.bmc.base import Bmc, Connect, Target

TALK_SECONDS = 60.0
"""How long the talk with a BMC may take beside the waiting for its machine, with some packets lost."""
LAST_SECONDS = 1.0
"""So long before the deadline the waiting ends, so that the session is closed in time."""
SHUTDOWN_SECONDS = 120.0
"""How long a system may take to shut itself down."""
_POLLS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5)
_SLOW_POLL = 1.0


@dataclass(frozen=True, slots=True)
class Order:
    """What is wanted of a node; None leaves it as it is. With neither, its power is only read.

    With `alone`, everybody else's sessions with the BMC are ended first, and open consoles with them, as far
    as the BMC lets us.
    """

    power: PowerOrder | None = None
    boot: BootOrder | None = None
    alone: bool = False

    def deadline_seconds(self, power_seconds: float) -> float:
        """Return how long it may take at most, of a machine that may take so long to switch once."""
        if self.power is PowerOrder.SOFT:
            return TALK_SECONDS + max(SHUTDOWN_SECONDS, power_seconds)
        switches = {None: 0, PowerOrder.CYCLE: 2}.get(self.power, 1)
        return TALK_SECONDS + switches * power_seconds


@dataclass(frozen=True, slots=True)
class State:
    """What the BMC says; `boot` is None where it was not asked."""

    power: Power
    boot: BootOrder | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """A node before and after. `changed` where an order was given (or would be: dry run)."""

    before: State
    after: State
    changed: bool


async def carry_out(
    target: Target,
    order: Order,
    *,
    connect: Connect,
    dry_run: bool = False,
    shutdown_seconds: float = SHUTDOWN_SECONDS,
    within_seconds: float = math.inf,
    saw: Callable[[Power], None] = lambda _: None,
) -> Done:
    """Bring a node to what is ordered, in one session; what is so already is left alone.

    `saw` hears of the power that was found. Raises a kind of BmcError: BmcIneffective where the BMC said ok
    and the machine did not switch in its `power_seconds`; BmcDeadline where `within_seconds` were over first.
    """
    wait = _Wait(target, asyncio.get_running_loop().time() + within_seconds - LAST_SECONDS)
    shutdown_seconds = max(shutdown_seconds, target.power_seconds)
    async with connect(target) as bmc:
        power = await bmc.power()
        saw(power)
        if order.alone and not dry_run:
            with suppress(BmcRefused, BmcRightsMissing):  # an operator may not do that everywhere
                await bmc.close_other_sessions()
        boot = await bmc.boot() if order.boot else None
        new_boot = boot
        if order.boot and boot != order.boot:
            new_boot = order.boot if dry_run else await _set_boot(target, bmc, order.boot)
        before = State(power, boot)
        goal = _goal(order.power, before.power)
        cycled = order.power is PowerOrder.CYCLE and before.power is Power.ON
        changed = boot != new_boot or cycled or goal is not before.power
        if not dry_run:
            if cycled:
                await wait.bring(bmc, PowerOrder.OFF, target.power_seconds)
            if order.power is not None and (cycled or goal is not before.power):
                soft = order.power is PowerOrder.SOFT
                press = PowerOrder.ON if order.power is PowerOrder.CYCLE else order.power
                await wait.bring(bmc, press, shutdown_seconds if soft else target.power_seconds)
        return Done(before, State(goal, new_boot), changed)


def _goal(order: PowerOrder | None, power: Power) -> Power:
    """Return the power that an order leads to."""
    if order is None:
        return power
    return Power.ON if order in {PowerOrder.ON, PowerOrder.CYCLE} else Power.OFF


async def _set_boot(target: Target, bmc: Bmc, order: BootOrder) -> BootOrder:
    await bmc.set_boot(order)
    found = await bmc.boot()
    if found != order:
        raise BmcIneffective(node=target.node, order=f"boot from {order}", seconds=0, found=str(found))
    return found


@dataclass(frozen=True, slots=True)
class _Wait:
    """Orders power and waits for it, until a time of the loop's clock at most."""

    target: Target
    end: float

    async def bring(self, bmc: Bmc, order: PowerOrder, seconds: float) -> None:
        """Give a power order and wait until the BMC says that it happened."""
        wanted = _goal(order, Power.OFF)
        node = self.target.node
        await bmc.press(order)
        left = self.end - asyncio.get_running_loop().time()
        if await _until(bmc, wanted, min(seconds, left)):
            return
        if left < seconds:
            reason = f"the machine may take {seconds:g} s to switch, and there was no time for that"
            raise BmcDeadline(node=node, seconds=max(left, 0), reason=reason, waiting=True)
        if order is PowerOrder.SOFT:
            raise ShutdownIgnored(node=node, seconds=seconds)
        raise BmcIneffective(node=node, order=f"power {order}", seconds=seconds, found=str(_other(wanted)))


async def _until(bmc: Bmc, wanted: Power, seconds: float) -> bool:
    clock: Callable[[], float] = asyncio.get_running_loop().time
    end = clock() + seconds
    for pause in chain(_POLLS, repeat(_SLOW_POLL)):
        await asyncio.sleep(pause)
        if await bmc.power() is wanted:
            return True
        if clock() >= end:
            break
    return False


def _other(power: Power) -> Power:
    return Power.OFF if power is Power.ON else Power.ON
