"""The ladder: its decisions in general, and climbs with BMCs in memory."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfci.lab.bmc.base import BootDevice, BootOrder, Power, PowerOrder, Restart, Rung, Target
from perfci.lab.bmc.errors import (
    BmcCredentialsWrong,
    BmcDeadline,
    BmcGarbled,
    BmcIneffective,
    BmcRefused,
    BmcRightsMissing,
    BmcSessionsFull,
    BmcSilent,
    BmcUnreachable,
    BmcUnsupported,
    OutletFailed,
)
from perfci.lab.bmc.ladder import Ladder, Outlet, Patience, next_rung, outlet_for, power_to_restore
from perfci.lab.bmc.memory import Rack, Sickness
from perfci.lab.bmc.operations import Order
from perfci.lab.bmc.orders import Means, give

PLACE = {"node": "node-1", "address": "192.0.2.1"}
SILENT = BmcSilent(**PLACE, reason="no answer")
FULL = BmcSessionsFull(**PLACE, reason="full")
IDLE = BmcIneffective(node="node-1", order="power on", seconds=1, found="off")
HALF_HUNG = BmcSilent(**PLACE, reason="half hung", deaf=False)
BUSY = BmcRefused(node="node-1", order="power on", reason="busy", code=0xC0, passing=True)
CLOSED = BmcUnreachable(**PLACE, port=623, reason="connection refused")
SICK = (
    SILENT,
    FULL,
    IDLE,
    BUSY,
    BmcGarbled(**PLACE, reason="x"),
    BmcDeadline(node="n", seconds=1, reason="x"),
)
HOPELESS = (
    BmcCredentialsWrong(**PLACE, username="x", reason="wrong"),
    BmcRightsMissing(**PLACE, username="x", order="log in", reason="unauthorized role"),
    BmcDeadline(node="n", seconds=1, reason="the machine may take 120 s", waiting=True),
    BmcUnsupported(**PLACE, reason="IPMI 1.5"),
    BmcRefused(node="node-1", order="x", reason="invalid", code=0xC1, passing=False),
)
LADDER = list(Rung)
RESTARTS = [Rung.WARM_RESET, Rung.COLD_RESET]
OUTLET = {"outlet": "7", "outlet_command": "pdu {outlet}"}
PATIENCE = Patience(
    attempt_seconds=2,
    backoff_seconds=(0.0, 0.01),
    rung_seconds=dict.fromkeys(Rung, 1.0),
    poll_seconds=0.01,
    gone_seconds=0.03,
)


def climbed_with(errors, *, retries, outlet):
    """Climb until nothing is left; the last error stays."""
    climbed = []
    while rung := next_rung(
        climbed, errors[min(len(climbed), len(errors) - 1)], retries=retries, outlet=outlet
    ):
        climbed.append(rung)
    return climbed


@pytest.mark.parametrize(
    ("error", "outlet", "rungs"),
    [
        (IDLE, Outlet.ALLOWED, [Rung.RETRY, *RESTARTS, Rung.OUTLET, Rung.QUARANTINE]),
        (IDLE, Outlet.NONE, [Rung.RETRY, *RESTARTS, Rung.QUARANTINE]),
        (IDLE, Outlet.WITHHELD, [Rung.RETRY, *RESTARTS]),
        (FULL, Outlet.ALLOWED, [Rung.RETRY, Rung.CLOSE_SESSIONS, Rung.OUTLET, Rung.QUARANTINE]),
        (FULL, Outlet.WITHHELD, [Rung.RETRY, Rung.CLOSE_SESSIONS]),
        (SILENT, Outlet.ALLOWED, [Rung.RETRY, Rung.OUTLET, Rung.QUARANTINE]),
        (SILENT, Outlet.NONE, [Rung.RETRY, Rung.QUARANTINE]),
        (SILENT, Outlet.WITHHELD, [Rung.RETRY]),
        (HALF_HUNG, Outlet.ALLOWED, [Rung.RETRY, *RESTARTS, Rung.OUTLET, Rung.QUARANTINE]),
        (CLOSED, Outlet.ALLOWED, [Rung.RETRY]),
        *((error, Outlet.ALLOWED, []) for error in HOPELESS),
    ],
)
def test_the_rungs_for_one_error(error, outlet, rungs):
    assert climbed_with([error], retries=1, outlet=outlet) == rungs


def test_a_bmc_that_hears_again_after_a_retry_is_told_to_restart():
    climbed = climbed_with([SILENT, SILENT, IDLE], retries=2, outlet=Outlet.ALLOWED)
    assert climbed[:3] == [Rung.RETRY, Rung.RETRY, Rung.WARM_RESET]
    assert next_rung([Rung.RETRY, Rung.WARM_RESET], SILENT, retries=1, outlet=Outlet.NONE) is Rung.QUARANTINE


@pytest.mark.parametrize(
    ("order", "force", "outlet"),
    [
        (None, False, Outlet.WITHHELD),
        (PowerOrder.ON, False, Outlet.WITHHELD),
        (PowerOrder.SOFT, False, Outlet.WITHHELD),
        (PowerOrder.OFF, False, Outlet.ALLOWED),
        (PowerOrder.CYCLE, False, Outlet.ALLOWED),
        (PowerOrder.ON, True, Outlet.ALLOWED),
        (None, True, Outlet.ALLOWED),
    ],
)
def test_mains_are_cut_only_for_orders_that_wanted_the_machine_off(order, force, outlet):
    assert outlet_for(order, has_outlet=True, force=force) is outlet
    assert outlet_for(order, has_outlet=False, force=force) is Outlet.NONE


@pytest.mark.parametrize(
    ("order", "seen", "restored"),
    [
        (None, Power.ON, PowerOrder.ON),
        (None, Power.OFF, PowerOrder.OFF),
        (None, None, PowerOrder.ON),
        (PowerOrder.SOFT, Power.ON, PowerOrder.ON),
        (PowerOrder.CYCLE, Power.ON, None),
        (PowerOrder.OFF, Power.ON, None),
        (PowerOrder.ON, Power.OFF, None),
    ],
)
def test_what_an_order_does_not_say_is_as_it_was(order, seen, restored):
    assert power_to_restore(order, seen) is restored


@settings(deadline=None)
@given(
    errors=st.lists(st.sampled_from((*SICK, CLOSED, *HOPELESS)), min_size=1, max_size=12),
    retries=st.integers(0, 4),
    outlet=st.sampled_from(Outlet),
)
def test_a_climb_always_ends_and_only_goes_up(errors, retries, outlet):
    climbed = climbed_with(errors, retries=retries, outlet=outlet)
    assert len(climbed) <= retries + len(LADDER) - 1
    assert [LADDER.index(rung) for rung in climbed] == sorted(LADDER.index(rung) for rung in climbed)
    above = [rung for rung in climbed if rung is not Rung.RETRY]
    assert len(above) == len(set(above)), "no rung but a retry is climbed twice"
    assert climbed.count(Rung.RETRY) <= retries
    assert outlet is Outlet.ALLOWED or Rung.OUTLET not in climbed
    used = [errors[min(place, len(errors) - 1)] for place in range(len(climbed))]
    for rung, error in zip(climbed, used, strict=True):
        assert rung is Rung.QUARANTINE or rung in error.remedies, "no rung is stronger than the complaint"
    if all(error.sick for error in errors) and outlet is not Outlet.WITHHELD:
        assert climbed[-1] is Rung.QUARANTINE
    if Rung.QUARANTINE in climbed:
        assert climbed.count(Rung.RETRY) == retries, "before a node is given up, it was tried often enough"
        assert all(error.sick for error in used if error is not CLOSED)


def climb(sickness, order=PowerOrder.ON, *, on=False, force=False, boot=None, **target):
    rack = Rack(silence_seconds=0.01)
    rack.bmc("node-1").sickness = sickness
    rack.bmc("node-1").on = on
    steps = []
    means = Means(
        30,
        recover=True,
        force=force,
        connect=rack.connect,
        switch_outlet=rack.switch_outlet,
        patience=PATIENCE,
    )
    one = Target("node-1", "192.0.2.1", "perfci", "s3cret", power_seconds=0.02, **target)
    (result,) = asyncio.run(give([one], Order(order, boot), means, tell_step=steps.append))
    assert rack.bmc("node-1").sessions == 0
    assert list(result.steps) == steps
    return rack.bmc("node-1"), result


@pytest.mark.parametrize(
    ("cure", "last"),
    [
        ("warm", Rung.WARM_RESET),
        ("cold", Rung.COLD_RESET),
        ("outlet", Rung.OUTLET),
    ],
)
def test_each_rung_heals_whom_it_heals(cure, last):
    sickness = Sickness(ok_without_effect=True, heals_by=frozenset({cure}))
    bmc, result = climb(sickness, PowerOrder.CYCLE, on=True, **OUTLET)
    assert result.ok
    assert bmc.on
    rungs = [step.rung for step in result.steps]
    assert rungs == [Rung.RETRY, Rung.RETRY, *LADDER[2 : LADDER.index(last) + 1]]
    assert bmc.restarts == [Restart.WARM, Restart.COLD][: LADDER.index(last) - 1]
    assert result.locked_up
    assert not result.quarantined


def test_a_hung_bmc_gets_its_mains_cut():
    bmc, result = climb(Sickness(hang=True, heals_by=frozenset({"outlet"})), PowerOrder.CYCLE, **OUTLET)
    assert result.ok
    assert bmc.on
    assert [step.rung for step in result.steps] == [Rung.RETRY, Rung.RETRY, Rung.OUTLET]
    assert bmc.restarts == []


@pytest.mark.parametrize("sickness", [{"hang": True}, {"sessions_full": True}, {"ok_without_effect": True}])
@pytest.mark.parametrize(
    ("order", "boot"),
    [
        (None, None),
        (PowerOrder.ON, None),
        (None, BootOrder(BootDevice.NETWORK)),
    ],
)
def test_an_order_that_did_not_want_it_off_leaves_a_running_machine_on(sickness, order, boot):
    sick = Sickness(**sickness, heals_by=frozenset({"outlet"}))
    bmc, result = climb(sick, order, on=True, boot=boot, **OUTLET)
    assert bmc.on
    assert Rung.OUTLET not in [step.rung for step in result.steps]
    assert not result.quarantined, "the outlet was not tried"
    assert result.outlet_withheld is not result.ok
    assert result.as_dict()["outlet_withheld"] is result.outlet_withheld


@pytest.mark.parametrize("on", [True, False])
@pytest.mark.parametrize("sickness", [{"ok_without_effect": True}, {"hang": True}])
def test_a_forced_outlet_leaves_the_power_as_it_was(on, sickness):
    sick = Sickness(**sickness, heals_by=frozenset({"outlet"}))
    network = BootOrder(BootDevice.NETWORK, persistent=True)
    bmc, result = climb(sick, None, on=on, force=True, boot=network, **OUTLET)
    assert result.ok, result.error
    assert bmc.order == network
    outlet = next(step for step in result.steps if step.rung is Rung.OUTLET)
    known = "hang" not in sickness
    assert bmc.on is (on if known else True)
    assert ("as it was" if known else "is not known") in outlet.detail


def test_sessions_that_end_by_themselves_are_waited_for():
    """The table is full of a dead client's sessions; the BMC forgets them after a minute (case of a status order)."""
    assert Patience().rung_seconds[Rung.CLOSE_SESSIONS] > 60 + sum(Patience().backoff_seconds)
    rack = Rack()
    bmc = rack.bmc("node-1")
    bmc.on, bmc.stale_sessions = True, 4
    logins = 0

    @asynccontextmanager
    async def connect(target):
        nonlocal logins
        logins += 1
        if logins == 20:
            bmc.stale_sessions = 0
        async with rack.connect(target) as one:
            yield one

    means = Means(30, recover=True, connect=connect, switch_outlet=rack.switch_outlet, patience=PATIENCE)
    target = Target("node-1", "192.0.2.1", "perfci", "s3cret", **OUTLET)
    (result,) = asyncio.run(give([target], Order(), means))
    assert result.ok
    assert result.done.after.power is Power.ON
    assert [step.rung for step in result.steps] == [Rung.RETRY, Rung.RETRY, Rung.CLOSE_SESSIONS]
    assert bmc.restarts == []


def test_what_nothing_helps_goes_into_quarantine():
    _, result = climb(Sickness(hang=True), PowerOrder.OFF, **OUTLET)
    assert not result.ok
    assert result.quarantined
    assert isinstance(result.error, BmcSilent)
    outlet = next(step for step in result.steps if step.rung is Rung.OUTLET)
    assert (outlet.ok, outlet.detail) == (False, "it did not answer again in time")
    assert result.as_dict()["quarantined"] is True


def test_a_wrong_password_is_not_tried_again():
    bmc, result = climb(Sickness(wrong_credentials=True), **OUTLET)
    assert isinstance(result.error, BmcCredentialsWrong)
    assert result.steps == ()
    assert not result.quarantined
    assert bmc.restarts == []


def test_stale_sessions_are_closed():
    rack = Rack()
    bmc = rack.bmc("node-1")
    bmc.stale_sessions = 4
    logins = 0

    @asynccontextmanager
    async def connect(target):
        # The table is full; one of the stale sessions ends by itself once the rung is being climbed.
        nonlocal logins
        logins += 1
        if logins == 5:
            bmc.stale_sessions = 3
        async with rack.connect(target) as one:
            yield one

    means = Means(30, recover=True, connect=connect, patience=PATIENCE)
    target = Target("node-1", "192.0.2.1", "perfci", "s3cret")
    (result,) = asyncio.run(give([target], Order(PowerOrder.ON), means))
    assert result.ok
    assert result.steps[-1].rung is Rung.CLOSE_SESSIONS
    assert result.steps[-1].detail == "3 closed"
    assert bmc.stale_sessions == 0


def test_an_outlet_that_fails_is_told_and_climbed_over():
    async def broken(target):
        raise OutletFailed(node=target.node, outlet="7", program="pdu", reason="no route")

    rack = Rack(silence_seconds=0.01)
    rack.bmc("node-1").sickness = Sickness(hang=True)
    ladder = Ladder(rack.connect, broken, PATIENCE, outlet=Outlet.ALLOWED)

    async def operation():
        raise SILENT

    target = Target("node-1", "192.0.2.1", "perfci", "s3cret", **OUTLET)
    done = asyncio.run(ladder.climb(target, operation))
    assert [(step.rung, step.ok) for step in done.steps][-2:] == [
        (Rung.OUTLET, False),
        (Rung.QUARANTINE, True),
    ]
    assert "no route" in done.steps[-2].detail


def test_an_operation_that_hangs_is_ended_and_climbed_for():
    rack = Rack()
    tries = []

    async def operation():
        tries.append(1)
        if len(tries) == 1:
            await asyncio.Event().wait()
        return "done"

    ladder = Ladder(rack.connect, rack.switch_outlet, Patience(attempt_seconds=0.02, backoff_seconds=(0.0,)))
    done = asyncio.run(ladder.climb(Target("node-1", "192.0.2.1", "perfci", "s3cret"), operation))
    assert done.value == "done"
    assert "not done within" in done.steps[0].because


def test_nodes_climb_side_by_side():
    rack = Rack(silence_seconds=0.01)
    nodes = [f"node-{number}" for number in range(20)]
    for node in nodes:
        rack.bmc(node).sickness = Sickness(hang=True, heals_by=frozenset({"outlet"}))
    all_there = asyncio.Barrier(len(nodes))

    async def switch(target):
        await all_there.wait()  # passes only where all are at this rung at the same time
        await rack.switch_outlet(target)

    means = Means(
        30,
        recover=True,
        connect=rack.connect,
        switch_outlet=switch,
        patience=replace(PATIENCE, rung_seconds=dict.fromkeys(Rung, 20.0)),
    )
    fleet = [Target(node, "192.0.2.1", "perfci", "s3cret", **OUTLET) for node in nodes]
    results = asyncio.run(give(fleet, Order(PowerOrder.CYCLE), means))
    assert all(result.ok for result in results)
