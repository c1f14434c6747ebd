"""No order of events makes a reservation ready before everything has passed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfci.lab.reservations.model import BookingState
from perfci.lab.reservations.states import NEXT, is_ready, may_follow, steps_before_ready

NODES = ("a", "b")
STEPS = ("power", "provision", "canary", "smoke")
WANTED = dict.fromkeys(NODES, STEPS)
outcomes = st.lists(
    st.tuples(st.sampled_from((*NODES, "another")), st.sampled_from(STEPS), st.booleans()), max_size=24
)


@given(seen=outcomes)
def test_ready_is_never_said_too_early(seen) -> None:
    if not is_ready(WANTED, seen):
        return
    for node in NODES:
        mine = [(step, passed) for name, step, passed in seen if name == node]
        last_failure = max((place for place, (_, passed) in enumerate(mine) if not passed), default=-1)
        since = [step for step, _ in mine[last_failure + 1 :]]
        places = [max(place for place, step in enumerate(since) if step == wanted) for wanted in STEPS]
        assert places == sorted(places), (
            "each step was done after the one before it, and nothing failed since"
        )


@given(seen=outcomes, ahead=outcomes)
def test_after_all_steps_in_their_order_it_is_ready(seen, ahead) -> None:
    done = [(node, step, True) for step in STEPS for node in NODES]
    assert is_ready(WANTED, [*ahead, *((node, "power", False) for node in NODES), *done])
    for left_out in range(len(done)):
        part = [*((node, "power", False) for node in NODES), *done[:left_out], *done[left_out + 1 :]]
        assert not is_ready(WANTED, part)


def test_what_is_to_be_done_on_which_node() -> None:
    assert steps_before_ready(has_bmc=True, cloud="") == ("power", "provision", "canary")
    assert steps_before_ready(has_bmc=True, cloud="multinode") == STEPS
    assert steps_before_ready(has_bmc=False, cloud="") == ()
    assert steps_before_ready(has_bmc=False, cloud="embedded") == ("smoke",)
    assert is_ready({"a": ()}, [])


@pytest.mark.parametrize("before", BookingState)
def test_states_go_one_way(before) -> None:
    assert may_follow(before, before)
    assert not may_follow(BookingState.OVER, before) or before is BookingState.OVER
    assert BookingState.READY not in NEXT[before] or before is BookingState.PREPARING, (
        "nothing is ready unprepared"
    )
    assert (
        before in (BookingState.OVER, BookingState.ENDING, BookingState.RECLAIMING)
        or BookingState.OVER in NEXT[before]
    )
