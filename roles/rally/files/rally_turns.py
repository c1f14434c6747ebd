"""Rally's own runners, one turn at a time: each iteration, or each whole run, waits for the arbiter.

Waiting happens before Rally starts its timer, and what is told to the arbiter after the timer has stopped, so
that neither is in any figure. Only the names that Rally's runners look up in their module are replaced;
contexts, users, clean-up and SLA are Rally's. What an iteration draws at random, such as its user, is the
same on both sides: two tenants that own different numbers of ports are no pair.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from rally.task import runner

if TYPE_CHECKING:
    from turns import Turns

_BY_ITERATION = frozenset({"constant", "serial"})
"""Runners whose iterations can be given turns; all others run as a whole when it is their turn, as storms
do."""


def take_turns(turns: Turns) -> None:
    """Let all that Rally runs in this process and its forks from now on take turns."""
    once, run = runner._run_scenario_once, runner.ScenarioRunner.run  # noqa: SLF001 - before the timer
    shape: dict[str, Any] = {"times": 0, "concurrency": 0}
    aborted: list[Any] = []

    def in_turn(cls: Any, method: Any, context: dict[str, Any], arguments: Any, events: Any) -> Any:
        if not shape["times"]:
            return once(cls, method, context, arguments, events)
        number = context["iteration"]
        with turns.turn(number, block_of(number, **shape)) as turn:
            if turn.is_last:
                aborted[0].set()  # Rally begins no further one
            random.seed(f"{cls.__name__}.{method} {number}")
            result = once(cls, method, context, arguments, events)
            turn.came_out(result["timestamp"], result["duration"], failed=bool(result["error"]))
        return result

    def run_in_turns(self: runner.ScenarioRunner, name: str, context: dict[str, Any], arguments: Any) -> None:
        if self.get_name() in _BY_ITERATION:
            # Forks that are made from now on see it.
            shape.update(times=self.config.get("times", 1), concurrency=self.config.get("concurrency", 1))
            aborted[:] = [self.aborted]
            run(self, name, context, arguments)
        else:
            shape.update(times=0)
            with turns.turn(1, 1) as turn:
                run(self, name, context, arguments)
                turn.came_out(0.0, failed=False)
        turns.finish()

    runner._run_scenario_once = in_turn  # noqa: SLF001
    runner.ScenarioRunner.run = run_in_turns


def block_of(number: int, times: int, concurrency: int) -> int:
    """Return how many iterations the block has that iteration `number`, from 1, is in: the last one may have
    fewer.
    """
    first = (number - 1) // concurrency * concurrency
    return max(1, min(concurrency, times - first))
