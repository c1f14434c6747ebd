"""When which nodes are free, and who gets them: pure arithmetic on intervals.

Times are whole numbers (the callers use microseconds); an interval holds its start, not its end.
The order of inputs makes no difference to any result.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

Interval = tuple[int, int]
Busy = dict[str, list[Interval]]
"""By node, the intervals in which somebody has it, sorted and apart from each other."""


class Span(NamedTuple):
    """Nodes for a time."""

    start: int
    end: int
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """One reservation of the queue that can still move.

    `eligible` are the nodes that fit its wish and may be given out, `count` how many it needs. `rank` sorts:
    a lower one comes first, and never waits for a higher one.
    """

    id: str
    rank: tuple[int, ...]
    eligible: frozenset[str]
    count: int
    earliest: int
    length: int
    holder: str = ""


Share = tuple[int, int, int]
"""(start, end, number of nodes) of something that somebody has."""


@dataclass(frozen=True, slots=True)
class Quota:
    """How many nodes each of these holders may have at one time; who is not in `most` has no limit.

    `held` is what they have beside the items that are planned.
    """

    most: Mapping[str, int] = field(default_factory=dict)
    held: Mapping[str, Sequence[Share]] = field(default_factory=dict)

    def closed(self, item: Item, spans: Iterable[tuple[Item, Span]]) -> list[Interval]:
        """Return when an item's holder can't have its nodes as well, given where other items are planned.

        An item that is larger than the limit by itself was granted once, and is not held back by it.
        """
        most = self.most.get(item.holder)
        if most is None or item.count > most:
            return []
        mine = [
            *self.held.get(item.holder, ()),
            *((span.start, span.end, other.count) for other, span in spans if other.holder == item.holder),
        ]
        return _above(mine, most - item.count)


NO_QUOTA = Quota()


def busy_of(intervals: Iterable[tuple[str, int, int]]) -> Busy:
    """Return the busy times of nodes from (node, start, end); what overlaps or touches is joined."""
    found: dict[str, list[Interval]] = {}
    for node, start, end in intervals:
        if start < end:
            found.setdefault(node, []).append((start, end))
    return {node: _joined(some) for node, some in found.items()}


def free_at(busy: Mapping[str, Sequence[Interval]], nodes: Iterable[str], start: int, end: int) -> list[str]:
    """Return the nodes that nobody has between two times, sorted by name."""
    return sorted(node for node in nodes if not _overlaps(busy.get(node, ()), start, end))


def earliest(
    busy: Mapping[str, Sequence[Interval]],
    eligible: Collection[str],
    count: int,
    length: int,
    not_before: int,
) -> Span | None:
    """Return the first time from `not_before` on at which `count` nodes are free together for `length`.

    Of the nodes that are free the first by name are taken, so that a job meets the same machines. None where
    fewer than `count` nodes are eligible.
    """
    return next(iter(slots(busy, eligible, count, length, not_before, limit=1)), None)


def slots(
    busy: Mapping[str, Sequence[Interval]],
    eligible: Collection[str],
    count: int,
    length: int,
    not_before: int,
    *,
    limit: int,
) -> list[Span]:
    """Return up to `limit` times at which `count` nodes are free together, the earliest first.

    Each is the first moment of a stretch of possible starts: between two of them lies a time at which it is
    not possible. With `count` at 0 or more nodes than eligible there is none.
    """
    if not 0 < count <= len(eligible):
        return []
    changes: dict[int, int] = {}
    for node in eligible:
        for opens, closes in _starts(busy.get(node, ()), length, not_before):
            changes[opens] = changes.get(opens, 0) + 1
            if closes is not None:
                changes[closes] = changes.get(closes, 0) - 1
    found: list[Span] = []
    free = 0
    for moment in sorted(changes):
        before, free = free, free + changes[moment]
        if before < count <= free:
            nodes = free_at(busy, eligible, moment, moment + length)[:count]
            found.append(Span(moment, moment + length, tuple(nodes)))
            if len(found) == limit:
                break
    return found


def _starts(taken: Sequence[Interval], length: int, not_before: int) -> Iterable[tuple[int, int | None]]:
    """Yield the stretches [opens, closes) of starts at which a node is free for `length`."""
    opens = not_before
    for start, end in taken:
        if end <= not_before:
            continue
        last = start - length
        if last >= opens:
            yield opens, last + 1
        opens = max(opens, end)
    yield opens, None


def displaced(item: Item, taken: Span, queue: Iterable[tuple[Item, Span]]) -> list[tuple[Item, Span]]:
    """Return those of the queue that have a node of `taken` at its time, the first by rank first.

    All of them must rank after `item`: the caller has counted the others as busy.
    """
    nodes = set(taken.nodes)
    hit = [
        (other, span)
        for other, span in queue
        if other.id != item.id
        and span.start < taken.end
        and taken.start < span.end
        and not nodes.isdisjoint(span.nodes)
    ]
    return sorted(hit, key=lambda pair: (pair[0].rank, pair[0].id))


def place(
    items: Iterable[Item], busy: Mapping[str, Sequence[Interval]], quota: Quota = NO_QUOTA
) -> dict[str, Span | None]:
    """Plan items that have no time: by rank, each as early as possible without moving those before it.

    So nobody is overtaken by one that ranks after it, however small that one is: a large request does not
    starve. None for an item that no time can help.
    """
    calendar = {node: list(some) for node, some in busy.items()}
    found: dict[str, Span | None] = {}
    planned: list[tuple[Item, Span]] = []
    for item in sorted(items, key=lambda one: (one.rank, one.id)):
        span = _earliest_of(item, calendar, quota.closed(item, planned))
        found[item.id] = span
        if span is not None:
            planned.append((item, span))
            for node in span.nodes:
                calendar[node] = _joined([*calendar.get(node, ()), (span.start, span.end)])
    return found


def advance(
    planned: Iterable[tuple[Item, Span]],
    busy: Mapping[str, Sequence[Interval]],
    quota: Quota = NO_QUOTA,
) -> dict[str, Span]:
    """Bring planned items forward into time that came free, and return those that move, with their new span.

    By rank, each moves to the earliest time that is free while all others stay where they are. So none gets
    later than it was, and the first in the queue has the first choice.
    """
    pairs = sorted(planned, key=lambda pair: (pair[0].rank, pair[0].id))
    spans = {item.id: (item, span) for item, span in pairs}
    queued: dict[str, dict[str, Interval]] = {}
    for item, span in pairs:
        for node in span.nodes:
            queued.setdefault(node, {})[item.id] = (span.start, span.end)
    moved: dict[str, Span] = {}
    for item, now in pairs:
        calendar = {node: _without(item.id, node, busy, queued) for node in item.eligible}
        others = [pair for name, pair in spans.items() if name != item.id] if quota.most else []
        better = _earliest_of(item, calendar, quota.closed(item, others))
        if better is not None and better.start < now.start:
            moved[item.id] = better
            spans[item.id] = (item, better)
            for node in now.nodes:
                del queued[node][item.id]
            for node in better.nodes:
                queued.setdefault(node, {})[item.id] = (better.start, better.end)
    return moved


def _without(
    item_id: str,
    node: str,
    busy: Mapping[str, Sequence[Interval]],
    queued: Mapping[str, Mapping[str, Interval]],
) -> Sequence[Interval]:
    """Return when a node is taken by others than an item."""
    waiting = [one for name, one in queued.get(node, {}).items() if name != item_id]
    fixed = busy.get(node, ())
    return _joined([*fixed, *waiting]) if waiting else fixed


def _earliest_of(
    item: Item, calendar: Mapping[str, Sequence[Interval]], closed: Sequence[Interval]
) -> Span | None:
    """Return the first span of an item that does not touch a time that is closed to its holder."""
    if closed:
        calendar = {node: _joined([*calendar.get(node, ()), *closed]) for node in item.eligible}
    return earliest(calendar, item.eligible, item.count, item.length, item.earliest)


def _above(mine: Iterable[Share], most: int) -> list[Interval]:
    """Return the intervals in which somebody has more than `most` nodes."""
    changes: dict[int, int] = {}
    for start, end, count in mine:
        if start < end:
            changes[start] = changes.get(start, 0) + count
            changes[end] = changes.get(end, 0) - count
    found: list[Interval] = []
    now, since = 0, None
    for moment in sorted(changes):
        now += changes[moment]
        if now > most and since is None:
            since = moment
        elif now <= most and since is not None:
            found.append((since, moment))
            since = None
    return found


def most_at_once(mine: Iterable[tuple[int, int, int]], start: int, end: int) -> int:
    """Return how many nodes somebody has at most at one time between two times.

    `mine` are (start, end, number of nodes).
    """
    changes: dict[int, int] = {}
    for begins, ends, count in mine:
        first, last = max(begins, start), min(ends, end)
        if first < last:
            changes[first] = changes.get(first, 0) + count
            changes[last] = changes.get(last, 0) - count
    most = now = 0
    for moment in sorted(changes):
        now += changes[moment]
        most = max(most, now)
    return most


@dataclass(frozen=True, slots=True)
class Repair:
    """What becomes of a reservation whose nodes broke before it began.

    `swaps` are (broken node, the one in its place). Without any it goes back into the queue where `requeue`
    is true; else it keeps its time and its broken nodes, and its holder must be told.
    """

    swaps: tuple[tuple[str, str], ...] = ()
    requeue: bool = False


def repairs(
    planned: Iterable[tuple[Item, Span, bool]],
    broken: Collection[str],
    busy: Mapping[str, Sequence[Interval]],
) -> dict[str, Repair]:
    """Say what becomes of each planned reservation that has a broken node, by its id.

    `planned` are (item, span, whether its time is firm); `busy` has all of them, too. By rank, each gets a
    fitting node that is free at its time for each broken one; its `eligible` must have none of the broken.
    """
    calendar = {node: list(some) for node, some in busy.items()}
    found: dict[str, Repair] = {}
    for item, span, firm in sorted(planned, key=lambda one: (one[0].rank, one[0].id)):
        swaps: list[tuple[str, str]] = []
        for node in sorted(set(span.nodes).intersection(broken)):
            fitting = item.eligible - set(span.nodes) - {new for _, new in swaps}
            free = free_at(calendar, fitting, span.start, span.end)
            if not free:
                found[item.id] = Repair(requeue=not firm)
                break
            swaps.append((node, free[0]))
        else:
            for _, new in swaps:
                calendar[new] = _joined([*calendar.get(new, ()), (span.start, span.end)])
            if swaps:
                found[item.id] = Repair(swaps=tuple(swaps))
    return found


def _overlaps(taken: Sequence[Interval], start: int, end: int) -> bool:
    # The intervals are sorted and apart: only the last one that begins before `end` can reach beyond `start`.
    place = bisect_left(taken, (end,))
    return place > 0 and taken[place - 1][1] > start


def _joined(intervals: Iterable[Interval]) -> list[Interval]:
    found: list[Interval] = []
    for start, end in sorted(intervals):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found
