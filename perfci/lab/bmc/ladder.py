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
from perfci.lab.bmc.base import Restart
from perfci.lab.bmc.errors import BmcDeadline, BmcError, BmcSilent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perfci.lab.bmc.base import Connect, Target

Value = TypeVar("Value")
SwitchOutlet = Callable[["Target"], Awaitable[None]]


class Rung(StrEnum):
    """What is done, in this order."""

    RETRY = "retry"
    CLOSE_SESSIONS = "close stale sessions"
    WARM_RESET = "warm reset"
    COLD_RESET = "cold reset"
    OUTLET = "outlet"
    QUARANTINE = "quarantine"


_NEED_AN_ANSWER = frozenset({Rung.CLOSE_SESSIONS, Rung.WARM_RESET, Rung.COLD_RESET})
"""The BMC itself must be told to."""
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
            Rung.CLOSE_SESSIONS: 30.0,
            Rung.WARM_RESET: 90.0,
            Rung.COLD_RESET: 180.0,
            Rung.OUTLET: 240.0,
        }
    )
    """For each rung, until the BMC answers again; real ones take a minute or two to start."""
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

    @property
    def quarantined(self) -> bool:
        """Whether nothing has helped."""
        return any(step.rung is Rung.QUARANTINE for step in self.steps)


def next_rung(climbed: Sequence[Rung], error: BmcError, *, retries: int, outlet: bool) -> Rung | None:
    """Return what to do after `error`, having done what is in `climbed`; None where nothing can help.

    Each rung but RETRY is climbed once at most, and never one below the last: what did not help once does
    not help later. A BMC that is deaf can't be told to restart, so those rungs are left out then.
    """
    if not error.curable or Rung.QUARANTINE in climbed:
        return None
    ladder = list(Rung)
    deaf = isinstance(error, BmcSilent) and error.deaf
    highest = max((ladder.index(rung) for rung in climbed), default=0)
    if not highest and len(climbed) < retries:
        return Rung.RETRY
    for rung in ladder[highest + 1 :]:
        if rung is Rung.OUTLET and not outlet:
            continue
        if deaf and rung in _NEED_AN_ANSWER:
            continue
        return rung
    return None


@dataclass(frozen=True, slots=True)
class Ladder:
    """The means to climb. `outlet` switches a node's mains off and on again."""

    connect: Connect
    outlet: SwitchOutlet
    patience: Patience = field(default_factory=Patience)
    tell: Callable[[Step], None] = lambda _: None

    async def climb(self, target: Target, operation: Callable[[], Awaitable[Value]]) -> Climb[Value]:
        """Do the operation; where it fails, climb until it succeeds or nothing is left."""
        steps: list[Step] = []
        while True:
            try:
                value = await self._attempt(target, operation)
            except BmcError as error:
                rung = next_rung(
                    [step.rung for step in steps],
                    error,
                    retries=len(self.patience.backoff_seconds),
                    outlet=target.has_outlet,
                )
                if rung is None:
                    return Climb(tuple(steps), error=error)
                steps.append(await self._step(target, rung, error, len(steps)))
                self.tell(steps[-1])
                if rung is Rung.QUARANTINE:
                    return Climb(tuple(steps), error=error)
            else:
                return Climb(tuple(steps), value=value)

    async def _attempt(self, target: Target, operation: Callable[[], Awaitable[Value]]) -> Value:
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
            await self.outlet(target)
            return await self._came_back(target)
        return ""

    async def _close_sessions(self, target: Target) -> int:
        """Close them as soon as the BMC lets us in: a stale session that ends by itself makes room."""
        while True:
            try:
                async with self.connect(target) as bmc:
                    return await bmc.close_other_sessions()
            except BmcError as error:
                if not error.curable:
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
                if not error.curable:
                    raise
                gone = True
            else:
                if gone:
                    return ""
                if clock() >= end:
                    return "it answered all the while"
