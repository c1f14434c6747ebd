"""The ladder: its decisions in general, and climbs with BMCs in memory."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfci.lab.bmc.base import PowerOrder, Restart, Target
from perfci.lab.bmc.errors import (
    BmcCredentialsWrong,
    BmcDeadline,
    BmcGarbled,
    BmcIneffective,
    BmcRefused,
    BmcSessionsFull,
    BmcSilent,
    BmcUnsupported,
    OutletFailed,
)
from perfci.lab.bmc.fleet import FleetLimits
from perfci.lab.bmc.ladder import Ladder, Patience, Rung, next_rung
from perfci.lab.bmc.memory import Rack, Sickness
from perfci.lab.bmc.operations import Order
from perfci.lab.bmc.orders import Means, give

PLACE = {"node": "node-1", "address": "192.0.2.1"}
SILENT = BmcSilent(**PLACE, reason="no answer")
FULL = BmcSessionsFull(**PLACE, reason="full")
IDLE = BmcIneffective(node="node-1", order="power on", seconds=1, found="off")
BUSY = BmcRefused(node="node-1", order="power on", reason="busy", code=0xC0, passing=True)
CURABLE = (
    SILENT,
    FULL,
    IDLE,
    BUSY,
    BmcGarbled(**PLACE, reason="x"),
    BmcDeadline(node="n", seconds=1, reason="x"),
)
HOPELESS = (
    BmcCredentialsWrong(**PLACE, username="x", reason="wrong"),
    BmcUnsupported(**PLACE, reason="IPMI 1.5"),
    BmcRefused(node="node-1", order="x", reason="invalid", code=0xC1, passing=False),
)
LADDER = list(Rung)
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
        (IDLE, True, LADDER),
        (IDLE, False, [rung for rung in LADDER if rung is not Rung.OUTLET]),
        (FULL, True, LADDER),
        (SILENT, True, [Rung.RETRY, Rung.OUTLET, Rung.QUARANTINE]),
        (SILENT, False, [Rung.RETRY, Rung.QUARANTINE]),
        (BmcSilent(**PLACE, reason="half hung", deaf=False), True, LADDER),
        *((error, True, []) for error in HOPELESS),
    ],
)
def test_the_rungs_for_one_error(error, outlet, rungs):
    assert climbed_with([error], retries=1, outlet=outlet) == rungs


def test_a_bmc_that_hears_again_after_a_retry_is_told_to_restart():
    assert climbed_with([SILENT, SILENT, IDLE], retries=2, outlet=True)[:3] == [
        Rung.RETRY,
        Rung.RETRY,
        Rung.CLOSE_SESSIONS,
    ]
    assert next_rung([Rung.RETRY, Rung.WARM_RESET], SILENT, retries=1, outlet=False) is Rung.QUARANTINE


@settings(deadline=None)
@given(
    errors=st.lists(st.sampled_from((*CURABLE, *HOPELESS)), min_size=1, max_size=12),
    retries=st.integers(0, 4),
    outlet=st.booleans(),
)
def test_a_climb_always_ends_and_only_goes_up(errors, retries, outlet):
    climbed = climbed_with(errors, retries=retries, outlet=outlet)
    assert len(climbed) <= retries + len(LADDER) - 1
    assert [LADDER.index(rung) for rung in climbed] == sorted(LADDER.index(rung) for rung in climbed)
    above = [rung for rung in climbed if rung is not Rung.RETRY]
    assert len(above) == len(set(above)), "no rung but a retry is climbed twice"
    assert climbed.count(Rung.RETRY) <= retries
    assert outlet or Rung.OUTLET not in climbed
    used = errors[: len(climbed) + 1]
    if all(error.curable for error in errors):
        assert climbed[-1] is Rung.QUARANTINE
    if Rung.QUARANTINE in climbed:
        assert climbed.count(Rung.RETRY) == retries, "before a node is given up, it was tried often enough"
        assert all(error.curable for error in used[:-1])


def climb(sickness, *, on=False, **target):
    rack = Rack(silence_seconds=0.01)
    rack.bmc("node-1").sickness = sickness
    rack.bmc("node-1").on = on
    steps = []
    means = Means(
        FleetLimits(deadline_seconds=30),
        recover=True,
        settle_seconds=0.02,
        connect=rack.connect,
        switch_outlet=rack.switch_outlet,
        patience=PATIENCE,
    )
    one = Target("node-1", "192.0.2.1", "perfci", "s3cret", **target)
    (result,) = asyncio.run(give([one], Order(PowerOrder.ON), means, tell_step=steps.append))
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
    bmc, result = climb(Sickness(ok_without_effect=True, heals_by=frozenset({cure})), **OUTLET)
    assert result.ok
    assert bmc.on
    rungs = [step.rung for step in result.steps]
    assert rungs == [Rung.RETRY, Rung.RETRY, *LADDER[1 : LADDER.index(last) + 1]]
    assert bmc.restarts == [Restart.WARM, Restart.COLD][: LADDER.index(last) - 1]
    assert result.locked_up
    assert not result.quarantined


def test_a_hung_bmc_gets_its_mains_cut():
    bmc, result = climb(Sickness(hang=True, heals_by=frozenset({"outlet"})), **OUTLET)
    assert result.ok
    assert [step.rung for step in result.steps] == [Rung.RETRY, Rung.RETRY, Rung.OUTLET]
    assert bmc.restarts == []


def test_what_nothing_helps_goes_into_quarantine():
    _, result = climb(Sickness(hang=True), **OUTLET)
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

    means = Means(FleetLimits(deadline_seconds=30), recover=True, connect=connect, patience=PATIENCE)
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
    ladder = Ladder(rack.connect, broken, PATIENCE)

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
        FleetLimits(deadline_seconds=30),
        recover=True,
        connect=rack.connect,
        switch_outlet=switch,
        patience=replace(PATIENCE, rung_seconds=dict.fromkeys(Rung, 20.0)),
    )
    fleet = [Target(node, "192.0.2.1", "perfci", "s3cret", **OUTLET) for node in nodes]
    results = asyncio.run(give(fleet, Order(PowerOrder.ON), means))
    assert all(result.ok for result in results)
