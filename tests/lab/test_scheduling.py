"""Decisions about nodes, with the inputs in any order."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfci.lab.model import Owner, Reservation
from perfci.lab.scheduling import (
    EndReason,
    Granted,
    Impossible,
    Refused,
    Wish,
    Withheld,
    decide,
    may_live,
    over,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
OWNERS = tuple(Owner("controller", "boot", pid, 5) for pid in (10, 11, 12))


def reservation(
    nodes: tuple[str, ...], start: float = -1, end: float = 1, *, name: str = "r", **fields: object
) -> Reservation:
    """Hours are counted from NOW."""
    plain = Reservation(name, "lab", nodes, "ann", "a look", NOW + start * HOUR, NOW + end * HOUR)
    return replace(plain, **fields)


def wish(*names: str, count: int = 1, hours: float = 2) -> Wish:
    return Wish(NOW, NOW + hours * HOUR, count, frozenset(names))


@pytest.mark.parametrize(
    ("wanted", "reservations", "nodes"),
    [
        (wish(), [], ("a",)),
        (wish(count=2), [], ("a", "b")),
        (wish(count=2), [reservation(("a",))], ("b", "c")),
        (wish("c"), [reservation(("a",))], ("c",)),
        (wish("a", "c"), [], ("a", "c")),
        (wish(), [reservation(("a",), released_at=NOW)], ("a",)),
        (wish(), [reservation(("a",), -2, 0)], ("a",)),
        (wish(), [reservation(("a",), 2, 3)], ("a",)),
        (wish(), [reservation(("a",), 1, 3)], ("b",)),
        (replace(wish(count=2), among=frozenset("bc")), [], ("b", "c")),
        (replace(wish(), among=frozenset("bc")), [reservation(("b",))], ("c",)),
    ],
)
def test_what_is_granted(wanted: Wish, reservations: list[Reservation], nodes: tuple[str, ...]) -> None:
    for all_nodes in (["a", "b", "c"], ["c", "b", "a"]):
        assert decide(wanted, all_nodes, reservations) == Granted(nodes)
        assert decide(wanted, all_nodes, reservations[::-1]) == Granted(nodes)


def test_a_refusal_names_who_is_in_the_way_the_soonest_end_first() -> None:
    late, soon = reservation(("a",), end=5, name="late"), reservation(("b", "c"), end=1, name="soon")
    other = reservation(("c",), -5, -1, name="past")
    for reservations in ([late, soon, other], [other, soon, late]):
        assert decide(wish(count=2), ["a", "b", "c"], reservations) == Refused((soon, late))
    assert decide(wish("a"), ["a", "b", "c"], [late, soon]) == Refused((late,))


def test_what_no_waiting_can_give() -> None:
    assert decide(wish(count=4), ["a", "b", "c"], []) == Impossible((), 3)
    assert decide(wish("a", "x"), ["a", "b", "c"], []) == Impossible(("x",), 3)
    assert decide(replace(wish(), among=frozenset("ax")), ["a", "b"], []) == Impossible(("x",), 2)
    assert decide(replace(wish(count=2), among=frozenset("a")), ["a", "b"], []) == Impossible((), 2)


def test_a_job_for_certain_nodes_is_moved_to_no_other() -> None:
    pinned = replace(wish(count=2), among=frozenset("ab"))
    busy = reservation(("a",))
    assert decide(pinned, ["a", "b", "c"], [busy]) == Refused((busy,))
    assert decide(pinned, ["a", "b", "c"], [], ("b",)) == Withheld(("b",))


@pytest.mark.parametrize(
    ("wanted", "quarantined", "decision"),
    [
        (wish(), ("a",), Granted(("b",))),
        (wish(count=2), ("b",), Granted(("a", "c"))),
        (wish(count=3), ("b",), Withheld(("b",))),
        (wish("c", "b"), ("c", "b", "x"), Withheld(("b", "c"))),
        (wish("c"), ("a",), Granted(("c",))),
        (wish("x"), ("x",), Impossible(("x",), 3)),
    ],
)
def test_what_is_in_quarantine_is_given_to_nobody(
    wanted: Wish, quarantined: tuple[str, ...], decision: object
) -> None:
    for names in (quarantined, quarantined[::-1]):
        assert decide(wanted, ["a", "b", "c"], [], names) == decision


def test_who_holds_a_node_in_quarantine_is_not_to_blame() -> None:
    held = [reservation(("a",), name="a"), reservation(("b",), name="b")]
    assert decide(wish(count=2), ["a", "b", "c"], held, {"a"}) == Refused((held[1],))


def test_a_living_owner_holds_its_nodes_however_long_its_time_is_over() -> None:
    late = reservation(("a",), -3, -1, owner=OWNERS[0])
    assert decide(wish("a"), "abc", [late]) == Granted(("a",))
    assert decide(wish("a"), "abc", [late], living=OWNERS[:1]) == Refused((late,))
    assert decide(wish(), "abc", [late], living=OWNERS[:1]) == Granted(("b",))
    assert over([late], dead=frozenset(), now=NOW) == ((late, EndReason.TIME),)
    assert over([late], dead=frozenset(), now=NOW, living=OWNERS[:1]) == ()


def test_a_process_on_another_host_may_live_a_day_longer_than_its_lease() -> None:
    here = reservation(("a",), -3, -2, owner=OWNERS[0])
    killed = reservation(("b",), -3, 1, owner=OWNERS[1])
    far = reservation(("c",), -3, -1, owner=replace(OWNERS[2], host="another"))
    person = reservation(("d",))
    for some in ([here, killed, far, person], [person, far, killed, here]):
        for hours, living in (
            (0, {here.owner, far.owner}),
            (22.9, {here.owner, far.owner}),
            (23, {here.owner}),
        ):
            found = may_live(some, dead={killed.owner}, host="controller", now=NOW + hours * HOUR)
            assert found == living


def test_what_is_over() -> None:
    dead, alive = OWNERS[0], OWNERS[1]
    killed = reservation(("a",), name="1", owner=dead)
    late = reservation(("b",), -2, 0, name="2", owner=alive)
    running = reservation(("c",), name="3", owner=alive)
    person = reservation(("d",), name="4")
    gone = reservation(("e",), name="5", owner=dead, released_at=NOW)
    for reservations in ([killed, late, running, person, gone], [gone, person, running, late, killed]):
        assert over(reservations, dead=frozenset({dead}), now=NOW) == (
            (killed, EndReason.OWNER),
            (late, EndReason.TIME),
        )


NODES = ("a", "b", "c", "d")
reservations = st.lists(
    st.builds(
        lambda nodes, start, length, owner, released: reservation(
            tuple(sorted(nodes)), start, start + length, owner=owner, released_at=NOW if released else None
        ),
        st.sets(st.sampled_from(NODES), min_size=1),
        st.integers(-5, 5),
        st.integers(1, 5),
        st.none() | st.sampled_from(OWNERS),
        st.booleans(),
    ),
    max_size=6,
).map(lambda some: [replace(one, id=str(index)) for index, one in enumerate(some)])
wishes = st.builds(
    lambda count, names, hours: Wish(NOW, NOW + hours * HOUR, count, frozenset(names)),
    st.integers(1, 5),
    st.sets(st.sampled_from((*NODES, "x")), max_size=3),
    st.integers(1, 4),
)


@given(
    wanted=wishes,
    there=reservations,
    quarantined=st.sets(st.sampled_from((*NODES, "y"))),
    shuffle=st.randoms(),
)
def test_a_decision_holds_its_promises_in_any_order(
    wanted: Wish, there: list[Reservation], quarantined: set[str], shuffle: object
) -> None:
    decision = decide(wanted, NODES, there, quarantined)
    mixed, nodes = list(there), list(NODES)
    shuffle.shuffle(mixed)
    shuffle.shuffle(nodes)
    assert decide(wanted, nodes, mixed, sorted(quarantined)) == decision
    if isinstance(decision, Granted):
        assert quarantined.isdisjoint(decision.nodes)
        assert len(set(decision.nodes)) == wanted.size
        assert not wanted.names or set(decision.nodes) == wanted.names
        for minute in range(0, int((wanted.ends_at - NOW) / HOUR) * 60, 30):
            when = NOW + timedelta(minutes=minute)
            assert not any(one.holds_at(when) and set(one.nodes) & set(decision.nodes) for one in there)
    elif isinstance(decision, Refused):
        # Without those named it would have been granted: nobody is blamed in vain, nobody is left out.
        rest = [one for one in there if one not in decision.by]
        assert decision.by
        assert isinstance(decide(wanted, NODES, rest, quarantined), Granted)
    elif isinstance(decision, Withheld):
        # Restoring those named is needed, and all that is: nobody's release would help.
        assert decision.nodes
        assert set(decision.nodes) <= quarantined
        assert isinstance(decide(wanted, NODES, [], quarantined), Withheld)
        assert isinstance(decide(wanted, NODES, [], quarantined - set(decision.nodes)), Granted)
    else:
        assert wanted.names - set(NODES) or wanted.size > len(NODES)


@given(there=reservations, dead=st.frozensets(st.sampled_from(OWNERS)), shuffle=st.randoms())
def test_over_is_never_said_of_who_still_holds(
    there: list[Reservation], dead: frozenset[Owner], shuffle: object
) -> None:
    found = over(there, dead=dead, now=NOW)
    mixed = list(there)
    shuffle.shuffle(mixed)
    assert over(mixed, dead=dead, now=NOW) == found
    ended = {one.id for one, _ in found}
    for one in there:
        still = one.ends_at > NOW and (one.owner is None or one.owner not in dead)
        assert (one.id in ended) == (one.released_at is None and not still)
