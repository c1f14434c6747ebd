"""The session table and the window of sequence numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some
from lab.virtual.ipmi.client import Clock

from perfci.lab.virtual.ipmi import Faults, SessionLimits
from perfci.lab.virtual.ipmi.crypto import SUITES
from perfci.lab.virtual.ipmi.rakp import Exchange
from perfci.lab.virtual.ipmi.sessions import Privilege, SequenceWindow, SessionTable

ADMIN = Privilege.ADMINISTRATOR


class Table:
    """A session table with its surroundings."""

    def __init__(self, **limits):
        self.clock, self.faults, self.over = Clock(), Faults(), []
        self.table = SessionTable(SessionLimits(**limits), self.faults, self.clock, self.over.append)

    def ask(self, number, console_id=b"mine"):
        return self.table.ask(console_id, ("192.0.2.1", number), SUITES[0], ADMIN, bytes([number]))

    def open(self, number, console_id=b"mine"):
        pending = self.ask(number, console_id)
        exchange = Exchange(
            SUITES[0], console_id, bytes(4), bytes(16), bytes(16), bytes(16), 4, b"admin", b"secret"
        )
        return self.table.open(pending, exchange, ADMIN)


def test_a_session_begins_as_user():
    session = Table().open(1)
    assert (session.privilege, session.limit) == (Privilege.USER, ADMIN)


def test_ids_and_handles_are_not_shared():
    table = Table(sessions=36)
    sessions = [table.open(n) for n in range(36)]
    assert len({session.id for session in sessions}) == len({session.handle for session in sessions}) == 36
    assert 0 not in {session.id for session in sessions}


def test_the_table_is_full_at_its_limit():
    table = Table(sessions=2)
    first = table.open(1)
    assert not table.table.full
    table.open(2)
    assert table.table.full
    table.table.end(first)
    assert not table.table.full
    assert table.over == [first]


def test_half_open_sessions_give_way_and_do_not_fill_the_table():
    table = Table(sessions=4)
    asked = [table.ask(n) for n in range(100)]
    assert not table.table.full
    assert [table.table.pending(one.id) for one in asked[:68]] == [None] * 68
    assert [table.table.pending(one.id) for one in asked[68:]] == asked[68:]


def test_the_same_request_gets_the_same_session():
    table = Table()
    first = table.ask(1)
    assert table.ask(1) is first
    first.rakp_1 = b"seen"
    assert table.ask(1) is not first


def test_a_half_open_session_is_forgotten():
    table = Table(handshake_seconds=10)
    pending = table.ask(1)
    table.clock.now += 10.1
    assert table.table.pending(pending.id) is None


def test_a_silent_session_ends():
    table = Table(inactivity_seconds=60)
    first, second = table.open(1), table.open(2)
    table.clock.now += 40
    second.last_heard = table.clock.now
    table.clock.now += 21
    assert table.table.find(first.id) is None
    assert table.table.all() == (second,)
    assert table.over == [first]


def test_a_client_that_comes_again_replaces_its_own_session():
    table = Table()
    lost, other = table.open(1), table.open(2)
    again = table.open(1)
    assert table.table.all() == (other, again)
    assert table.over == [lost]
    assert len({table.open(1, b"more").id, again.id} & {one.id for one in table.table.all()}) == 2


def test_stale_sessions_hold_their_slots_until_they_are_closed():
    table = Table(sessions=4)
    table.faults.stale_sessions = 3
    mine = table.open(1)
    assert table.table.full
    table.clock.now += 100_000
    mine.last_heard = table.clock.now
    stale = [one for one in table.table.all() if one is not mine]
    assert len(stale) == 3
    table.table.close(stale[0])
    assert table.faults.stale_sessions == 2
    assert len(table.table.all()) == 3
    table.faults.stale_sessions = 0
    assert table.table.all() == (mine,)


def test_stale_sessions_take_at_most_all_slots():
    table = Table(sessions=4)
    table.faults.stale_sessions = 200
    assert len(table.table.all()) == 4
    assert table.table.full


def test_clearing_ends_everything():
    table = Table()
    session, pending = table.open(1), table.ask(2)
    table.table.clear()
    assert table.table.all() == ()
    assert table.table.pending(pending.id) is None
    assert table.over == [session]


@pytest.mark.parametrize(
    ("numbers", "accepted"),
    [
        ([1, 2, 3], [1, 2, 3]),
        ([1, 1, 2, 2, 1], [1, 2]),
        ([3, 1, 2, 1], [3, 1, 2]),
        ([0], []),
        ([15], [15]),
        ([16], []),
        ([10, 25, 41], [10, 25]),
        ([10, 20, 4, 3], [10, 20, 4]),
        ([10, 20, 30, 13, 14], [10, 20, 30, 14]),
    ],
)
def test_the_window(numbers, accepted):
    window = SequenceWindow()
    assert [number for number in numbers if window.accept(number)] == accepted


@given(some.lists(some.integers(0, 60), max_size=80))
def test_no_number_is_accepted_twice(numbers):
    window, seen, highest = SequenceWindow(), set(), 0
    for number in numbers:
        new = number > 0 and number not in seen and highest - 16 <= number <= highest + 15
        assert window.accept(number) == new
        if new:
            seen.add(number)
            highest = max(highest, number)
