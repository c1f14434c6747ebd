"""One order to many nodes: what `perfci lab power` and the Ansible module `bmc` do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from perfci.lab.bmc import fleet, outlet, protocols
from perfci.lab.bmc.base import Rung
from perfci.lab.bmc.errors import BmcError
from perfci.lab.bmc.ladder import Climb, Ladder, Patience, outlet_for, power_to_restore
from perfci.lab.bmc.operations import Order, carry_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from perfci.errors import PerfciError
    from perfci.lab.bmc.base import Connect, Power, Target
    from perfci.lab.bmc.ladder import Step, SwitchOutlet
    from perfci.lab.bmc.operations import Done


@dataclass(frozen=True, slots=True)
class Result:
    """What came of an order to one node."""

    node: str
    seconds: float
    done: Done | None = None
    error: PerfciError | None = None
    steps: tuple[Step, ...] = ()
    outlet_withheld: bool = False
    """Whether cutting the mains could have helped, but the order does not allow it."""

    @property
    def ok(self) -> bool:
        """Whether the node is as ordered."""
        return self.error is None

    @property
    def locked_up(self) -> bool:
        """Whether more than a plain retry of the BMC was needed, or would have been."""
        sick = isinstance(self.error, BmcError) and self.error.sick
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
            "outlet_withheld": self.outlet_withheld,
            "quarantined": self.quarantined,
        }


@dataclass(frozen=True, slots=True)
class Means:
    """By what an order is carried out. With `recover`, sick BMCs are brought back by the ladder.

    `deadline_seconds` is for a single attempt at one node; None means what the order needs with the patience
    that the node has (`power_seconds`). `whole_seconds` is for all nodes together. With `force`, the ladder
    may cut the mains also for orders that wanted the machine neither off nor cycled.
    """

    deadline_seconds: float | None = None
    whole_seconds: float | None = None
    concurrency: int = fleet.CONCURRENCY
    recover: bool = False
    force: bool = False
    dry_run: bool = False
    connect: Connect = protocols.connect
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

    `tell` hears of each node as it ends, `tell_step` of each rung. A climb is given the time that its rungs
    may take on top of a node's deadline.
    """
    going = [_Going(target, order, means, tell_step) for target in targets]
    limits = fleet.FleetLimits(
        deadline_seconds=max((one.longest_seconds for one in going), default=0),
        whole_seconds=means.whole_seconds,
        concurrency=means.concurrency,
    )
    work = {one.target.node: one for one in going}
    outcomes = await fleet.each(
        [one.target for one in going],
        lambda target: work[target.node].run(),
        limits=limits,
        tell=lambda outcome: tell(_result(outcome)),
    )
    return tuple(map(_result, outcomes.values()))


class _Going:
    """One order on its way to one node."""

    def __init__(self, target: Target, order: Order, means: Means, tell_step: Callable[[Step], None]) -> None:
        self.target, self._order, self._means = target, order, means
        self._climbs = means.recover and not means.dry_run
        self._seen: Power | None = None
        seconds = means.deadline_seconds or order.deadline_seconds(target.power_seconds)
        patience = replace(means.patience, attempt_seconds=seconds)
        self.longest_seconds = patience.whole_seconds if self._climbs else seconds
        self._operation = partial(
            carry_out,
            target,
            order,
            connect=means.connect,
            dry_run=means.dry_run,
            within_seconds=seconds,
            saw=self._see,
        )
        self._ladder = Ladder(
            means.connect,
            means.switch_outlet,
            patience,
            tell_step,
            outlet_for(order.power, has_outlet=target.has_outlet, force=means.force),
            self._restore,
        )

    async def run(self) -> Climb[Done]:
        """Carry it out. Raises a kind of BmcError, or climbs."""
        if self._climbs:
            return await self._ladder.climb(self.target, self._operation)
        return Climb((), value=await self._ladder.attempt(self.target, self._operation))

    def _see(self, power: Power) -> None:
        """Remember what the BMC said before anything was done."""
        self._seen = self._seen or power

    async def _restore(self) -> str:
        """Bring the machine back to the power that it had before its mains were cut."""
        order = power_to_restore(self._order.power, self._seen)
        if order is None:
            return ""
        await carry_out(self.target, Order(order), connect=self._means.connect)
        before = "as it was" if self._seen else "what it was is not known"
        return f"the machine was left {order}: {before}"


def _result(outcome: fleet.NodeResult[Climb[Done]]) -> Result:
    climb = outcome.value or Climb(())
    return Result(
        outcome.node,
        outcome.seconds,
        climb.value,
        outcome.error or climb.error,
        climb.steps,
        climb.outlet_withheld,
    )
