"""Whose turn is it? Two sides, task by task, pair by pair. Pure: events in, whom to let go on out.

A side's iterations wait until both sides have a block of them ready: `concurrency` iterations, or the last
few. Then the first side of the pair runs its block, then the other one. Which is first is drawn at random for
every other pair and turned round for the one after it, so that a drift favours nobody. Nothing runs on one
side while the other one is measured: a task begins when both sides are there, and ends (users and networks
are removed) when both are through.

A task may go on until its pairs are precise enough (`Until`): the pair that begins then is the last one. Only
the error decides, never the difference itself, so that what is measured is not chosen by what comes out.

No side can hold up the other one for ever. Where one has left the task, crashed, or has not moved for the
task's `patience`, the other one goes on alone, and the record says from where on and why. Times are seconds
of any clock that never steps.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable

GATHER_SECONDS = 30.0
"""A block whose iterations don't all ask for their turn (a load generator has died) begins with those that
do."""


@dataclass(frozen=True, slots=True)
class Until:
    """When a task has enough pairs: the error of its mean log ratio is `precision` at most.

    Iterations up to the number `warmup` are for warm-up, those up to `least` are run in any case.
    """

    precision: float
    warmup: int
    least: int


@dataclass(slots=True)
class Iteration:
    """One iteration that was given its turn. `timestamp` is Rally's, None where it gave no result."""

    number: int
    timestamp: float | None = None
    failed: bool = True
    seconds: float | None = None


@dataclass(slots=True)
class Side:
    """What is known of one side."""

    name: str
    joined: bool = False
    gone: str = ""
    """Why it takes no part any more."""
    begun: int = 0
    """How many tasks it has begun."""
    slug: str = ""
    patience: float = 0.0
    until: Until | None = None
    block: int = 1
    """How many iterations belong to the block that it has begun to ask for."""
    active: bool = False
    """Whether it has iterations of this task to run."""
    beginning: Hashable | None = None
    finishing: Hashable | None = None
    waiting: dict[Hashable, int] = field(default_factory=dict)
    running: dict[Hashable, Iteration] = field(default_factory=dict)
    moved_at: float = 0.0


_Pair = tuple[list[str], dict[str, list[Iteration]]]
"""The order of the sides, and what each of them ran."""


@dataclass(slots=True)
class _Task:
    """What ran in one task: pairs, iterations that ran alone, and what went wrong."""

    pairs: list[_Pair] = field(default_factory=list)
    alone: dict[str, list[Iteration]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return it ready for JSON; an iteration is its number, its timestamp in Rally's report, whether it
        failed.
        """
        return {
            "pairs": [{"order": order, **_rows(ran)} for order, ran in self.pairs],
            "alone": _rows(self.alone),
            "notes": self.notes,
        }


def _rows(ran: dict[str, list[Iteration]]) -> dict[str, list[list[Any]]]:
    return {name: [[one.number, one.timestamp, one.failed] for one in some] for name, some in ran.items()}


class Lockstep:
    """The state of both sides. Each event is given with the time now; `due` says who may go on."""

    def __init__(self, names: tuple[str, str], *, seed: int) -> None:
        """Begin with two sides that nothing was heard of."""
        self.sides = {name: Side(name) for name in names}
        self.names = names
        self.seed = seed
        self._tasks: dict[str, _Task] = {}
        self._random = random.Random(seed)  # noqa: S311 - an order, not a secret
        self._pair: dict[str, list[Iteration]] | None = None
        self._order: list[str] = []
        self._stage = 0
        self.last: set[Hashable] = set()
        """Whose iterations are the last ones of their task."""

    # --- events ---

    def join(self, name: str, now: float) -> None:
        """Take in a side's hammer."""
        self.sides[name].joined = True
        self.sides[name].moved_at = now

    def leave(self, name: str, reason: str) -> None:
        """Forget a side whose hammer has ended."""
        side = self.sides[name]
        if not side.gone:
            side.gone = reason
            self._give_up(side, reason)
            side.beginning = None

    def begin(  # noqa: PLR0917 - one message
        self,
        name: str,
        token: Hashable,
        slug: str,
        patience: float,
        now: float,
        until: Until | None = None,
    ) -> None:
        """Let a side wait for the beginning of a task."""
        side = self.sides[name]
        side.moved_at, side.beginning = now, token
        side.slug, side.patience, side.until = slug, patience, until

    def ask(self, name: str, token: Hashable, number: int, block: int, now: float) -> None:
        """Let an iteration wait for its turn; `block` is how many belong together with it."""
        side = self.sides[name]
        side.moved_at, side.block = now, block
        side.waiting[token] = number

    def done(
        self,
        token: Hashable,
        timestamp: float | None,
        *,
        failed: bool,
        now: float,
        seconds: float | None = None,
    ) -> None:
        """Take in the end of an iteration, or of the process that ran it; once is enough."""
        self.last.discard(token)
        for side in self.sides.values():
            if side.waiting.pop(token, None) is not None:
                side.moved_at = now
            if (one := side.running.pop(token, None)) is not None:
                one.timestamp, one.failed, one.seconds = timestamp, failed, seconds
                side.moved_at = now

    def finish(self, name: str, token: Hashable, now: float) -> None:
        """Let a side wait that has run all its iterations, until the other one has."""
        side = self.sides[name]
        side.moved_at, side.active, side.finishing = now, False, token

    def end(self, name: str) -> None:
        """Take in that a side is through with its task, well or not."""
        self._give_up(self.sides[name], "the task had ended")

    # --- decisions ---

    def due(self, now: float) -> list[Hashable]:
        """Return whom to let go on, in order."""
        self._expire(now)
        found: list[Hashable] = []
        while step := self._step(now):
            found += [token for token in step if token is not _MOVED]
        return found

    def deadline(self, now: float) -> float | None:
        """Return when `due` has to be asked again although nothing has happened."""
        limits = [side.moved_at + limit for side, limit, _ in self._awaited()]
        return min((one for one in limits if one > now), default=None)

    def record(self) -> dict[str, Any]:
        """Return what was paired with what, ready for JSON; see results/paired.py for its reader."""
        sides = {name: {"left": side.gone or None} for name, side in self.sides.items()}
        tasks = {slug: task.as_dict() for slug, task in self._tasks.items()}
        return {"version": 1, "seed": self.seed, "sides": sides, "tasks": tasks}

    # --- how ---

    def _step(self, now: float) -> list[Hashable]:
        return self._beginning(now) or self._running_pair() or self._next(now) or self._finishing()

    def _beginning(self, now: float) -> list[Hashable]:
        for side in self.sides.values():
            other = self._other(side)
            if side.beginning is None or not (other.joined or other.gone):
                continue
            if (
                other.gone
                or other.begun > side.begun
                or (other.beginning is not None and other.begun == side.begun)
            ):
                token, side.beginning = side.beginning, None
                side.begun += 1
                side.active, side.moved_at = True, now
                self._task(side.slug)
                return [token]
        return []

    def _running_pair(self) -> list[Hashable]:
        if self._pair is None:
            return []
        if self.sides[self._order[self._stage]].running:
            return []
        self._stage += 1
        following = self.sides[self._order[self._stage]] if self._stage < len(self._order) else None
        if following is not None and following.active:
            return [_MOVED, *self._grant(following, self._pair[following.name])]
        self._pair = None
        return [_MOVED]

    def _next(self, now: float) -> list[Hashable]:
        """Begin the next pair, or let one go on that is alone."""
        if self._pair is not None:
            return []
        active = [side for side in self.sides.values() if side.active]
        if len(active) == len(self.sides) and len({side.slug for side in active}) == 1:
            if not all(self._ready(side, now) for side in active):
                return []
            pairs = self._task(active[0].slug).pairs
            self._order = self._drawn(pairs)
            self._pair, self._stage = {name: [] for name in self.names}, 0
            enough = _are_enough(pairs, active[0].until)
            pairs.append((self._order, self._pair))
            if enough:
                self.last.update(token for side in active for token in side.waiting)
            first = self._order[0]
            return self._grant(self.sides[first], self._pair[first])
        for side in self.sides.values():
            other = self._other(side)
            together = (other.begun == side.begun and not side.beginning) or other.gone
            if side.waiting and together and not (side.active and other.active):
                return self._grant(side, self._task(side.slug).alone.setdefault(side.name, []))
        return []

    def _finishing(self) -> list[Hashable]:
        for side in self.sides.values():
            if side.finishing is not None and self._pair is None and not self._other(side).active:
                token, side.finishing = side.finishing, None
                return [token]
        return []

    def _grant(self, side: Side, ran: list[Iteration]) -> list[Hashable]:
        tokens = list(side.waiting)
        for token, number in side.waiting.items():
            one = Iteration(number)
            side.running[token] = one
            ran.append(one)
        side.waiting.clear()
        return tokens

    def _ready(self, side: Side, now: float) -> bool:
        gathered = now - side.moved_at >= GATHER_SECONDS
        return len(side.waiting) >= side.block or (bool(side.waiting) and gathered)

    def _drawn(self, pairs: list[_Pair]) -> list[str]:
        if len(pairs) % 2:
            return pairs[-1][0][::-1]
        order = list(self.names)
        self._random.shuffle(order)
        return order

    def _awaited(self) -> list[tuple[Side, float, str]]:
        """Return the sides that the other one waits for, how long it does, and for what."""
        found = []
        for side in self.sides.values():
            other = self._other(side)
            if self._pair is not None and side.running:
                found.append((side, side.patience, "an iteration did not end"))
            elif self._pair is None and side.active and 0 < len(side.waiting) < side.block:
                found.append((side, GATHER_SECONDS, ""))
            elif (
                self._pair is None
                and side.active
                and not side.waiting
                and (other.waiting or other.finishing is not None)
            ):
                found.append((side, side.patience, "it asked for no turn"))
        return found

    def _expire(self, now: float) -> None:
        for side, limit, what in self._awaited():
            if what and now - side.moved_at >= limit:
                self._give_up(side, f"{what} within {limit:g} s")

    def _give_up(self, side: Side, reason: str) -> None:
        """Wait for a side no longer in this task."""
        if side.active:
            self._task(side.slug).notes.append(
                f"{side.name}: {reason}; from here on the other side was alone"
            )
        side.active = False
        side.running.clear()

    def _other(self, side: Side) -> Side:
        return next(one for one in self.sides.values() if one is not side)

    def _task(self, slug: str) -> _Task:
        return self._tasks.setdefault(slug, _Task())


LEAST_PAIRS = 20
"""Of fewer pairs the error is not known well enough to stop."""


def _are_enough(pairs: list[_Pair], until: Until | None) -> bool:
    if until is None:
        return False
    ran = [one for _, sides in pairs for one in sides.values()]
    if max((one.number for block in ran for one in block), default=0) < until.least:
        return False
    measured = [
        {name: _level(block) for name, block in sides.items()}
        for _, sides in pairs
        if all(one.number > until.warmup for block in sides.values() for one in block)
    ]
    sides = [tuple(levels.values()) for levels in measured]
    logs = [one - other for one, other in sides if one is not None and other is not None]
    return len(logs) >= LEAST_PAIRS and error_of(logs) <= until.precision


def _level(block: list[Iteration]) -> float | None:
    """Return the mean logarithm of a block's seconds; None where one of them failed."""
    found = [math.log(one.seconds) for one in block if not one.failed and one.seconds]
    return math.fsum(found) / len(found) if found and len(found) == len(block) else None


def error_of(values: list[float]) -> float:
    """Return the standard error of the mean of the middle half, as for white noise (`analysis.pairs`)."""
    ordered, n = sorted(values), len(values)
    cut = n // 4
    low, high = ordered[cut], ordered[n - cut - 1]
    kept = [min(max(value, low), high) for value in values]
    mean = math.fsum(kept) / n
    variance = math.fsum((value - mean) ** 2 for value in kept) / (n - 1)
    return math.sqrt(variance / n) / (1 - 2 * cut / n)


_MOVED = object()
"""Stands for a step that lets nobody go on."""
