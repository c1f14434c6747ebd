"""What controllers do for reservations, and what happens when one dies."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from calendars import ANN, ANNS_KEY, BOB, BOBS_KEY, HOUR, MACHINES, ROOT, START, Clock, at, wants

from perfci.lab import owners
from perfci.lab.errors import StateOrder
from perfci.lab.model import Node
from perfci.lab.reservations.model import BookingState, NodeWish, Request
from perfci.lab.reservations.nights import Nights, Plan
from perfci.lab.reservations.node_orders import NodeOrders
from perfci.lab.reservations.service import Reservations
from perfci.lab.reservations.work import CLAIM_SECONDS, RECLAIM, Work
from perfci.lab.sql import SqlLedger

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = ("power", "provision", "canary")


@pytest.fixture
def lab(opened: Callable[..., Reservations]) -> Reservations:
    return opened(MACHINES)


def did(lab: Reservations, booking_id: str, node: str, *steps: str, ok: bool = True) -> None:
    for step in steps:
        NodeOrders(lab).note(node, step, ok=ok, reservation_id=booking_id)


def test_ready_is_told_after_every_step_on_every_node_and_not_before(lab: Reservations) -> None:
    made = lab.reserve(wants(2), ANN)
    work = Work(lab, "one")
    assert work.due() == (made.id,)
    assert work.claim(made.id) is not None
    assert work.due() == ()
    for node, step in ((node, step) for node in "ab" for step in STEPS):
        with pytest.raises(StateOrder):
            work.ready(made.id)
        did(lab, made.id, node, step)
    done = work.ready(made.id)
    assert done is not None
    assert (done.state, done.ready_at, done.claimed_by) == (BookingState.READY, START, None)
    assert work.ready(made.id) is None


def test_steps_of_another_reservation_do_not_count(lab: Reservations) -> None:
    did(lab, "another", "a", *STEPS)
    made = lab.reserve(wants(), ANN)
    work = Work(lab, "one")
    work.claim(made.id)
    with pytest.raises(StateOrder):
        work.ready(made.id)


def test_a_dead_controllers_work_moves_to_another(lab: Reservations, clock: Clock) -> None:
    made = lab.reserve(wants(), ANN)
    first, second = Work(lab, "one"), Work(lab, "two")
    assert first.claim(made.id) is not None
    assert second.claim(made.id) is None
    clock.now += timedelta(seconds=CLAIM_SECONDS - 1)
    assert first.keep(made.id)
    clock.now += timedelta(seconds=CLAIM_SECONDS - 1)
    assert second.claim(made.id) is None, "it is kept alive"
    clock.now += timedelta(seconds=2)
    assert second.claim(made.id) is not None
    assert not first.keep(made.id), "it must stop"
    did(lab, made.id, "a", *STEPS)
    assert first.ready(made.id) is None
    assert second.ready(made.id) is not None


def test_whoever_comes_too_late_takes_no_other_work_either(lab: Reservations) -> None:
    made, other = lab.reserve(wants(), ANN), lab.reserve(wants(), BOB)
    first, second = Work(lab, "one"), Work(lab, "two")
    assert first.claim(made.id) is not None
    assert second.claim(made.id) is None
    assert first.keep(made.id), "it is still its own"
    assert second.due() == (other.id,)


def test_controllers_of_two_labs_share_a_database_and_no_work(lab: Reservations, clock: Clock) -> None:
    other = Reservations(lab.database, "other lab", MACHINES, clock=clock)
    made = lab.reserve(wants(names="a", keys=(ANNS_KEY,)), ANN)
    theirs = Work(other, "theirs")
    assert other.reserve(wants(names="a"), BOB).nodes == ("a",), "another lab's node-a is another machine"
    assert made.id not in theirs.due()
    assert theirs.claim(made.id) is None
    mine = Work(lab, "mine")
    mine.claim(made.id)
    did(lab, made.id, "a", *STEPS)
    assert mine.ready(made.id)
    lab.admit(made.id, [BOBS_KEY], ANN)
    assert (mine.logins_due(), theirs.logins_due()) == ((made.id,), ())
    ended = Work(lab, "mine").take_back_left({"b": "run-1"})
    assert (mine.left_by_nights(), theirs.left_by_nights()) == (ended, ())
    clock.now = at(3)
    assert other.sweep()[0][0].id != made.id
    assert lab.show(made.id).state is BookingState.READY


def test_new_keys_are_owed_until_they_are_set_or_the_machines_are_gone(lab: Reservations) -> None:
    made = lab.reserve(wants(keys=(ANNS_KEY,)), ANN)
    work = Work(lab, "one")
    work.claim(made.id)
    did(lab, made.id, "a", *STEPS)
    assert work.ready(made.id)
    assert work.logins_due() == ()
    lab.admit(made.id, [BOBS_KEY], ANN)
    lab.extend(made.id, 600, ANN)
    assert work.logins_due() == (made.id,), "whatever happens to it afterwards"
    lab.release(made.id, ANN)
    assert work.logins_due() == ()


def test_another_node_takes_over_and_is_prepared_itself(lab: Reservations) -> None:
    made = lab.reserve(wants(where="cores >= 32"), ANN)
    work = Work(lab, "one")
    work.claim(made.id)
    did(lab, made.id, "a", "power")
    did(lab, made.id, "a", "provision", ok=False)
    other = work.without(made.id, "a", "no DHCP")
    assert other is not None
    assert other.nodes == ("c",)
    with pytest.raises(StateOrder):
        work.ready(made.id)
    did(lab, made.id, "c", *STEPS)
    assert work.ready(made.id) is not None
    failed = [one.detail for one in lab.history(reservation_id=made.id) if one.action == "node failed"]
    assert failed == ["a: no DHCP"]


def test_a_node_that_its_holder_gave_back_meanwhile_is_not_replaced(lab: Reservations) -> None:
    made = lab.reserve(wants(2), ANN)
    work = Work(lab, "one")
    work.claim(made.id)
    lab.release(made.id, ANN, node="a")
    kept = work.without(made.id, "a", "no DHCP")
    assert kept is not None
    assert (kept.state, kept.nodes) == (BookingState.PREPARING, ("b",))


def test_a_reservation_that_ended_meanwhile_is_neither_ready_nor_swapped(lab: Reservations) -> None:
    made = lab.reserve(wants(), ANN)
    work = Work(lab, "one")
    work.claim(made.id)
    did(lab, made.id, "a", *STEPS)
    lab.release(made.id, ANN)
    assert work.ready(made.id) is None
    assert work.without(made.id, "a", "no DHCP") is None
    assert work.end(made.id, "cloud failed", "no DHCP") is None
    assert lab.show(made.id).state is BookingState.ENDING


def test_without_any_other_node_it_goes_back_into_the_queue(lab: Reservations) -> None:
    lab.reserve(wants(names="c"), BOB)
    made = lab.reserve(wants(where="cores >= 32"), ANN)
    work = Work(lab, "one")
    work.claim(made.id)
    back = work.without(made.id, "a", "no DHCP")
    assert back is not None
    assert (back.state, back.claimed_by) == (BookingState.WAITING, None)
    NodeOrders(lab).quarantine("a", "broken", ROOT)
    assert lab.show(made.id).starts_at == at(2)
    assert lab.show(made.id).nodes == ("c",)


def test_certain_nodes_are_kept_and_tried_again(lab: Reservations, clock: Clock) -> None:
    made = lab.reserve(wants(names="a"), ANN)
    work = Work(lab, "one")
    work.claim(made.id)
    kept = work.without(made.id, "a", "no DHCP")
    assert kept is not None
    assert (kept.nodes, kept.state) == (("a",), BookingState.PREPARING)
    clock.now += timedelta(seconds=CLAIM_SECONDS)
    assert work.due() == (made.id,)


def test_nodes_are_taken_back_before_others_get_them(lab: Reservations, clock: Clock) -> None:
    made = lab.reserve(wants(2), ANN)
    lab.release(made.id, ANN)
    work = Work(lab, "one")
    claimed = work.claim(made.id)
    assert claimed is not None
    assert claimed.state is BookingState.RECLAIMING
    assert work.to_reclaim(claimed) == ("a", "b")
    assert lab.reserve(wants(), BOB).nodes == ("c",)
    assert lab.find(wants().wish, 3600)[0].starts_at == START + RECLAIM
    work.reclaimed(made.id)
    assert lab.show(made.id).state is BookingState.OVER
    assert lab.reserve(wants(2), BOB).nodes == ("a", "b")


def test_what_somebody_got_meanwhile_is_not_taken_back(lab: Reservations, clock: Clock) -> None:
    made = lab.reserve(wants(2), ANN)
    lab.release(made.id, ANN)
    lab.reserve(wants(names="a"), BOB)
    work = Work(lab, "one")
    claimed = work.claim(made.id)
    assert claimed is not None
    assert work.to_reclaim(claimed) == ("b",)
    clock.now += timedelta(seconds=CLAIM_SECONDS)
    again = Work(lab, "two").claim(made.id)
    assert again is not None
    assert Work(lab, "two").to_reclaim(again) == ("b",)


def test_what_ended_while_nobody_looked(lab: Reservations, clock: Clock) -> None:
    """A controller was down for a week: what began and ended meanwhile is over, and what is due begins."""
    gone = lab.reserve(wants(2), ANN)
    planned = lab.reserve(wants(starts_at=at(5)), ANN)
    due = lab.reserve(wants(hours=24 * 9, names="c", starts_at=at(3)), BOB)
    clock.now = at(24 * 7)
    ended = {one.id: str(reason) for one, reason in lab.sweep()}
    assert ended == {gone.id: "its time is over", planned.id: "its time is over"}
    assert lab.sweep() == ()
    assert lab.show(gone.id).state is BookingState.ENDING
    assert lab.show(planned.id).state is BookingState.OVER
    (begun,) = lab.begin()
    assert (begun.id, begun.state) == (due.id, BookingState.PREPARING)
    assert lab.begin() == ()


def test_machines_of_a_command_whose_process_died_are_reclaimed_whoever_sees_it_first(
    lab: Reservations,
) -> None:
    gone = replace(owners.me(), started_ticks=owners.me().started_ticks + 1)
    made = lab.reserve(Request(NodeWish(1), 3600, "lab run"), ANN, owner=gone)
    ledger = SqlLedger(lab.database, lab.lab, [Node("a", has_bmc=True)], clock=lab.now)
    assert [one.id for one, _ in ledger.sweep()] == [made.id]
    assert lab.show(made.id).state is BookingState.ENDING
    assert Work(lab, "one").due() == (made.id,)


@pytest.mark.parametrize("sees", ["tick", "run"])
@pytest.mark.parametrize("planned", [False, True], ids=["by hand", "planned"])
def test_what_a_killed_night_left_on_is_reclaimed_whoever_sees_it_first(
    lab: Reservations, clock: Clock, monkeypatch: pytest.MonkeyPatch, *, sees: str, planned: bool
) -> None:
    gone = replace(owners.me(), started_ticks=owners.me().started_ticks + 1)
    ledger = SqlLedger(lab.database, lab.lab, [Node("a", has_bmc=True)], clock=lab.now)
    with monkeypatch.context() as there:
        there.setattr(owners, "me", lambda: gone)
        if planned:
            nights = Nights(lab, "one")
            (night,) = nights.plan(
                Plan("nightly", "perfci", NodeWish(1), 6 * HOUR, 2 * HOUR, windows=(at(4),))
            )
            clock.now = at(4)
            assert nights.start(night.id)
            made = ledger.adopt(night.id, "run x")
        else:
            until = lab.now() + timedelta(hours=1)
            made = ledger.reserve(nodes=1, holder="perfci", purpose="run x", until=until, owner=gone)
    (ledger if sees == "run" else lab).sweep()
    work = Work(lab, "one")
    assert (work.due(), work.left_by_nights()) == ((made.id,), (made.id,))
    claimed = work.claim(made.id)
    assert claimed is not None
    assert work.to_reclaim(claimed) == ("a",)
    work.reclaimed(made.id)
    assert lab.show(made.id).state is BookingState.OVER
    assert (work.due(), work.left_by_nights()) == ((), ())


def test_a_night_that_gave_its_nodes_back_has_nothing_to_reclaim(lab: Reservations) -> None:
    ledger = SqlLedger(lab.database, lab.lab, [Node("a", has_bmc=True)], clock=lab.now)
    until = lab.now() + timedelta(hours=1)
    with ledger.lease(nodes=1, holder="perfci", purpose="run x", until=until) as made:
        pass
    assert lab.show(made.id).state is BookingState.OVER
    assert Work(lab, "one").due() == ()


def test_machines_that_a_killed_trial_left_on_are_taken_back_unless_somebody_has_them(
    lab: Reservations,
) -> None:
    work = Work(lab, "one")
    has = lab.reserve(wants(names="b"), ANN)
    (first,) = work.take_back_left({"a": "run-1", "b": "run-1", "gone": "run-1"})
    made = lab.show(first)
    assert (made.state, made.nodes, made.purpose) == (BookingState.ENDING, ("a",), "left on by run-1")
    assert work.take_back_left({"a": "run-1"}) == (), "that is being done"
    assert set(work.due()) == {has.id, first}
    assert work.left_by_nights() == (first,)
