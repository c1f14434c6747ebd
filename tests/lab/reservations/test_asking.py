"""What happens when somebody asks for nodes, on SQLite and on PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from perfci.lab.errors import (
    NodesUnknown,
    NodesUnmatched,
    NoSuchSlot,
    ReservationInvalid,
    ReservationLimit,
    ReservationNotFound,
)
from perfci.lab.reservations.model import Actor, BookingState, NodeState, NodeWish, Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from perfci.lab.reservations.service import Reservations

from calendars import ANN, BOB, MACHINES, ROOT, START, Clock, at, wants


def test_nodes_without_anything_to_prepare_are_ready_at_once(lab: Reservations) -> None:
    made = lab.reserve(wants(2), ANN)
    assert (made.state, made.nodes, made.starts_at, made.ends_at) == (
        BookingState.READY, ("a", "b"), START, at(2),
    )  # fmt: skip
    assert made.ready_at == START
    assert [(one.actor, one.action) for one in lab.history(reservation_id=made.id)] == [
        ("ann", "asked"),
        ("perfci", "preparing"),
        ("perfci", "ready"),
    ]
    assert [(one.name, one.state, one.booking and one.booking.id) for one in lab.nodes()] == [
        ("a", NodeState.HELD, made.id),
        ("b", NodeState.HELD, made.id),
        ("c", NodeState.FREE, None),
    ]
    assert lab.show(made.id) == made
    assert lab.of("ann") == (made,)


def test_machines_are_prepared_first(opened: Callable[..., Reservations]) -> None:
    made = opened(MACHINES).reserve(wants(), ANN)
    assert made.state is BookingState.PREPARING
    assert made.ready_at is None


def test_what_is_not_free_now_is_refused_with_the_earliest_time_that_works(lab: Reservations) -> None:
    lab.reserve(wants(2, 4), ANN)
    with pytest.raises(NoSuchSlot) as caught:
        lab.reserve(wants(2), BOB)
    assert caught.value.exit_code == 3
    slot = caught.value.slot
    assert slot is not None
    assert (slot.starts_at, slot.ends_at, slot.nodes) == (at(4), at(6), ("a", "b"))
    assert caught.value.as_dict()["slot"]["starts_at"] == "2026-03-01T16:00:00+00:00"
    assert lab.of("bob") == ()
    assert lab.find(NodeWish(2), 7200)[0] == slot


def test_a_time_to_come_is_kept_free_for_its_holder(lab: Reservations, clock: Clock) -> None:
    made = lab.reserve(wants(3, starts_at=at(4)), ANN)
    assert (made.state, made.firm, made.starts_at) == (BookingState.WAITING, True, at(4))
    assert lab.reserve(wants(3, 4), BOB).ends_at == at(4)
    with pytest.raises(NoSuchSlot):
        lab.reserve(wants(starts_at=at(5)), BOB)
    (slot, *_) = lab.find(NodeWish(1), 7200)
    assert slot.starts_at == at(6)
    assert lab.node("a").free_until == at(4)
    clock.now = at(5)
    assert lab.node("a").booking == made


def test_waiting_has_a_bound(lab: Reservations) -> None:
    lab.reserve(wants(3, 4), ANN)
    with pytest.raises(NoSuchSlot):
        lab.reserve(wants(wait_seconds=3 * 3600), BOB)
    assert lab.reserve(wants(wait_seconds=4 * 3600), BOB).starts_at == at(4)


def test_names_and_filters(lab: Reservations) -> None:
    assert lab.reserve(wants(names="b"), ANN).nodes == ("b",)
    assert lab.reserve(wants(2, where="cores >= 32"), ANN).nodes == ("a", "c")
    with pytest.raises(NoSuchSlot):
        lab.reserve(wants(where="cores == 8"), BOB)
    for request, error in (
        (wants(4), NodesUnknown),
        (wants(names="ax"), NodesUnknown),
        (wants(where="cores > 99"), NodesUnmatched),
        (wants(where="coers > 9"), NodesUnmatched),
        (wants(2, where="cores == 8"), NodesUnknown),
    ):
        with pytest.raises(error):
            lab.reserve(request, BOB)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (wants(hours=0), "from 1 minute"),
        (wants(hours=-5), "from 1 minute"),
        (wants(hours=float("nan")), "from 1 minute"),
        (wants(hours=float("inf")), "from 1 minute"),
        (wants(hours=1e300), "from 1 minute"),
        (wants(0), "number of nodes"),
        (wants(-1), "number of nodes"),
        (wants(10**9), "number of nodes"),
        (wants(wait_seconds=-1), "time to wait"),
        (wants(wait_seconds=float("nan")), "time to wait"),
        (wants(starts_at=at(-1)), "in the past"),
        (wants(starts_at=at(24 * 400)), "days ahead"),
        (wants(starts_at=datetime(2026, 3, 2)), "no time zone"),  # noqa: DTZ001 - that is the mistake
        (wants(names="a", where="cores > 1"), "not both"),
        (wants(where="cores >"), "the filter"),
        (wants(where="x" * 10_000_000), "the filter"),
        (wants(contact="nobody"), "no mail address"),
        (Request(NodeWish(), 3600, "two\nlines"), "one line"),
        (Request(NodeWish(), 3600, " "), "one line"),
        (Request(NodeWish(), 3600, "x" * 10_000_000), "500 characters"),
    ],
)
def test_what_is_no_reservation(lab: Reservations, request_: Request, reason: str) -> None:
    with pytest.raises(ReservationInvalid, match=reason):
        lab.reserve(request_, ANN)
    assert lab.history() == ()


def test_text_is_data(lab: Reservations) -> None:
    hostile = "'; DROP TABLE reservation; -- <script>alert(1)</script> %s {x}"
    made = lab.reserve(Request(NodeWish(), 3600, hostile), Actor(hostile))
    assert (lab.show(made.id).purpose, lab.of(hostile)) == (hostile, (made,))
    with pytest.raises(ReservationNotFound):
        lab.show(hostile)


def test_limits_for_a_person(opened: Callable[..., Reservations]) -> None:
    lab = opened(nodes_per_person=2, open_per_person=3)
    first = lab.reserve(wants(names="a"), ANN)
    with pytest.raises(ReservationLimit, match="2 nodes at one time"):
        lab.reserve(wants(2), ANN)
    later = lab.reserve(wants(names="bc", starts_at=at(2)), ANN)
    with pytest.raises(ReservationLimit):
        lab.extend(first.id, 3600, ANN)
    lab.reserve(wants(1, starts_at=at(9)), ANN)
    with pytest.raises(ReservationLimit, match="3 open reservations"):
        lab.reserve(wants(1, starts_at=at(12)), ANN)
    lab.reserve(wants(1), BOB)
    lab.release(later.id, ANN)
    assert lab.reserve(wants(3, starts_at=at(20)), ROOT).nodes == ("a", "b", "c")


@pytest.mark.parametrize(
    ("asked", "domain", "holder", "contact"),
    [
        ("", None, "ann", ""),
        ("", "example.org", "ann", "ann@example.org"),
        ("me@example.net", "example.org", "ann", "me@example.net"),
        ("none", "example.org", "ann", ""),
        ("", "example.org", "Ann of QA", ""),
    ],
    ids=["no default", "default", "own", "no mails", "no address"],
)
def test_mail_goes_where_it_was_asked_for_or_to_the_holder_at_the_labs_domain(
    opened: Callable[..., Reservations], asked: str, domain: str | None, holder: str, contact: str
) -> None:
    lab = opened(mail_domain=domain)
    made = lab.reserve(replace(wants(1), contact=asked), Actor(holder))
    assert made.contact == contact


def test_whoever_gets_a_reservation_gets_its_mail(opened: Callable[..., Reservations]) -> None:
    lab = opened(mail_domain="example.org")
    made = lab.reserve(wants(1), ANN)
    assert lab.transfer(made.id, "bob", ANN).contact == "bob@example.org"
    assert lab.transfer(made.id, "ann", BOB, contact="none").contact == ""
