"""The calendar as a picture."""

from __future__ import annotations

import itertools
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import pytest
from web_site import HOUR, START, WebSite

from perfci.lab.reservations.model import Actor, NodeWish, Request
from perfci.lab.reservations.nights import Nights, Plan
from perfci.lab.reservations.node_orders import NodeOrders
from perfci.lab.web.timeline import SlotKind, days_of, rows_of, window_of
from perfci.lab.web.zones import Times

PRAGUE = Times(ZoneInfo("Europe/Prague"), START)


@pytest.fixture
def site(tmp_path):
    return WebSite(tmp_path)


def drawn(site, days=1, me=None):
    """Each node's slots as (kind, hours since noon UTC, hours since noon UTC)."""
    window = window_of(Times(ZoneInfo("UTC"), START), START.date(), days)
    bookings = site.lab.calendar(window.starts_at, window.ends_at).bookings
    pictures = [
        {
            row.node.name: [
                (slot.kind, (slot.starts_at - START) / HOUR, (slot.ends_at - START) / HOUR)
                for slot in row.slots
            ]
            for row in rows_of(site.lab.nodes(), order, window, site.now, me)
        }
        for order in itertools.permutations(bookings)
    ]
    assert all(one == pictures[0] for one in pictures)
    return pictures[0]


def test_free_time_begins_now_and_lies_between_reservations(site):
    site.reserve("ann", "node-1", hours=2)
    site.reserve("bob", "node-1", start=START + 4 * HOUR, hours=3)
    picture = drawn(site, me="ann")
    assert picture["node-1"] == [
        (SlotKind.MINE, 0, 2), (SlotKind.FREE, 2, 4), (SlotKind.HELD, 4, 7), (SlotKind.FREE, 7, 12),
    ]  # fmt: skip
    assert picture["node-2"] == [(SlotKind.FREE, 0, 12)]
    assert drawn(site)["node-1"][0] == (SlotKind.HELD, 0, 2)


def test_a_planned_night_is_a_night_and_who_waits_is_queued(site):
    plan = Plan("nightly", "perfci", NodeWish(1, frozenset({"node-1"})), 3 * HOUR, HOUR, (START + 4 * HOUR,))
    Nights(site.lab, "one").plan(plan)
    site.reserve("ann", "node-2", hours=2)
    wish = Request(NodeWish(1, frozenset({"node-2"})), 3600, "x", wait_seconds=None)
    site.lab.reserve(wish, Actor("bob"))
    picture = drawn(site)
    assert picture["node-1"][1] == (SlotKind.NIGHT, 4, 7)
    assert picture["node-2"][:2] == [(SlotKind.HELD, 0, 2), (SlotKind.QUEUED, 2, 3)]


def test_what_was_given_back_early_is_free(site):
    made = site.reserve("ann", "node-1", hours=8)
    site.now += HOUR
    site.lab.release(made.id, Actor("ann"))
    assert drawn(site)["node-1"] == [(SlotKind.HELD, 0, 1), (SlotKind.FREE, 1, 12)]


def test_a_node_in_quarantine_is_never_shown_as_free(site):
    NodeOrders(site.lab).quarantine("node-1", "fan", Actor("root", admin=True))
    assert drawn(site)["node-1"] == [(SlotKind.BLOCKED, 0, 12)]


def test_slots_fill_the_row_and_never_overlap(site):
    for hour in (1, 3, 6, 9):
        site.reserve("ann", "node-2", start=START + hour * HOUR, hours=1)
    window = window_of(PRAGUE, START.date(), 1)
    (row,) = rows_of([site.lab.node("node-2")], site.lab.of("ann"), window, START, None)
    for before, after in itertools.pairwise(row.slots):
        assert before.left + before.width == pytest.approx(after.left, abs=1e-3)
    assert row.slots[-1].left + row.slots[-1].width == pytest.approx(100, abs=1e-3)


def test_the_day_on_which_clocks_change_is_shorter():
    window = window_of(PRAGUE, date(2026, 3, 28), 3)
    assert window.ends_at - window.starts_at == timedelta(hours=71)
    days = days_of(window, PRAGUE)
    assert [one.date.day for one in days] == [28, 29, 30]
    assert [round(one.width * 71 / 100) for one in days] == [24, 23, 24]
    assert [one.weekend for one in days] == [True, True, False]
