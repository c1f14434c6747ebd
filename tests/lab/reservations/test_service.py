"""What people do with the calendar, on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from perfci.database.engine import Database
from perfci.lab.errors import (
    AdminsOnly,
    NoCanary,
    NodeNotHeld,
    NodesUnhealthy,
    NodesUnknown,
    NodesUnmatched,
    NoSuchSlot,
    NotYours,
    ReservationInvalid,
    ReservationLimit,
    ReservationNotFound,
    ReservationOver,
    TokenUnknown,
)
from perfci.lab.model import Node
from perfci.lab.reservations.checks import Policy
from perfci.lab.reservations.model import Actor, BookingState, NodeState, NodeWish, Priority, Request
from perfci.lab.reservations.nights import Nights, Plan
from perfci.lab.reservations.node_orders import NodeOrders
from perfci.lab.reservations.service import Reservations
from perfci.lab.reservations.tokens import PREFIX, Tokens
from perfci.lab.reservations.work import Work
from perfci.lab.sql import SqlLedger

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ANN, BOB, ROOT = Actor("ann"), Actor("bob"), Actor("root", admin=True)
PLAIN = tuple(Node(name, labels={"cores": cores}) for name, cores in (("a", "32"), ("b", "8"), ("c", "32")))
MACHINES = tuple(Node(node.name, has_bmc=True, labels=node.labels) for node in PLAIN)
ANNS_KEY, BOBS_KEY = (
    f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{letter * 43} {name}"
    for letter, name in (("A", "ann@x"), ("B", "bob"))
)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def opened(request: pytest.FixtureRequest, clock: Clock, tmp_path: Path) -> Callable[..., Reservations]:
    """What opens the calendar of a lab of three nodes."""
    url = f"sqlite:///{tmp_path}/lab.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql")
    database = Database(url)
    lab = f"lab-{tmp_path.name}"

    def reservations(nodes: tuple[Node, ...] = PLAIN, **policy: object) -> Reservations:
        return Reservations(database, lab, nodes, policy=Policy(**policy), clock=clock)

    return reservations


@pytest.fixture
def lab(opened: Callable[..., Reservations]) -> Reservations:
    return opened()


def wants(count: int = 1, hours: float = 2, *, names: str = "", where: str = "", **fields: object) -> Request:
    wish = NodeWish(count, frozenset(names), where)
    return Request(wish, hours * 3600, "tuning", **fields)


def at(hours: float) -> datetime:
    return START + hours * HOUR


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


def test_the_queue_moves_up_when_nodes_come_back(lab: Reservations, clock: Clock) -> None:
    first = lab.reserve(wants(3, 8), ANN)
    second = lab.reserve(wants(2, 2, wait_seconds=None), BOB)
    third = lab.reserve(wants(1, 2, wait_seconds=None), ANN)
    assert [(one.starts_at, one.nodes) for one in (second, third)] == [(at(8), ("a", "b")), (at(8), ("c",))]
    clock.now = at(1)
    lab.release(first.id, ANN, node="c")
    assert lab.show(third.id).starts_at == at(1)
    assert lab.show(second.id) == second
    lab.release(first.id, ANN)
    moved = lab.show(second.id)
    assert (moved.starts_at, moved.ends_at, moved.state) == (at(1), at(3), BookingState.WAITING)
    assert "moved" in [one.action for one in lab.history(reservation_id=second.id)]


def test_waiting_has_a_bound(lab: Reservations) -> None:
    lab.reserve(wants(3, 4), ANN)
    with pytest.raises(NoSuchSlot):
        lab.reserve(wants(wait_seconds=3 * 3600), BOB)
    assert lab.reserve(wants(wait_seconds=4 * 3600), BOB).starts_at == at(4)


def test_people_come_before_nights_and_nights_before_bisects(lab: Reservations, clock: Clock) -> None:
    lab.reserve(wants(3, 4), ANN)
    bisect = lab.reserve(wants(3, 2, wait_seconds=None, priority=Priority.BISECT), BOB)
    night = lab.reserve(wants(3, 2, wait_seconds=None, priority=Priority.NIGHT), BOB)
    person = lab.reserve(wants(3, 2, wait_seconds=None), BOB)
    second = lab.reserve(wants(3, 2, wait_seconds=None), ANN)
    starts = [lab.show(one.id).starts_at for one in (person, second, night, bisect)]
    assert starts == [at(4), at(6), at(8), at(10)]
    # Who has waited for two days is put behind nobody any more.
    clock.now = at(3.9)
    patient = Reservations(lab._database, lab.lab, PLAIN, policy=Policy(patience_hours=3), clock=clock)
    late = patient.reserve(wants(3, 2, wait_seconds=None), ANN)
    assert [lab.show(one.id).starts_at for one in (bisect, late)] == [at(10), at(12)]


def test_a_firm_time_moves_those_that_rank_after_it_and_nobody_else(lab: Reservations) -> None:
    lab.reserve(wants(3, 4), ANN)
    bisect = lab.reserve(wants(3, 2, wait_seconds=None, priority=Priority.BISECT), BOB)
    with pytest.raises(NoSuchSlot):
        lab.reserve(wants(starts_at=at(3)), BOB)
    made = lab.reserve(wants(3, 1, starts_at=at(4.5)), ANN)
    assert made.starts_at == at(4.5)
    assert lab.show(bisect.id).starts_at == at(5.5)


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


def test_one_node_of_several_can_be_given_back(lab: Reservations, clock: Clock) -> None:
    made = lab.reserve(wants(2), ANN)
    clock.now = at(0.5)
    left = lab.release(made.id, ANN, node="a")
    assert (left.nodes, left.state) == (("b",), BookingState.READY)
    assert lab.reserve(wants(names="a"), BOB).nodes == ("a",)
    with pytest.raises(NodeNotHeld):
        lab.release(made.id, ANN, node="a")
    done = lab.release(made.id, ANN, node="b")
    assert (done.state, done.released_at) == (BookingState.OVER, clock.now)
    assert lab.release(made.id, ANN) == done, "giving back what was given back changes nothing"
    with pytest.raises(ReservationOver):
        lab.extend(made.id, 60, ANN)


def test_after_a_person_machines_are_reclaimed(opened: Callable[..., Reservations]) -> None:
    lab = opened(MACHINES)
    assert lab.release(lab.reserve(wants(), ANN).id, ANN).state is BookingState.ENDING
    planned = lab.reserve(wants(starts_at=at(5)), ANN)
    assert lab.release(planned.id, ANN).state is BookingState.OVER, "nothing was touched"


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
    with pytest.raises(ReservationLimit, match="bob may have 1 open reservations"):
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


def test_the_queue_gives_nobody_more_than_one_person_may_have(opened: Callable[..., Reservations]) -> None:
    lab = opened(nodes_per_person=2)
    mine = lab.reserve(wants(names="ab"), ANN)
    other = lab.reserve(wants(names="c"), BOB)
    waiting = lab.reserve(wants(1, wait_seconds=None), ANN)
    assert waiting.starts_at == at(2)
    lab.release(other.id, BOB)
    assert lab.show(waiting.id).starts_at == at(2), "c is free, but she has two"
    lab.release(mine.id, ANN, node="a")
    assert lab.show(waiting.id).starts_at == at(0)


def test_a_machine_that_leaves_early_is_reclaimed_by_itself(
    opened: Callable[..., Reservations], clock: Clock
) -> None:
    lab = opened(MACHINES)
    work = Work(lab, "one")
    made = lab.reserve(wants(2), ANN)
    work.claim(made.id)
    for node, step in ((node, step) for node in "ab" for step in ("power", "provision", "canary")):
        NodeOrders(lab).note(node, step, ok=True, reservation_id=made.id)
    work.ready(made.id)
    clock.now = at(0.5)
    assert lab.release(made.id, ANN, node="a").nodes == ("b",)
    (part,) = work.due()
    claimed = work.claim(part)
    assert claimed is not None
    assert (claimed.state, work.to_reclaim(claimed)) == (BookingState.RECLAIMING, ("a",))
    assert lab.of("ann") == (lab.show(made.id),), "it is no reservation of hers"
    with pytest.raises(NoSuchSlot):
        lab.reserve(wants(names="a"), BOB)
    work.reclaimed(part)
    assert lab.reserve(wants(names="a"), BOB).starts_at == clock.now
    assert lab.swap(made.id, "b", ANN).nodes == ("c",)
    assert [
        lab.show(one).places[0].node for one in work.due() if lab.show(one).state is BookingState.ENDING
    ] == ["b"]


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


def test_people_book_over_planned_nights_only_where_the_lab_allows_it(
    opened: Callable[..., Reservations],
) -> None:
    lab = opened()
    plan = Plan("nightly", "perfci", NodeWish(3), 2 * HOUR, HOUR, (at(4),))
    (night,) = Nights(lab, "one").plan(plan)
    assert (night.state, night.starts_at) == (BookingState.WAITING, at(4))
    with pytest.raises(NoSuchSlot):
        lab.reserve(wants(1, 2, starts_at=at(3)), ANN)
    opened(book_over_nights=True).reserve(wants(1, 2, starts_at=at(3)), ANN)
    assert lab.show(night.id).starts_at == at(5)


def test_a_node_in_quarantine_is_handed_to_nobody_and_what_was_planned_moves(
    opened: Callable[..., Reservations],
) -> None:
    lab = opened()
    orders = NodeOrders(lab)
    firm = lab.reserve(wants(2, starts_at=at(1)), ANN)
    named = lab.reserve(wants(names="a", starts_at=at(5)), BOB)
    queued = lab.reserve(wants(3, wait_seconds=None, starts_at=None), BOB)
    assert queued.starts_at == at(7) or queued.starts_at == at(3)
    with pytest.raises(AdminsOnly):
        orders.quarantine("a", "its BMC hangs", ANN)
    entry = orders.quarantine("a", "its BMC hangs", ROOT)
    assert lab.show(firm.id).nodes == ("b", "c"), "another that fits, at the same time"
    assert lab.show(named.id).nodes == ("a",), "never other hardware than was asked for"
    assert "stranded" in [one.action for one in lab.history(reservation_id=named.id)]
    assert lab.show(queued.id).state is BookingState.ASKED
    before = lab.history()
    orders.mend()
    assert lab.history() == before, "mending again changes nothing"
    assert lab.node("a").state is NodeState.QUARANTINED
    assert lab.node("a").quarantine == entry
    with pytest.raises(NodesUnhealthy) as caught:
        lab.reserve(wants(names="a"), ANN)
    assert caught.value.exit_code == 5
    assert orders.restore("a", ROOT)
    assert not orders.restore("a", ROOT)
    assert lab.show(queued.id).state is BookingState.WAITING


def test_two_failures_in_a_row_put_a_node_into_quarantine(opened: Callable[..., Reservations]) -> None:
    lab = opened(MACHINES)
    orders = NodeOrders(lab)
    assert orders.note("a", "power", ok=False, detail="no answer") is None
    assert orders.note("a", "power", ok=True) is None
    assert orders.note("a", "power", ok=False, detail="no answer") is None
    assert orders.note("a", "canary", ok=False, detail="slow") is None
    entry = orders.note("a", "power", ok=False, detail="BMC\nsilent")
    assert entry is not None
    assert "power failed 2 times in a row: no answer; BMC silent" in entry.reason
    assert lab.node("a").state is NodeState.QUARANTINED
    with pytest.raises(NoCanary):
        orders.restore("a", ROOT)
    orders.note("a", "canary", ok=True)
    assert orders.restore("a", ROOT)
    assert orders.note("a", "power", ok=False) is None, "it begins at nothing again"
    assert lab.health("a").failures_per_100 == pytest.approx(100 * 5 / 7)
    assert [one.action for one in lab.node_history("a")][-3:] == ["canary", "restore", "power"]


def test_a_retired_node_is_gone_until_it_is_added(opened: Callable[..., Reservations]) -> None:
    lab = opened()
    orders = NodeOrders(lab)
    orders.retire("c", "sold", ROOT)
    assert lab.node("c").state is NodeState.RETIRED
    with pytest.raises(NodesUnknown):
        lab.reserve(wants(3), ANN)
    orders.add("c", "back again", ROOT, facts={"nic_speed": "100"})
    assert lab.node("c").facts == {"cores": "32", "nic_speed": "100"}
    assert lab.reserve(wants(where="nic_speed >= 100"), ANN).nodes == ("c",)


def test_why_one_waits_and_what_would_make_it_sooner(lab: Reservations) -> None:
    first = lab.reserve(wants(2, 4), ANN)
    waiting = lab.reserve(wants(2, 2, wait_seconds=None), BOB)
    why = lab.why(waiting.id)
    assert [one.id for one in why.before] == [first.id]
    assert why.booking.starts_at == at(4)
    assert [(words, slot.starts_at) for words, slot in why.sooner] == [("1 node instead of 2", START)]


def test_a_night_and_people_share_one_book(opened: Callable[..., Reservations], clock: Clock) -> None:
    """What the nights lease is in the calendar, and what people booked is in the way of nights."""
    lab = opened()
    ledger = SqlLedger(lab._database, lab.lab, PLAIN, clock=clock)
    planned = lab.reserve(wants(3, starts_at=at(3)), ANN)
    with ledger.lease(nodes=2, holder="controller", purpose="run x", until=at(3)) as lease:
        assert lab.show(lease.id).state is BookingState.READY
        with pytest.raises(NoSuchSlot):
            lab.reserve(wants(2, 1), BOB)
    assert lab.show(lease.id).state is BookingState.OVER
    from perfci.lab.errors import NodesBusy

    with pytest.raises(NodesBusy), ledger.lease(nodes=1, holder="x", purpose="x", until=at(4)):
        pass
    assert lab.show(planned.id) == planned


def test_the_calendar_of_a_stretch(lab: Reservations) -> None:
    made = [lab.reserve(wants(1, 1, starts_at=at(hour)), ANN) for hour in (1, 2, 30)]
    shown = lab.calendar(at(1.5), at(24))
    assert shown.nodes == ("a", "b", "c")
    assert shown.bookings == tuple(made[:2])


def test_the_clock_goes_back(lab: Reservations, clock: Clock) -> None:
    made = lab.reserve(wants(2), ANN)
    clock.now = at(-1)
    done = lab.release(made.id, ANN)
    assert done.state is BookingState.OVER
    assert lab.reserve(wants(3, 5), BOB).nodes == ("a", "b", "c")


def test_tokens(opened: Callable[..., Reservations], clock: Clock) -> None:
    database = opened()._database
    tokens = Tokens(database, clock=clock)
    token, secret = tokens.create(ANN, "my script", days=1)
    assert secret.startswith(PREFIX)
    assert tokens.owner_of(secret) == "ann"
    (listed,) = [one for one in tokens.list(ANN) if one.id == token.id]
    assert listed.used_at == START
    with database.reading() as connection:
        from perfci.database.schema import access_token

        rows = connection.execute(access_token.select()).all()
        assert secret not in str(rows)
    for wrong in (secret + "x", secret[:-1], "", "x" * 10_000_000, PREFIX):
        with pytest.raises(TokenUnknown):
            tokens.owner_of(wrong)
    with pytest.raises(TokenUnknown):
        tokens.revoke(token.id, BOB)
    clock.now = at(25)
    with pytest.raises(TokenUnknown):
        tokens.owner_of(secret)
    other, later = tokens.create(ANN, "another")
    tokens.revoke(other.id, ANN)
    with pytest.raises(TokenUnknown):
        tokens.owner_of(later)
