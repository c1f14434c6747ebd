"""Filters in the URL, and the form with which people reserve."""

from __future__ import annotations

from datetime import date, timedelta
from urllib.parse import parse_qs, parse_qsl
from zoneinfo import ZoneInfo

import pytest
from web_site import HOUR, START, WebSite

from perfci.lab.errors import ReservationInvalid
from perfci.lab.reservations.model import NodeState, Wipe
from perfci.lab.web.filters import Filters, chosen, read_filters
from perfci.lab.web.forms import instead, read_form
from perfci.lab.web.zones import Times

TODAY = START.date()
TIMES = Times(ZoneInfo("Europe/Prague"), START)


def test_filters_come_back_from_their_url():
    filters = Filters(date(2026, 4, 1), 28, "node", 'cores >= 32 and rack == "a&b"', NodeState.HELD, "ann", 3)
    assert read_filters(dict(parse_qsl(filters.query())), TODAY) == filters
    assert Filters().query() == ""


@pytest.mark.parametrize(
    "query",
    [
        {"days": "0"}, {"days": "-1"}, {"days": "9" * 5000}, {"days": "x"}, {"from": "2026-02-30"}, {"from": "9999-12-31"},
        {"from": "0001-01-01"}, {"state": "x"}, {"page": "-1"}, {"node": "a\0b"}, {"from": TODAY.isoformat()},
    ],
)  # fmt: skip
def test_what_is_no_sensible_value_counts_as_left_out(query):
    assert read_filters(query, TODAY) == Filters()


def test_nodes_are_chosen_and_sorted_as_people_do(tmp_path):
    site = WebSite(tmp_path)
    site.reserve("ann", "node-2")

    def names(**values):
        found, problem = chosen(site.lab.nodes(), Filters(**values))
        return [one.name for one in found], problem

    assert names() == (["node-1", "node-2", "node-10"], "")
    assert names(text="E-1") == (["node-1", "node-10"], "")
    assert names(where="cores >= 16") == (["node-2", "node-10"], "")
    assert names(state=NodeState.FREE) == (["node-1", "node-10"], "")
    assert names(holder="ann") == (["node-2"], "")
    for wrong in ("cores >", "colour == 3", "cores == 7", "__import__('os')"):
        found, problem = names(where=wrong)
        assert found == []
        assert problem


def form(query):
    return read_form(parse_qs(query), TIMES)


def test_a_form_asks_for_nodes_by_number_or_by_name():
    any_two = form("count=2&where=cores+>%3D+8&length=1.5&unit=days&reason=x").request(TIMES)
    assert (any_two.wish.size, any_two.wish.where) == (2, "cores >= 8")
    assert (any_two.length_seconds, any_two.starts_at, any_two.wait_seconds) == (129600, None, None)
    named = form("node=a&node=b&start=2026-03-03T09:00&length=4&reason=x").request(TIMES)
    assert named.wish.names == {"a", "b"}
    assert named.starts_at == START + timedelta(hours=20)
    assert [form(f"{text}reason=x").request(TIMES).wipe for text in ("", "wipe=&", "wipe=headers&")] == [
        Wipe.NONE,
        Wipe.NONE,
        Wipe.HEADERS,
    ]


def test_the_minute_that_it_is_means_now():
    later = Times(TIMES.zone, START + timedelta(seconds=20))
    assert form("node=a&start=2026-03-02T13:00").request(later).starts_at == later.now
    assert form("node=a&start=2026-03-02T12:58").request(later).starts_at == START - timedelta(minutes=2)


@pytest.mark.parametrize(
    "query", ["count=x", "count=-1", "by=names", "length=x", "unit=years", "when=at&start=x", "wipe=x"]
)
def test_what_is_no_wish_is_refused(query):
    with pytest.raises(ReservationInvalid):
        form(query).request(TIMES)


def test_the_slot_that_is_offered_instead_is_asked_for_as_it_is(tmp_path):
    site = WebSite(tmp_path)
    site.reserve("ann", "node-1", hours=3)
    wanted = form("node=node-1&start=2026-03-02T14:00&length=2")
    (slot, *_) = site.lab.find(wanted.wish(), 7200)
    again = form(instead(wanted, slot, TIMES).query())
    assert again.request(TIMES).starts_at == slot.starts_at == START + 3 * HOUR
    assert again.wish() == wanted.wish()
