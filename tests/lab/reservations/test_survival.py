"""What the calendar must survive: a crowd, and processes that are killed at any point."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from perfci.database import engine
from perfci.database.engine import Database
from perfci.errors import PerfciError
from perfci.lab.errors import NoSuchSlot
from perfci.lab.model import Node
from perfci.lab.reservations.checks import Policy
from perfci.lab.reservations.model import Actor, BookingState, NodeState, NodeWish, Priority, Request, Wipe
from perfci.lab.reservations.nights import Nights, Plan
from perfci.lab.reservations.node_orders import NodeOrders
from perfci.lab.reservations.service import Reservations
from perfci.lab.reservations.states import OPEN
from perfci.lab.reservations.work import Work

if TYPE_CHECKING:
    from pathlib import Path

    from perfci.lab.reservations.model import Booking

CROWD = 200
PATIENCE = 900
"""Seconds after which something hangs."""
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
NODES = tuple(Node(name, has_bmc=name != "c") for name in "abc")
ROOT = Actor("root", admin=True)
SETTLED = 12
"""After so many ticks, days apart, everything is over that was there: a queue is worked off one after the other."""


def asks(url: str, name: str, answers) -> None:
    """Ask for the last node once, and say how that ended."""
    try:
        lab = Reservations(Database(url), "lab", [Node("last")])
        lab.reserve(Request(NodeWish(1), 3600, "x"), Actor(name))
        answers.put("got it")
    except NoSuchSlot:
        answers.put("refused")
    except BaseException as error:  # noqa: BLE001 - whatever it is, the test shows it
        answers.put(repr(error))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_of_a_crowd_one_gets_the_last_node_and_all_get_an_answer(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # How long 200 processes take depends on what else this machine does.
    monkeypatch.setattr(engine, "BUSY_SECONDS", PATIENCE)
    Database(database_url)
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    crowd = [context.Process(target=asks, args=(database_url, f"user{n}", answers)) for n in range(CROWD)]
    for one in crowd:
        one.start()
    found = Counter(answers.get(timeout=PATIENCE) for _ in crowd)
    for one in crowd:
        one.join(PATIENCE)
    assert found == {"got it": 1, "refused": CROWD - 1}


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


def killed_within(at: int, order) -> None:
    """Do an order in a process of its own that dies at its `at`-th call of a function of the calendar."""
    child = os.fork()
    if child == 0:
        calls = 0

        def count(frame, event, _):
            nonlocal calls
            if event == "call" and "reservations" in frame.f_code.co_filename:
                calls += 1
                if calls == at:
                    os._exit(9)

        sys.setprofile(count)
        try:
            order()
        except PerfciError:
            pass
        finally:
            os._exit(0)
    os.waitpid(child, 0)


class Life(RuleBasedStateMachine):
    """A lab of three nodes whose users, controllers and clock do what they like, and die where they like."""

    made = Bundle("made")
    folder: Path
    number = 0

    @initialize()
    def open(self) -> None:
        type(self).number += 1
        self.clock = Clock()
        url = f"sqlite:///{self.folder}/{type(self).number}.db"
        self.lab = Reservations(Database(url), "lab", NODES, policy=Policy(), clock=self.clock)
        self.orders, self.work = NodeOrders(self.lab), Work(self.lab, "one")
        self.nights = Nights(self.lab, "one")

    @rule(
        target=made,
        count=st.integers(1, 3),
        minutes=st.integers(1, 300),
        ahead=st.none() | st.integers(0, 300),
        priority=st.sampled_from(Priority),
        names=st.frozensets(st.sampled_from("abc"), max_size=2),
        wait=st.none() | st.integers(0, 20000),
        wipe=st.sampled_from(Wipe),
        kill=st.none() | st.integers(1, 60),
    )
    def reserve(self, count, minutes, ahead, priority, names, wait, wipe, kill):  # noqa: PLR0917
        start = None if ahead is None else self.clock.now + timedelta(minutes=ahead)
        request = Request(
            NodeWish(count, names),
            minutes * 60,
            "x",
            starts_at=start,
            wait_seconds=wait,
            priority=priority,
            wipe=wipe,
        )
        if kill is not None:
            killed_within(kill, lambda: self.lab.reserve(request, Actor("ann")))
            return multiple()
        try:
            return self.lab.reserve(request, Actor("ann")).id
        except PerfciError:
            return multiple()

    def _do(self, order, kill) -> None:
        if kill is not None:
            killed_within(kill, order)
            return
        try:
            order()
        except PerfciError:
            return

    @rule(one=made, minutes=st.integers(1, 300), kill=st.none() | st.integers(1, 60))
    def extend(self, one, minutes, kill):
        self._do(lambda: self.lab.extend(one, minutes * 60, ROOT), kill)

    @rule(one=made, minutes=st.integers(0, 300), kill=st.none() | st.integers(1, 60))
    def shorten(self, one, minutes, kill):
        end = self.clock.now + timedelta(minutes=minutes)
        self._do(lambda: self.lab.shorten(one, end, ROOT), kill)

    @rule(one=made, node=st.none() | st.sampled_from("abc"), kill=st.none() | st.integers(1, 60))
    def release(self, one, node, kill):
        self._do(lambda: self.lab.release(one, ROOT, node=node), kill)

    @rule(one=made, node=st.sampled_from("abc"), kill=st.none() | st.integers(1, 60))
    def swap(self, one, node, kill):
        self._do(lambda: self.lab.swap(one, node, ROOT), kill)

    @rule(node=st.sampled_from("abc"), kill=st.none() | st.integers(1, 60))
    def quarantine(self, node, kill):
        self._do(lambda: self.orders.quarantine(node, "broken", ROOT), kill)

    @rule(node=st.sampled_from("abc"))
    def restore(self, node):
        self._do(lambda: self.orders.restore(node, ROOT, force=True), None)

    @rule(hours=st.integers(0, 8), kill=st.none() | st.integers(1, 60))
    def plan_a_night(self, hours, kill):
        window = START + hours * HOUR
        plan = Plan("nightly", "perfci", NodeWish(2), 2 * HOUR, HOUR, (window,))
        self._do(lambda: self.nights.plan(plan), kill)

    @rule(minutes=st.integers(-30, 200))
    def time_passes(self, minutes):
        self.clock.now += timedelta(minutes=minutes)

    @rule(kill=st.none() | st.integers(1, 60))
    def tick(self, kill):
        def once():
            self.lab.sweep()
            self.orders.mend()
            for one in self.nights.due("nightly", HOUR):
                self.nights.start(one)
            self.lab.begin()

        self._do(once, kill)

    @rule(passes=st.booleans(), kill=st.none() | st.integers(1, 60))
    def a_controller_works(self, passes, kill):
        def once():
            for one in self.work.due():
                claimed = self.work.claim(one)
                if claimed is None:
                    continue
                if claimed.state is BookingState.PREPARING:
                    for node in self.lab.machines(claimed.nodes):
                        for step in ("power", "provision", "canary"):
                            self.orders.note(node, step, ok=passes, reservation_id=one, detail="x")
                        if not passes:
                            self.work.without(one, node, "x")
                    if passes:
                        self.work.ready(one)
                    else:
                        self.work.give_up(one)
                else:
                    self.work.reclaimed(one)

        self._do(once, kill)

    def teardown(self) -> None:
        """Whatever was left half done, ticks finish: time passes, controllers work, and nobody has anything."""
        if not hasattr(self, "lab"):
            return
        for node in "abc":
            self.restore(node)
        for _ in range(SETTLED):
            self.clock.now += 100 * HOUR
            self.tick(None)
            self.a_controller_works(passes=True, kill=None)
        assert Counter(one.state for one in self._everything()).keys() <= {BookingState.OVER}
        assert {node.state for node in self.lab.nodes()} == {NodeState.FREE}

    @invariant()
    def no_two_have_one_node(self) -> None:
        taken: dict[str, list[tuple[datetime, datetime]]] = {}
        for place in (place for one in self._everything() for place in one.places):
            assert place.starts_at <= place.ends_at
            for start, end in taken.get(place.node, ()):
                assert place.ends_at <= start or end <= place.starts_at
            if place.starts_at < place.ends_at:
                taken.setdefault(place.node, []).append((place.starts_at, place.ends_at))

    @invariant()
    def each_state_is_what_it_says(self) -> None:
        for one in self._everything():
            if one.state in OPEN and one.state is not BookingState.ASKED:
                assert 0 < len(one.nodes) <= one.wish.size
                assert one.released_at is None
            assert one.state is not BookingState.READY or one.ready_at is not None
            assert one.state is not BookingState.OVER or one.released_at is not None

    @invariant()
    def what_is_ready_was_prepared(self) -> None:
        for one in self._everything():
            for node in self.lab.machines(one.nodes) if one.state is BookingState.READY else ():
                passed = {event.action for event in self.lab.node_history(node, limit=10000) if event.ok}
                assert {"power", "provision", "canary"} <= passed

    def _everything(self) -> tuple[Booking, ...]:
        if not hasattr(self, "lab"):
            return ()
        return self.lab.calendar(START - 9999 * HOUR, START + 99999 * HOUR).bookings


@pytest.mark.slow
def test_whatever_happens_and_wherever_it_is_killed_the_calendar_is_consistent(tmp_path: Path) -> None:
    Life.folder = tmp_path
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=checks
        ),
    )
