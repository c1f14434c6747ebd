"""One order to many nodes: what `perfci lab power` and the Ansible module `bmc` do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from perfci.lab.bmc import fleet, ipmi, outlet
from perfci.lab.bmc.errors import BmcError
from perfci.lab.bmc.ladder import Climb, Ladder, Patience, Rung
from perfci.lab.bmc.operations import SETTLE_SECONDS, carry_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from perfci.errors import PerfciError
    from perfci.lab.bmc.base import Connect, Target
    from perfci.lab.bmc.ladder import Step, SwitchOutlet
    from perfci.lab.bmc.operations import Done, Order


@dataclass(frozen=True, slots=True)
class Result:
    """What came of an order to one node."""

    node: str
    seconds: float
    done: Done | None = None
    error: PerfciError | None = None
    steps: tuple[Step, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the node is as ordered."""
        return self.error is None

    @property
    def locked_up(self) -> bool:
        """Whether more than a plain retry of the BMC was needed, or would have been."""
        sick = isinstance(self.error, BmcError) and self.error.curable
        return sick or any(step.rung is not Rung.RETRY for step in self.steps)

    @property
    def quarantined(self) -> bool:
        """Whether the ladder was climbed to its end in vain."""
        return any(step.rung is Rung.QUARANTINE for step in self.steps)

    def as_dict(self) -> dict[str, Any]:
        """Return it for `--json` and for Ansible."""
        state = self.done.after if self.done else None
        return {
            "ok": self.ok,
            "changed": self.done is not None and self.done.changed,
            "power": str(state.power) if state else None,
            "boot_device": str(state.boot.device) if state and state.boot else None,
            "error": str(self.error) if self.error else None,
            "error_kind": type(self.error).__name__ if self.error else None,
            "seconds": round(self.seconds, 3),
            "steps": [
                {"rung": str(step.rung), "ok": step.ok, "because": step.because, "detail": step.detail}
                for step in self.steps
            ],
            "quarantined": self.quarantined,
        }


@dataclass(frozen=True, slots=True)
class Means:
    """By what an order is carried out. With `recover`, sick BMCs are brought back by the ladder."""

    limits: fleet.FleetLimits = field(default_factory=fleet.FleetLimits)
    recover: bool = False
    dry_run: bool = False
    settle_seconds: float = SETTLE_SECONDS
    connect: Connect = ipmi.connect
    switch_outlet: SwitchOutlet = outlet.switch
    patience: Patience = field(default_factory=Patience)


async def give(
    targets: Iterable[Target],
    order: Order,
    means: Means,
    *,
    tell: Callable[[Result], None] = lambda _: None,
    tell_step: Callable[[Step], None] = lambda _: None,
) -> tuple[Result, ...]:
    """Bring all nodes to what is ordered; return one result for each, in the targets' order.

    `tell` hears of each node as it ends, `tell_step` of each rung. A node's deadline is the one for a
    single attempt; a climb is given the time that its rungs may take on top.
    """
    limits = means.limits
    patience = replace(means.patience, attempt_seconds=limits.deadline_seconds)
    ladder = Ladder(means.connect, means.switch_outlet, patience, tell_step)

    async def one(target: Target) -> Climb[Done]:
        operation = partial(
            carry_out,
            target,
            order,
            connect=means.connect,
            dry_run=means.dry_run,
            settle_seconds=means.settle_seconds,
        )
        if means.recover and not means.dry_run:
            return await ladder.climb(target, operation)
        return Climb((), value=await operation())

    if means.recover:
        limits = replace(limits, deadline_seconds=patience.whole_seconds)
    outcomes = await fleet.each(targets, one, limits=limits, tell=lambda outcome: tell(_result(outcome)))
    return tuple(map(_result, outcomes.values()))


def _result(outcome: fleet.NodeResult[Climb[Done]]) -> Result:
    climb = outcome.value or Climb(())
    return Result(outcome.node, outcome.seconds, climb.value, outcome.error or climb.error, climb.steps)
