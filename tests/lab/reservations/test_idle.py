"""Reservations on which nobody works: who looks, what counts, and when they end for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from perfci.database.engine import Database
from perfci.lab.model import Node
from perfci.lab.reservations.idle import LOOK_EVERY, UNSEEN, IdlePolicy, Looks, idle_for, idle_since
from perfci.lab.reservations.model import Actor, BookingState, NodeWish, Request
from perfci.lab.reservations.node_orders import NodeOrders
from perfci.lab.reservations.service import Reservations
from perfci.lab.reservations.work import Work
from perfci.lab.sql import SqlLedger

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ANN = Actor("ann")
NEVER, AFTER_2H = IdlePolicy(), IdlePolicy(end=timedelta(hours=2))


class Lab:
    def __init__(self, url):
        self.now = START
        self.service = Reservations(
            Database(url),
            "lab",
            [Node("a", has_bmc=True), Node("b", has_bmc=True), Node("c")],
            clock=lambda: self.now,
        )

    def ready(self, node="a", owner=None):
        wish = NodeWish(1, frozenset({node}))
        made = self.service.reserve(Request(wish, 86400, "x"), ANN, owner=owner)
        work, orders = Work(self.service, "one"), NodeOrders(self.service)
        if made.state is BookingState.PREPARING:
            assert work.claim(made.id)
            for step in ("power", "provision", "canary"):
                orders.note(node, step, ok=True, reservation_id=made.id)
            work.ready(made.id)
        return made.id

    def look(self, name, minutes, *, active):
        """Let time go on, and look every LOOK_EVERY."""
        end = self.now + minutes * MINUTE
        while self.now < end:
            self.now += LOOK_EVERY
            Looks(self.service, "one").seen(name, active=active)


@pytest.fixture
def lab(database_url):
    return Lab(database_url)


def test_nobody_at_work_for_as_long_as_the_lab_allows(lab):
    name = lab.ready()
    lab.look(name, 110, active=False)
    assert Looks(lab.service, "one").end(AFTER_2H) == ()
    assert idle_since(lab.service.show(name)) == START
    lab.look(name, 10, active=False)
    assert Looks(lab.service, "one").end(NEVER) == ()
    assert Looks(lab.service, "one").end(AFTER_2H) == (name,)
    assert lab.service.show(name).state is BookingState.ENDING
    assert lab.service.history(reservation_id=name)[-1].action == "ended: nobody works on it"
    assert Looks(lab.service, "one").end(AFTER_2H) == ()


def test_who_works_begins_again(lab):
    name = lab.ready()
    lab.look(name, 110, active=False)
    lab.look(name, 10, active=True)
    lab.look(name, 110, active=False)
    assert Looks(lab.service, "one").end(AFTER_2H) == ()
    assert idle_for(lab.service.show(name)) == timedelta(minutes=110)


def test_a_controller_that_was_down_takes_nothing_away(lab):
    name = lab.ready()
    lab.look(name, 60, active=False)
    lab.now += timedelta(hours=7)
    assert Looks(lab.service, "one").end(AFTER_2H) == (), "what nobody saw is no idle time"
    lab.look(name, 10, active=False)
    assert Looks(lab.service, "one").end(AFTER_2H) == ()
    lab.look(name, 110, active=False)
    assert Looks(lab.service, "one").end(AFTER_2H) == ()
    lab.look(name, 10, active=False)
    assert Looks(lab.service, "one").end(AFTER_2H) == (name,)
    assert timedelta(hours=7) > UNSEEN


def test_each_look_is_one_controllers_and_only_at_machines_of_people(lab):
    name = lab.ready()
    lab.ready("c")
    assert Looks(lab.service, "one").due(9) == (name,)
    assert Looks(lab.service, "two").due(9) == ()
    lab.now += LOOK_EVERY
    assert Looks(lab.service, "two").due(9) == (name,)
    lab.service.release(name, ANN)
    lab.now += LOOK_EVERY
    assert Looks(lab.service, "one").due(9) == ()
    Looks(lab.service, "one").seen(name, active=False)
    assert lab.service.show(name).looked_at is None


def test_a_look_keeps_no_node_from_being_swapped(lab):
    name = lab.ready()
    assert Looks(lab.service, "one").due(9) == (name,)
    lab.service.swap(name, "a", ANN, to="b")
    assert Work(lab.service, "two").claim(name) is not None


def test_only_what_was_looked_at_counts(lab):
    booking = lab.service.show(lab.ready())
    assert idle_since(booking) is None
    assert idle_for(booking) == timedelta()
    assert idle_for(replace(booking, looked_at=START + 90 * MINUTE)) == 90 * MINUTE
    assert idle_for(replace(booking, looked_at=START, active_at=START)) == timedelta()


def test_a_look_delays_no_reclaim(lab):
    name = lab.ready()
    assert Looks(lab.service, "one").due(9) == (name,)
    SqlLedger(lab.service.database, "lab", [Node("a", has_bmc=True)], clock=lambda: lab.now).release(name)
    assert Work(lab.service, "two").due() == (name,)
