"""What to do with a BMC that is sick, rung by rung.

`next_rung` decides and does nothing; `climb` does what it says, and tries the operation again after each
rung: firmwares say "ok" and do nothing, so nothing else shows that a rung has helped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, TypeVar

from perfci.errors import PerfciError
from perfci.lab.bmc.base import Power, PowerOrder, Restart, Rung
from perfci.lab.bmc.errors import BmcDeadline, BmcError, BmcUnreachable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perfci.lab.bmc.base import Connect, Target

Value = TypeVar("Value")
SwitchOutlet = Callable[["Target"], Awaitable[None]]


class Outlet(StrEnum):
    """Whether a node's mains may be switched."""

    NONE = "none"
    """The inventory names no outlet."""
    WITHHELD = "withheld"
    """The order has nothing to do with switching the machine off."""
    ALLOWED = "allowed"


_RESTARTS = {Rung.WARM_RESET: Restart.WARM, Rung.COLD_RESET: Restart.COLD}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is tried what."""

    attempt_seconds: float = 45.0
    """For the operation itself, each time."""
    backoff_seconds: tuple[float, ...] = (1.0, 5.0)
    """The waits before each plain retry."""
    rung_seconds: Mapping[Rung, float] = field(
        default_factory=lambda: {
            Rung.CLOSE_SESSIONS: 90.0,
            Rung.WARM_RESET: 90.0,
            Rung.COLD_RESET: 180.0,
            Rung.OUTLET: 240.0,
        }
    )
    """For each rung, until the BMC answers again; real ones take a minute or two to start. A BMC forgets a
    session that says nothing for a minute (6.12.15), so a full table is waited for longer than that."""
    poll_seconds: float = 1.0
    """How often a BMC that starts is looked for."""
    gone_seconds: float = 10.0
    """How long a BMC may go on answering after it was told to restart."""

    @property
    def whole_seconds(self) -> float:
        """How long the longest climb takes."""
        attempts = 1 + len(self.backoff_seconds) + len(self.rung_seconds)
        waits = sum(self.backoff_seconds) + sum(self.rung_seconds.values())
        return attempts * self.attempt_seconds + waits


@dataclass(frozen=True, slots=True)
class Step:
    """One rung: whether it went well by itself, and why it was needed."""

    node: str
    rung: Rung
    because: str
    ok: bool
    seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Climb(Generic[Value]):
    """What came of an operation and the rungs that it needed."""

    steps: tuple[Step, ...]
    value: Value | None = None
    error: BmcError | None = None
    outlet_withheld: bool = False
    """Whether cutting the mains could have helped, but the order does not allow it."""

    @property
    def quarantined(self) -> bool:
        """Whether nothing has helped."""
        return any(step.rung is Rung.QUARANTINE for step in self.steps)


def next_rung(climbed: Sequence[Rung], error: BmcError, *, retries: int, outlet: Outlet) -> Rung | None:
    """Return what to do after `error`, having done what is in `climbed`; None where nothing more may be done.

    Only what can help with this error is done. Each rung but RETRY is climbed once at most, and never one
    below the last: what did not help once does not help later. A node is not given up (QUARANTINE) while its
    outlet was withheld: it was not tried to the end.
    """
    ladder = list(Rung)
    highest = max((ladder.index(rung) for rung in climbed), default=0)
    if not highest and len(climbed) < retries and Rung.RETRY in error.remedies:
        return Rung.RETRY
    if not error.sick or Rung.QUARANTINE in climbed:
        return None
    higher = [rung for rung in ladder[highest + 1 :] if rung in error.remedies]
    if higher and (higher[0] is not Rung.OUTLET or outlet is Outlet.ALLOWED):
        return higher[0]
    return None if higher and outlet is Outlet.WITHHELD else Rung.QUARANTINE


def outlet_for(order: PowerOrder | None, *, has_outlet: bool, force: bool) -> Outlet:
    """Tell whether the mains may be cut to carry out this order; None only looks, or sets the boot device.

    Cutting the mains switches the machine off hard. An order that wanted it off, or off and on, loses nothing
    by that. Every other order needs `force`.
    """
    if not has_outlet:
        return Outlet.NONE
    wanted = order in {PowerOrder.OFF, PowerOrder.CYCLE}
    return Outlet.ALLOWED if wanted or force else Outlet.WITHHELD


def power_to_restore(order: PowerOrder | None, seen: Power | None) -> PowerOrder | None:
    """Return how the power is put back after the mains were cut; None where the order itself sees to it.

    `seen` is what the BMC said before, None where it never did. Such a machine is switched on: one that was
    off loses nothing by that, and one that was on would lose its work.
    """
    if order not in {None, PowerOrder.SOFT}:
        return None
    return PowerOrder.OFF if seen is Power.OFF else PowerOrder.ON


@dataclass(frozen=True, slots=True)
class Ladder:
    """The means to climb.

    `switch_outlet` switches a node's mains off and on again, where `outlet` allows it. `restore` puts the
    machine's power back after that, and says in words what it was brought to.
    """

    connect: Connect
    switch_outlet: SwitchOutlet
    patience: Patience = field(default_factory=Patience)
    tell: Callable[[Step], None] = lambda _: None
    outlet: Outlet = Outlet.NONE
    restore: Callable[[], Awaitable[str]] | None = None

    async def climb(self, target: Target, operation: Callable[[], Awaitable[Value]]) -> Climb[Value]:
        """Do the operation; where it fails, climb until it succeeds or nothing is left."""
        steps: list[Step] = []
        while True:
            try:
                value = await self.attempt(target, operation)
            except BmcError as error:
                rung = next_rung(
                    [step.rung for step in steps],
                    error,
                    retries=len(self.patience.backoff_seconds),
                    outlet=self.outlet,
                )
                if rung is None:
                    withheld = self.outlet is Outlet.WITHHELD and Rung.OUTLET in error.remedies
                    return Climb(tuple(steps), error=error, outlet_withheld=withheld)
                steps.append(await self._step(target, rung, error, len(steps)))
                self.tell(steps[-1])
                if rung is Rung.QUARANTINE:
                    return Climb(tuple(steps), error=error)
            else:
                return Climb(tuple(steps), value=value)

    async def attempt(self, target: Target, operation: Callable[[], Awaitable[Value]]) -> Value:
        """Do the operation once, in its time. Raises BmcDeadline where that is over."""
        seconds = self.patience.attempt_seconds
        scope = asyncio.timeout(seconds)
        try:
            async with scope:
                return await operation()
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise BmcDeadline(node=target.node, seconds=seconds, reason="the operation") from error

    async def _step(self, target: Target, rung: Rung, why: BmcError, done: int) -> Step:
        clock = asyncio.get_running_loop().time
        begun = clock()
        scope = asyncio.timeout(self.patience.rung_seconds.get(rung))
        ok, detail = True, ""
        try:
            async with scope:
                detail = await self._do(target, rung, done)
        except PerfciError as error:
            ok, detail = False, str(error)
        except TimeoutError:
            if not scope.expired():
                raise
            ok, detail = False, "it did not answer again in time"
        return Step(target.node, rung, str(why), ok, clock() - begun, detail)

    async def _do(self, target: Target, rung: Rung, done: int) -> str:
        if rung is Rung.RETRY:
            await asyncio.sleep(self.patience.backoff_seconds[done])
        elif rung is Rung.CLOSE_SESSIONS:
            return f"{await self._close_sessions(target)} closed"
        elif rung in _RESTARTS:
            async with self.connect(target) as bmc:
                await bmc.restart(_RESTARTS[rung])
            return await self._came_back(target)
        elif rung is Rung.OUTLET:
            await self.switch_outlet(target)
            told = [await self._came_back(target)]
            if self.restore is not None:
                told.append(await self.restore())
            return ", ".join(filter(None, told))
        return ""

    async def _close_sessions(self, target: Target) -> int:
        """Close them as soon as the BMC lets us in: a stale session that ends by itself makes room."""
        while True:
            try:
                async with self.connect(target) as bmc:
                    return await bmc.close_other_sessions()
            except BmcError as error:
                if not error.sick:
                    raise
            await asyncio.sleep(self.patience.poll_seconds)

    async def _came_back(self, target: Target) -> str:
        """Wait until the BMC has been gone and answers again; who asks it too early meets the old one."""
        clock = asyncio.get_running_loop().time
        gone, end = False, clock() + self.patience.gone_seconds
        while True:
            await asyncio.sleep(self.patience.poll_seconds)
            try:
                async with self.connect(target) as bmc:
                    await bmc.power()
            except BmcError as error:
                # While it starts, its network may be there before its IPMI.
                if not error.sick and not isinstance(error, BmcUnreachable):
                    raise
                gone = True
            else:
                if gone:
                    return ""
                if clock() >= end:
                    return "it answered all the while"
