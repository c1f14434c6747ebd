"""The calendar's arithmetic against brute force, with the inputs in any order."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfci.lab.reservations.calendar import (
    Item,
    Quota,
    Repair,
    Span,
    advance,
    busy_of,
    displaced,
    earliest,
    free_at,
    most_at_once,
    place,
    repairs,
    slots,
)

NODES = ("a", "b", "c")
HORIZON = 30
"""Nothing in these tests lasts longer than that: trying every start up to it finds what there is."""

intervals = st.lists(
    st.builds(
        lambda node, start, length: (node, start, start + length),
        st.sampled_from(NODES),
        st.integers(0, 10),
        st.integers(0, 4),
    ),
    max_size=7,
)


def is_free(taken: list[tuple[str, int, int]], node: str, start: int, end: int) -> bool:
    return all(
        name != node or other_end <= start or other_start >= end
        for name, other_start, other_end in taken
        if other_start < other_end
    )


def brute_force(
    taken: list[tuple[str, int, int]], eligible: frozenset[str], count: int, length: int, not_before: int
) -> Span | None:
    """Try every start and every set of nodes."""
    for start in range(not_before, HORIZON):
        for nodes in combinations(sorted(eligible), count):
            if all(is_free(taken, node, start, start + length) for node in nodes):
                return Span(start, start + length, nodes)
    return None


@given(
    taken=intervals,
    eligible=st.frozensets(st.sampled_from(NODES), min_size=1),
    count=st.integers(1, 3),
    length=st.integers(1, 5),
    not_before=st.integers(0, 8),
    mixed=st.randoms(),
)
def test_the_earliest_time_is_the_one_that_trying_all_finds(  # noqa: PLR0917
    taken, eligible, count, length, not_before, mixed
) -> None:
    expected = brute_force(taken, eligible, count, length, not_before) if count <= len(eligible) else None
    for _ in range(3):
        mixed.shuffle(taken)
        assert earliest(busy_of(taken), eligible, count, length, not_before) == expected


@given(taken=intervals, count=st.integers(1, 3), length=st.integers(1, 5))
def test_all_times_that_are_found_are_free_and_between_two_lies_one_that_is_not(taken, count, length) -> None:
    found = slots(busy_of(taken), NODES, count, length, 0, limit=99)
    possible = [
        sum(is_free(taken, node, start, start + length) for node in NODES) >= count
        for start in range(HORIZON)
    ]
    begins = [
        start for start in range(HORIZON) if possible[start] and (start == 0 or not possible[start - 1])
    ]
    assert [span.start for span in found] == begins
    for span in found:
        assert span.end == span.start + length
        assert all(is_free(taken, node, span.start, span.end) for node in span.nodes)
        assert len(set(span.nodes)) == count


def test_one_that_ends_when_the_next_begins_is_in_nobodys_way() -> None:
    busy = busy_of([("a", 0, 5), ("a", 8, 9)])
    assert earliest(busy, {"a"}, 1, 3, 0) == Span(5, 8, ("a",))
    assert earliest(busy, {"a"}, 1, 4, 0) == Span(9, 13, ("a",))
    assert free_at(busy, ["b", "a"], 5, 8) == ["a", "b"]
    assert free_at(busy, ["b", "a"], 4, 6) == ["b"]


@pytest.mark.parametrize("count", [0, 4])
def test_what_no_time_can_give(count) -> None:
    assert slots({}, NODES, count, 1, 0, limit=5) == []


items = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.integers(0, 3),
        st.frozensets(st.sampled_from(NODES), min_size=1),
        st.integers(1, 3),
        st.integers(0, 4),
        st.integers(1, 3),
    ),
    max_size=4,
).map(
    lambda some: [
        Item(f"i{number}", (priority, asked), eligible, count, first, length)
        for number, (priority, asked, eligible, count, first, length) in enumerate(some)
    ]
)


@given(queue=items, taken=intervals)
def test_the_queue_is_planned_one_after_the_other_by_rank(queue, taken) -> None:
    """Each gets the earliest time that trying all finds, beside those before it: nobody overtakes to harm."""
    expected: dict[str, Span | None] = {}
    calendar = list(taken)
    for one in sorted(queue, key=lambda item: (item.rank, item.id)):
        span = (
            brute_force(calendar, one.eligible, one.count, one.length, one.earliest)
            if one.count <= len(one.eligible)
            else None
        )
        expected[one.id] = span
        calendar += [(node, span.start, span.end) for node in span.nodes] if span else []
    for order in list(permutations(queue))[:6]:
        assert place(order, busy_of(taken)) == expected


@given(queue=items, taken=intervals, gone=st.data())
def test_moving_up_makes_nobody_later_and_nobody_clash(queue, taken, gone) -> None:
    planned = {
        one.id: (one, span) for one in queue if (span := place(queue, busy_of(taken))[one.id]) is not None
    }
    left = [one for one in taken if gone.draw(st.booleans())]
    moved = advance(planned.values(), busy_of(left))
    assert advance(reversed(list(planned.values())), busy_of(left)) == moved
    calendar = list(left)
    for name, (one, before) in planned.items():
        span = moved.get(name, before)
        assert before.start > span.start if name in moved else span == before
        assert span.start >= one.earliest
        assert one.eligible.issuperset(span.nodes)
        assert len(span.nodes) == one.count
        for node in span.nodes:
            assert is_free(calendar, node, span.start, span.end)
            calendar.append((node, span.start, span.end))
    if planned:
        first = min((one for one, _ in planned.values()), key=lambda one: (one.rank, one.id))
        others = [
            (node, span.start, span.end)
            for one, span in planned.values()
            if one.id != first.id
            for node in span.nodes
        ]
        best = brute_force(left + others, first.eligible, first.count, first.length, first.earliest)
        now = moved.get(first.id, planned[first.id][1])
        assert best is not None
        assert now.start == best.start, "the first in the queue has the first choice"


def owned(queue):
    """Give the items to two people in turns."""
    return [replace(one, holder="ab"[number % 2]) for number, one in enumerate(queue)]


def most_of(holder, planned, held=()):
    shares = [(span.start, span.end, one.count) for one, span in planned if one.holder == holder]
    return most_at_once([*shares, *held], 0, 999)


@given(queue=items.map(owned), taken=intervals, most=st.integers(1, 3), begun=st.integers(0, 6))
def test_nobody_is_planned_to_have_more_than_one_person_may(queue, taken, most, begun) -> None:
    held = [(0, begun, 1)] if begun else []
    quota = Quota({"a": most}, {"a": held})
    fitting = [one for one in queue if one.count <= most]
    found = place(fitting, busy_of(taken), quota)
    planned = [(one, span) for one in fitting if (span := found[one.id]) is not None]
    assert most_of("a", planned, held) <= most
    for one, span in planned:
        assert brute_force(taken, one.eligible, one.count, one.length, one.earliest).start <= span.start
    moved = advance(planned, {}, quota)
    assert advance(reversed(planned), {}, quota) == moved
    after = [(one, moved.get(one.id, span)) for one, span in planned]
    assert most_of("a", after, held) <= most


def test_what_is_larger_than_the_limit_by_itself_is_not_held_back() -> None:
    one = Item("i", (0,), frozenset("ab"), 2, 0, 5, "a")
    assert place([one], {}, Quota({"a": 1}, {"a": [(0, 9, 1)]}))["i"] == Span(0, 5, ("a", "b"))
    assert place([replace(one, count=1)], {}, Quota({"a": 1}, {"a": [(0, 9, 1)]}))["i"] == Span(9, 14, ("a",))


def test_a_large_request_does_not_starve_behind_small_ones() -> None:
    busy = busy_of([("a", 0, 10)])
    large = Item("large", (0, 1), frozenset(NODES), 3, 0, 5)
    small = [Item(f"small{number}", (0, 2 + number), frozenset(NODES), 1, 0, 20) for number in range(5)]
    planned = place([*small, large], busy)
    assert planned["large"] == Span(10, 15, NODES)
    # What ends before the large one begins may go first; these are too long for that.
    assert all(span.start >= 15 for name, span in planned.items() if name != "large")
    quick = Item("quick", (0, 9), frozenset(NODES), 1, 0, 10)
    assert place([*small, large, quick], busy)["quick"] == Span(0, 10, ("b",))


def test_who_is_displaced() -> None:
    def item(name: str, rank: int) -> Item:
        return Item(name, (rank,), frozenset(NODES), 1, 0, 5)

    queue = [
        (item("late", 3), Span(4, 9, ("a",))),
        (item("early", 2), Span(0, 5, ("a",))),
        (item("elsewhere", 1), Span(0, 5, ("b",))),
        (item("after", 1), Span(9, 12, ("a",))),
    ]
    for order in permutations(queue):
        hit = displaced(item("new", 0), Span(2, 9, ("a", "c")), order)
        assert [one.id for one, _ in hit] == ["early", "late"]


@given(
    mine=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 3)), max_size=5),
    start=st.integers(0, 8),
    length=st.integers(1, 5),
)
def test_the_most_at_one_time(mine, start, length) -> None:
    inside = max(
        sum(count for begins, ends, count in mine if begins <= moment < ends)
        for moment in range(start, start + length)
    )
    assert most_at_once(mine, start, start + length) == inside


def test_what_becomes_of_reservations_whose_node_breaks() -> None:
    def item(name: str, rank: int, count: int = 1, eligible: str = "bc") -> Item:
        return Item(name, (rank,), frozenset(eligible), count, 0, 5)

    planned = [
        (item("second", 2), Span(0, 5, ("a",)), True),
        (item("first", 1, 2), Span(0, 5, ("a", "b")), False),
        (item("named", 0, 1, ""), Span(6, 9, ("a",)), True),
        (item("named in the queue", 0, 1, ""), Span(10, 15, ("a",)), False),
        (item("untouched", 0), Span(20, 25, ("b",)), True),
        (item("later", 3), Span(30, 35, ("a",)), True),
    ]
    # Two of them can't have `a` at the same time; that `first` and `second` do makes no difference here.
    busy = busy_of((node, span.start, span.end) for _, span, _ in planned for node in span.nodes)
    for order in list(permutations(planned))[::97]:
        assert repairs(order, {"a"}, busy) == {
            "first": Repair(swaps=(("a", "c"),)),
            "second": Repair(requeue=False),
            "named": Repair(requeue=False),
            "named in the queue": Repair(requeue=True),
            "later": Repair(swaps=(("a", "b"),)),
        }


@given(queue=items, taken=intervals, broken=st.frozensets(st.sampled_from(NODES), max_size=2))
def test_repairs_give_free_nodes_that_fit(queue, taken, broken) -> None:
    spans = {name: span for name, span in place(queue, busy_of(taken)).items() if span}
    planned = [
        (replace(one, eligible=one.eligible - broken), spans[one.id], one.count % 2 == 0)
        for one in queue
        if one.id in spans
    ]
    calendar = [*taken, *((node, span.start, span.end) for span in spans.values() for node in span.nodes)]
    found = repairs(planned, broken, busy_of(calendar))
    assert found == repairs(planned[::-1], broken, busy_of(calendar))
    for one, span, firm in planned:
        repair = found.get(one.id)
        assert (repair is not None) == bool(broken.intersection(span.nodes))
        if repair is None:
            continue
        assert not (repair.requeue and firm)
        assert not repair.swaps or {old for old, _ in repair.swaps} == broken.intersection(span.nodes)
        for _, new in repair.swaps:
            assert new in one.eligible
            assert is_free(calendar, new, span.start, span.end)
            calendar.append((new, span.start, span.end))
