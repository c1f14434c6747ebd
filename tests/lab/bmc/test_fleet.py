"""Many BMCs at once: deadlines, bounds, and each node's own outcome."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter

import pytest

from perfci.lab.bmc.base import Power, PowerOrder, Target
from perfci.lab.bmc.errors import BmcDeadline, BmcIneffective, BmcSilent
from perfci.lab.bmc.fleet import FleetLimits, each, run
from perfci.lab.bmc.memory import Rack, Sickness
from perfci.lab.bmc.operations import Order
from perfci.lab.bmc.orders import Means, give


def targets(count):
    return [Target(f"node-{number:04}", "192.0.2.1", "perfci", "s3cret") for number in range(count)]


def test_sick_bmcs_are_told_one_by_one_and_hinder_nobody():
    rack = Rack()
    fleet = targets(300)
    sick = {
        "node-0007": Sickness(hang=True),
        "node-0050": Sickness(power_on_never=True),
        "node-0299": Sickness(delay_seconds=3600),
    }
    for node, sickness in sick.items():
        rack.bmc(node).sickness = sickness
    told = []
    means = Means(2, concurrency=64, connect=rack.connect)
    results = asyncio.run(give(fleet, Order(PowerOrder.ON), means, tell=told.append))
    assert [result.node for result in results] == [target.node for target in fleet]
    assert sorted(result.node for result in told) == [target.node for target in fleet]
    errors = {result.node: type(result.error) for result in results if not result.ok}
    # The one that never comes on is waited for longer than a node may take here.
    assert errors == {"node-0007": BmcSilent, "node-0050": BmcDeadline, "node-0299": BmcDeadline}
    assert all(result.done.after.power is Power.ON for result in results if result.ok)
    locked_up = {result.node for result in results if result.locked_up}
    assert locked_up == {"node-0007", "node-0299"}, "a machine that still had time to switch is not sick"
    assert all(bmc.sessions == 0 for bmc in rack.bmcs.values())


def test_no_more_than_allowed_at_once():
    running, most = 0, 0

    async def work(target):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return target.node

    outcomes = asyncio.run(each(targets(50), work, limits=FleetLimits(concurrency=7)))
    assert most == 7
    assert [outcome.value for outcome in outcomes.values()] == list(outcomes)


def test_the_deadline_of_the_whole_leaves_out_what_is_not_begun():
    begun = []

    async def work(target):
        begun.append(target.node)
        await asyncio.Event().wait()

    limits = FleetLimits(deadline_seconds=60, whole_seconds=0.05, concurrency=2)
    outcomes = asyncio.run(each(targets(5), work, limits=limits))
    assert begun == ["node-0000", "node-0001"]
    assert all(isinstance(outcome.error, BmcDeadline) for outcome in outcomes.values())
    assert "the time for all nodes was over" in str(outcomes["node-0004"].error)


def test_a_mistake_of_ours_is_no_outcome():
    async def work(_):
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(each(targets(1), work, limits=FleetLimits()))
    assert caught.group_contains(ZeroDivisionError)


def test_a_timeout_that_is_not_the_deadline_is_not_taken_for_it():
    async def work(_):
        raise TimeoutError

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(each(targets(1), work, limits=FleetLimits()))
    assert caught.group_contains(TimeoutError)


def test_nothing_to_do():
    assert asyncio.run(each([], None, limits=FleetLimits())) == {}


@pytest.fixture
def heard():
    """A process in the background of a script is born deaf to Ctrl-C; hear it while the test runs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_closes_all_sessions(number):
    rack = Rack()

    async def work(target):
        async with rack.connect(target):
            if sum(bmc.sessions for bmc in rack.bmcs.values()) == 5:
                os.kill(os.getpid(), number)
            await asyncio.Event().wait()

    with pytest.raises(KeyboardInterrupt):
        run(each(targets(5), work, limits=FleetLimits()))
    assert Counter(bmc.opened for bmc in rack.bmcs.values()) == {1: 5}
    assert all(bmc.sessions == 0 for bmc in rack.bmcs.values())


def test_run_returns_what_came_of_it():
    async def work():
        return 3

    assert run(work()) == 3


def test_what_counts_as_a_lock_up():
    rack = Rack()
    rack.bmc("node-0000").sickness = Sickness(wrong_credentials=True)
    rack.bmc("node-0001").sickness = Sickness(ok_without_effect=True)
    means = Means(30, connect=rack.connect)
    wrong, sick, well = asyncio.run(give(targets(3), Order(PowerOrder.OFF), means))
    assert (wrong.ok, wrong.locked_up) == (False, False), "nobody has locked up who has another password"
    assert (sick.ok, sick.locked_up) == (True, False), "it was off already"
    assert (well.ok, well.locked_up) == (True, False)


def test_a_dry_run_never_climbs():
    rack = Rack()
    rack.bmc("node-0000").sickness = Sickness(ok_without_effect=True, heals_by=frozenset({"warm"}))
    means = Means(5, connect=rack.connect, recover=True, dry_run=True)
    (result,) = asyncio.run(give(targets(1), Order(PowerOrder.ON), means))
    assert (result.ok, result.steps, result.as_dict()["power"]) == (True, (), "on")
    assert rack.bmc("node-0000").restarts == []
    assert not isinstance(result.error, BmcIneffective)
