"""What users of other labs' calendars complain of, and what must not be true here, on either database.

Other files test two more complaints. "Ready" mail before the rebuild ran: test_work.py and runs/tick/test_letters.py. One node of
several can't be given back: test_ending.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from calendars import ANN, BOB, MACHINES, PLAIN, ROOT, Clock, at, wants

from perfci.cli.lab_calendar import COLUMNS, booking_row
from perfci.database.engine import Database
from perfci.lab.errors import NodesUnhealthy, ReservationInvalid
from perfci.lab.reservations.model import BookingState, NodeState, NodeWish
from perfci.lab.reservations.node_orders import NodeOrders
from perfci.lab.reservations.service import Reservations

if TYPE_CHECKING:
    from collections.abc import Callable


def test_broken_hosts_are_not_listed_as_free(lab: Reservations) -> None:
    NodeOrders(lab).quarantine("a", "its BMC hangs", ROOT)
    assert [one.name for one in lab.nodes() if one.state is NodeState.FREE] == ["b", "c"]
    assert all("a" not in slot.nodes for slot in lab.find(NodeWish(2), 3600))
    with pytest.raises(NodesUnhealthy, match="its BMC hangs"):
        lab.find(NodeWish(3), 3600)


@pytest.mark.parametrize("nodes", [PLAIN, MACHINES], ids=["plain", "machines"])
def test_nothing_is_busy_after_its_lease_has_ended(
    opened: Callable[..., Reservations], clock: Clock, nodes
) -> None:
    """Also where no tick has looked since."""
    lab = opened(nodes)
    first = lab.reserve(wants(3), ANN)
    clock.now = at(2)
    assert {one.state for one in lab.nodes()} == {NodeState.FREE}
    assert lab.find(NodeWish(3), 3600)[0].starts_at == at(2)
    assert lab.reserve(wants(3), BOB).starts_at == at(2)
    assert [one.id for one, _ in lab.sweep()] == [first.id]
    assert {one.booking.holder for one in lab.nodes() if one.booking} == {"bob"}


def test_the_length_and_what_is_left_are_shown_beside_the_end(lab: Reservations) -> None:
    made = lab.reserve(wants(hours=26), ANN)
    row = dict(zip(COLUMNS, booking_row(made, at(24.5)), strict=True))
    assert (row["for"], row["left"]) == ("1d 2h", "1h 30m")


def test_a_restart_forgets_nobody(opened: Callable[..., Reservations], clock: Clock) -> None:
    before = opened()
    has = before.reserve(wants(2), ANN)
    waits = before.reserve(wants(3, wait_seconds=None), BOB)
    url = before.database._engine.url
    after = Reservations(Database(url.render_as_string(hide_password=False)), before.lab, PLAIN, clock=clock)
    assert (after.show(has.id), after.show(waits.id)) == (has, waits)
    assert after.nodes() == before.nodes()
    assert after.history() == before.history()


def test_who_waits_gets_a_place_in_the_queue_and_no_other_hardware(lab: Reservations) -> None:
    lab.reserve(wants(2, 4, where="cores >= 32"), ANN)
    waits = lab.reserve(wants(where="cores >= 32", wait_seconds=None), BOB)
    assert (waits.state, waits.starts_at, waits.nodes) == (BookingState.WAITING, at(4), ("a",))
    assert lab.node("b").state is NodeState.FREE, "b is free all the time, and does not fit"


def test_who_asks_for_a_day_gets_a_day_however_it_moves(lab: Reservations, clock: Clock) -> None:
    first = lab.reserve(wants(3, 100), ANN)
    day = lab.reserve(wants(2, 24, wait_seconds=None), BOB)
    assert (day.starts_at, day.length_seconds) == (at(100), 24 * 3600)
    clock.now = at(5)
    lab.release(first.id, ANN)
    moved = lab.show(day.id)
    assert (moved.starts_at, moved.length_seconds) == (at(5), 24 * 3600)
    assert {place.ends_at - place.starts_at for place in moved.places} == {moved.ends_at - moved.starts_at}


def test_nothing_is_held_without_an_end(opened: Callable[..., Reservations], clock: Clock) -> None:
    lab = opened(longest_hours=24)
    made = lab.reserve(wants(3, 20), ANN)
    for hours in (4.1, 24, float("inf")):
        with pytest.raises(ReservationInvalid, match="24 hours"):
            lab.extend(made.id, hours * 3600, ANN)
    assert lab.extend(made.id, 4 * 3600, ANN).ends_at == at(24)
    clock.now = at(24)
    ((ended, _),) = lab.sweep()
    assert (ended.id, ended.state, ended.released_at) == (made.id, BookingState.OVER, at(24))
