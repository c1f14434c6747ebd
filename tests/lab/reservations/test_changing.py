"""What people change of their reservations, on SQLite and on PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from perfci.lab.errors import (
    NoSuchSlot,
    NotYours,
    ReservationInvalid,
    ReservationLimit,
)
from perfci.lab.reservations.model import NodeState, Priority
from perfci.lab.reservations.node_orders import NodeOrders
from perfci.lab.reservations.work import Work

if TYPE_CHECKING:
    from collections.abc import Callable

    from perfci.lab.reservations.service import Reservations

from calendars import ANN, ANNS_KEY, BOB, BOBS_KEY, MACHINES, ROOT, at, wants


def test_extending_needs_the_nodes_to_be_free(lab: Reservations) -> None:
    made = lab.reserve(wants(hours=2), ANN)
    longer = lab.extend(made.id, 3600, ANN)
    assert (longer.ends_at, longer.places[0].ends_at) == (at(3), at(3))
    lab.reserve(wants(3, starts_at=at(4)), BOB)
    with pytest.raises(NoSuchSlot, match="it can last until"):
        lab.extend(made.id, 2 * 3600, ANN)
    assert lab.show(made.id) == longer
    for seconds in (0, -5, float("nan"), float("inf"), 1e12):
        with pytest.raises(ReservationInvalid):
            lab.extend(made.id, seconds, ANN)


def test_who_ranks_after_makes_room_for_an_extension(lab: Reservations) -> None:
    made = lab.reserve(wants(3, 2), ANN)
    waiting = lab.reserve(wants(3, 1, wait_seconds=None, priority=Priority.BISECT), BOB)
    person = lab.reserve(wants(3, 1, wait_seconds=None), BOB)
    assert (lab.show(waiting.id).starts_at, person.starts_at) == (at(3), at(2))
    with pytest.raises(NoSuchSlot):
        lab.extend(made.id, 3600, ANN)
    lab.release(person.id, BOB)
    assert lab.show(waiting.id).starts_at == at(2)
    lab.extend(made.id, 3600, ANN)
    assert lab.show(waiting.id).starts_at == at(3)


def test_shortening_frees_the_rest(lab: Reservations) -> None:
    made = lab.reserve(wants(3, 4), ANN)
    waiting = lab.reserve(wants(1, 1, wait_seconds=None), BOB)
    assert lab.shorten(made.id, at(1), ANN).ends_at == at(1)
    assert lab.show(waiting.id).starts_at == at(1)
    for wrong in (at(-1), at(0), at(1), at(5)):
        with pytest.raises(ReservationInvalid):
            lab.shorten(made.id, wrong, ANN)


def test_what_is_somebody_elses(lab: Reservations) -> None:
    made = lab.reserve(wants(), ANN)
    for order in (
        lambda who: lab.release(made.id, who),
        lambda who: lab.extend(made.id, 60, who),
        lambda who: lab.shorten(made.id, at(1), who),
        lambda who: lab.swap(made.id, "a", who),
        lambda who: lab.transfer(made.id, "bob", who),
    ):
        with pytest.raises(NotYours) as caught:
            order(BOB)
        assert caught.value.exit_code == 4
    assert lab.show(made.id) == made
    lab.release(made.id, ROOT)
    assert lab.history(reservation_id=made.id)[-1].actor == "root"


def test_handing_over(opened: Callable[..., Reservations]) -> None:
    lab = opened(open_per_person=1)
    made = lab.reserve(wants(), ANN)
    assert lab.transfer(made.id, "bob", ANN).holder == "bob"
    with pytest.raises(NotYours):
        lab.release(made.id, ANN)
    other = lab.reserve(wants(), ANN)
    with pytest.raises(ReservationLimit, match="bob may have at most 1 open reservations"):
        lab.transfer(other.id, "bob", ANN)


@pytest.mark.parametrize("contact", ["bob", "bob@example.org\nBcc: all@example.org", "bob@ex\u00e4mple.org"])
def test_nobody_hands_over_to_an_address_that_no_mail_can_have(lab: Reservations, contact: str) -> None:
    """It would be in the way of all mails about reservations: they are written together."""
    made = lab.reserve(wants(), ANN)
    with pytest.raises(ReservationInvalid, match="no mail address"):
        lab.transfer(made.id, "bob", ANN, contact=contact)
    assert lab.show(made.id) == made
    assert lab.transfer(made.id, "bob", ANN, contact="bob@example.org").contact == "bob@example.org"


def test_swapping_never_gives_other_hardware(lab: Reservations) -> None:
    made = lab.reserve(wants(where="cores >= 32"), ANN)
    swapped = lab.swap(made.id, "a", ANN)
    assert swapped.nodes == ("c",)
    assert lab.node("a").state is NodeState.FREE
    lab.reserve(wants(names="a"), BOB)
    with pytest.raises(NoSuchSlot):
        lab.swap(made.id, "c", ANN)
    named = lab.reserve(wants(names="b"), BOB)
    with pytest.raises(NoSuchSlot, match="name one"):
        lab.swap(named.id, "b", BOB)


def test_keys_open_machines_for_whoever_has_them_now(opened: Callable[..., Reservations]) -> None:
    lab = opened(MACHINES)
    work = Work(lab, "one")
    made = lab.reserve(wants(keys=(ANNS_KEY, "", ANNS_KEY)), ANN)
    assert made.keys == (ANNS_KEY,)
    with pytest.raises(NotYours):
        lab.admit(made.id, [BOBS_KEY], BOB)
    with pytest.raises(ReservationInvalid, match="SSH key 1") as refused:
        lab.admit(made.id, ["-----BEGIN OPENSSH PRIVATE KEY-----"], ANN)
    assert "BEGIN" not in str(refused.value)
    work.claim(made.id)
    for step in ("power", "provision", "canary"):
        NodeOrders(lab).note("a", step, ok=True, reservation_id=made.id)
    work.ready(made.id)
    assert work.logins_due() == (), "preparing has put them there"
    both = lab.admit(made.id, [ANNS_KEY, BOBS_KEY], ANN)
    assert work.logins_due() == (made.id,)
    lab.admit(made.id, [BOBS_KEY], ANN)
    work.logins_set(both, "on a")
    assert work.logins_due() == (made.id,), "they were changed meanwhile"
    work.logins_set(lab.show(made.id), "on a")
    assert work.logins_due() == ()
    assert lab.transfer(made.id, "bob", ANN).keys == (), "hers open nothing of his"
    assert work.logins_due() == (made.id,)
    plain = opened().reserve(wants(names="b", keys=(ANNS_KEY,)), ANN)
    assert plain.keys == (), "perfci changes nothing on a machine without a BMC"
