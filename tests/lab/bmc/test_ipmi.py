"""The IPMI client against simulated BMCs: each operation, each fault, and what is left behind."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace

import pytest
from simulated_bmcs import QUICK, simulated, with_wrong_password

from perfci.lab.bmc import session as sessions
from perfci.lab.bmc.base import BootDevice, BootOrder, Power, PowerOrder, Restart, Rung
from perfci.lab.bmc.errors import (
    BmcCredentialsWrong,
    BmcDeadline,
    BmcIneffective,
    BmcRightsMissing,
    BmcSessionsFull,
    BmcSilent,
    BmcUnreachable,
    BmcUnsupported,
)
from perfci.lab.bmc.ipmi import connect
from perfci.lab.bmc.ladder import Patience
from perfci.lab.bmc.operations import Order
from perfci.lab.bmc.orders import Means, give
from perfci.lab.virtual.machine import BootFrom

SHORT = Means(20)
NETWORK_ON = Order(PowerOrder.CYCLE, BootOrder(BootDevice.NETWORK, uefi=True))


@pytest.fixture(autouse=True)
def _quick_to_give_up(monkeypatch):
    """A BMC that is silent is known to be so after a moment here."""
    monkeypatch.setattr(sessions, "RETRY_SECONDS", (0.1, 0.1, 0.2, 0.4))


def with_bmc(scenario, **options):
    """Run a scenario with one BMC; afterwards none of our sessions is left on it."""

    async def run():
        async with simulated(**options) as one:
            before = one.bmc.sessions
            value = await scenario(one)
            assert one.bmc.sessions == before
            return value

    return asyncio.run(run())


def give_to(one, order, means=SHORT, target=None):
    return give([target or one.target], order, means)


@pytest.mark.parametrize("suite", [3, 17])
def test_power_and_boot_order_reach_the_machine(suite):
    async def scenario(one):
        target = replace(one.target, cipher_suite=suite)
        (result,) = await give_to(one, NETWORK_ON, target=target)
        assert result.ok, result.error
        assert one.machine.is_on
        assert (one.machine.booted.device, one.machine.booted.uefi) == (BootFrom.NETWORK, True)
        (result,) = await give_to(one, Order(PowerOrder.SOFT), target=target)
        assert not one.machine.is_on
        assert (result.done.before.power, result.done.after.power) == (Power.ON, Power.OFF)

    with_bmc(scenario)


@pytest.mark.parametrize("device", BootDevice)
@pytest.mark.parametrize("persistent", [True, False])
def test_each_boot_order_reads_as_it_was_set(device, persistent):
    async def scenario(one):
        async with connect(one.target) as bmc:
            await bmc.set_boot(BootOrder(device, persistent=persistent))
            return await bmc.boot()

    assert with_bmc(scenario) == BootOrder(device, persistent=persistent)


def test_identify_sensors_and_events():
    async def scenario(one):
        async with connect(one.target) as bmc:
            await bmc.identify(200)
            await bmc.identify(None)
            await bmc.identify(0)
            await bmc.press(PowerOrder.ON)
            readings, events = await bmc.sensors(), await bmc.events()
        assert readings
        assert all(reading.sensor and reading.health == "ok" for reading in readings)
        assert events
        assert all(event.at is not None and event.text for event in events)

    with_bmc(scenario)


def test_a_session_is_closed_whatever_happens_inside():
    async def scenario(one):
        async def fail(error):
            async with connect(one.target):
                assert one.bmc.sessions == 1
                raise error

        for error in (RuntimeError, KeyboardInterrupt):
            with pytest.raises(error):
                await fail(error)
            assert one.bmc.sessions == 0
        # More often than there are sessions: a client that leaks is locked out by now.
        for _ in range(3 * QUICK.sessions):
            async with connect(one.target) as bmc:
                await bmc.power()

    with_bmc(scenario)


def test_a_task_that_is_cancelled_closes_its_session():
    async def scenario(one):
        inside = asyncio.Event()

        async def forever():
            async with connect(one.target):
                inside.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(forever())
        await inside.wait()
        assert one.bmc.sessions == 1
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    with_bmc(scenario)


@pytest.mark.parametrize(
    ("faults", "order", "error", "words"),
    [
        ({"hang": True}, Order(), BmcSilent, "does not answer"),
        ({"wrong_credentials": True}, Order(), BmcCredentialsWrong, "password"),
        ({"sessions_full": True}, Order(), BmcSessionsFull, "no free session"),
        ({"stale_sessions": 4}, Order(), BmcSessionsFull, "no free session"),
        ({"half_hung": True}, Order(), BmcSilent, "does not answer"),
        ({"ok_without_effect": True}, NETWORK_ON, BmcIneffective, "boot from network once"),
        ({"ok_without_effect": True}, Order(PowerOrder.ON), BmcIneffective, "still says 'off'"),
        ({"power_on_never": True}, Order(PowerOrder.CYCLE), BmcIneffective, "still says 'off'"),
        ({"drop": 1.0}, Order(), BmcSilent, "does not answer"),
    ],
)
def test_each_fault_has_its_own_words(faults, order, error, words):
    async def scenario(one):
        (result,) = await give_to(one, order)
        assert isinstance(result.error, error)
        assert words in str(result.error)
        assert result.error.advice

    with_bmc(scenario, **faults)


@pytest.mark.parametrize("faults", [{"drop": 0.1}, {"delay_seconds": 0.15}])
def test_what_is_only_slow_or_lossy_succeeds(faults, monkeypatch):
    async def scenario(one):
        (result,) = await give_to(one, NETWORK_ON, Means(60))
        assert result.ok, result.error
        assert one.machine.is_on
        one.bmc.faults.drop = 0.0

    with_bmc(scenario, **faults)


def test_a_wrong_password_and_a_wrong_user():
    async def scenario(one):
        for target in (with_wrong_password(one.target), replace(one.target, username="nobody")):
            (result,) = await give_to(one, Order(), target=target)
            assert isinstance(result.error, BmcCredentialsWrong)
            assert repr(target.username) in str(result.error)
            assert target.password not in str(result.error)

    with_bmc(scenario)


@pytest.mark.parametrize(
    ("privilege", "order", "may"),
    [
        (3, NETWORK_ON, True),
        (2, Order(), True),
        (2, NETWORK_ON, False),
    ],
)
def test_a_user_is_asked_for_no_more_than_it_may(privilege, order, may):
    async def scenario(one):
        (result,) = await give_to(one, order)
        assert result.ok is may
        assert one.machine.is_on is (may and order is NETWORK_ON)
        if not may:
            assert isinstance(result.error, BmcRightsMissing)
            assert "insufficient privilege" in str(result.error)
            assert "password is right" in result.error.advice
            assert not result.locked_up

    with_bmc(scenario, privilege=privilege)


def test_an_operator_with_a_wrong_password_hears_of_the_password():
    async def scenario(one):
        (result,) = await give_to(one, Order(), target=with_wrong_password(one.target))
        assert isinstance(result.error, BmcCredentialsWrong)

    with_bmc(scenario, privilege=3)


def test_an_operator_may_not_restart_the_bmc():
    async def scenario(one):
        async with connect(one.target) as bmc:
            with pytest.raises(BmcRightsMissing, match="may not make a cold restart"):
                await bmc.restart(Restart.COLD)

    with_bmc(scenario, privilege=3)


def test_a_user_without_a_name():
    async def scenario(one):
        (result,) = await give_to(one, NETWORK_ON, target=replace(one.target, username=""))
        assert result.ok, result.error

    with_bmc(scenario, username="")


def test_a_machine_that_switches_late_is_not_sick():
    async def scenario(one):
        target = replace(one.target, power_seconds=20)
        (result,) = await give_to(one, Order(PowerOrder.ON), replace(SHORT, recover=True), target=target)
        assert result.ok, result.error
        assert result.steps == ()
        assert one.machine.is_on
        # A deadline that is shorter than the machine's patience says nothing about the BMC.
        means = replace(SHORT, recover=True, deadline_seconds=1.2)
        (result,) = await give_to(one, Order(PowerOrder.OFF), means, target=target)
        assert isinstance(result.error, BmcDeadline)
        assert "may take 20 s to switch" in str(result.error)
        assert (result.steps, result.locked_up, result.quarantined) == ((), False, False)

    with_bmc(scenario, switch_seconds=0.6)


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_a_bmc_with_an_ipv6_address():
    async def scenario(one):
        assert one.target.address == "::1"
        (result,) = await give_to(one, NETWORK_ON)
        assert result.ok
        assert one.machine.is_on

    with_bmc(scenario, listens="::1")


@pytest.mark.parametrize("address", ["127.0.0.1", "no-such-name.invalid"])
def test_what_the_network_refuses_is_no_sick_bmc(address):
    async def scenario(one):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        target = replace(one.target, address=address, port=port, outlet="7", outlet_command="false")
        means = replace(SHORT, recover=True, patience=Patience(backoff_seconds=(0.0, 0.0)))
        (result,) = await give_to(one, Order(PowerOrder.CYCLE), means, target=target)
        assert isinstance(result.error, BmcUnreachable)
        assert [step.rung for step in result.steps] == [Rung.RETRY, Rung.RETRY]
        assert (result.locked_up, result.quarantined) == (False, False)

    with_bmc(scenario)


def test_a_bmc_that_falls_silent_in_mid_session():
    async def ask(one):
        async with connect(one.target) as bmc:
            one.bmc.faults.hang = True
            await bmc.power()

    async def scenario():
        async with simulated() as one:
            with pytest.raises(BmcSilent):
                await ask(one)

    asyncio.run(scenario())


def test_what_speaks_no_ipmi():
    """Something answers on the port, but not IPMI 2.0."""

    class Old(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, addr):
            # Get Channel Authentication Capabilities of an IPMI 1.5 BMC: no extended capabilities.
            message = bytes([data[17], 0x1C, 0, 0x20, data[18], 0x38, 0, 1, 0x14, 0, 0, 0, 0, 0, 0, 0])
            self.transport.sendto(data[:13] + bytes([len(message)]) + message, addr)

    async def scenario(one):
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            Old, local_addr=("127.0.0.1", 0)
        )
        target = replace(one.target, port=transport.get_extra_info("sockname")[1])
        (result,) = await give_to(one, Order(), target=target)
        transport.close()
        assert isinstance(result.error, BmcUnsupported)
        assert "IPMI 1.5 only" in str(result.error)

    with_bmc(scenario)


def test_stale_sessions_of_others_are_closed():
    async def scenario(one):
        async with connect(one.target) as bmc:
            return await bmc.close_other_sessions()

    assert with_bmc_leaving(scenario, stale_sessions=3) == (3, 0)


def with_bmc_leaving(scenario, **options):
    async def run():
        async with simulated(**options) as one:
            return await scenario(one), one.bmc.sessions

    return asyncio.run(run())


@pytest.mark.parametrize("how", Restart)
def test_a_restart_ends_all_sessions(how):
    async def scenario(one):
        async with connect(one.target) as bmc:
            await bmc.restart(how)
        assert one.bmc.sessions == 0

    with_bmc(scenario)


RUNGS = list(Rung)
PATIENCE = Patience(
    backoff_seconds=(0.05,),
    rung_seconds=dict.fromkeys(Rung, 10.0),
    poll_seconds=0.1,
    gone_seconds=1.0,
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("faults", "last"),
    [
        ({"ok_without_effect": True, "recovers_by": "warm"}, Rung.WARM_RESET),
        ({"ok_without_effect": True, "recovers_by": "cold"}, Rung.COLD_RESET),
        ({"ok_without_effect": True, "recovers_by": "power"}, Rung.OUTLET),
        ({"half_hung": True, "recovers_by": "warm"}, Rung.WARM_RESET),
        ({"half_hung": True, "recovers_by": "cold"}, Rung.COLD_RESET),
        ({"hang": True}, Rung.OUTLET),
        ({"hang": True, "recovers_by": "none"}, Rung.QUARANTINE),
        ({"wrong_credentials": True}, None),
    ],
)
def test_the_ladder_brings_a_simulated_bmc_back(faults, last):
    async def scenario(one):
        async def cut(_):
            await one.bmc.power_cut()

        means = Means(
            20,
            recover=True,
            switch_outlet=cut,
            patience=PATIENCE,
        )
        target = replace(one.target, outlet="7", outlet_command="pdu {outlet}")
        (result,) = await give([target], Order(PowerOrder.CYCLE), means)
        assert [step.rung for step in result.steps][-1:] == ([last] if last else [])
        assert result.ok is (last not in (None, Rung.QUARANTINE))
        assert one.machine.is_on is result.ok
        assert result.quarantined is (last is Rung.QUARANTINE)

    with_bmc(scenario, **faults)


@pytest.mark.slow
def test_a_fleet_with_hung_bmcs_and_lost_packets_is_done_within_one_nodes_deadline():
    async def scenario():
        async with asyncio.TaskGroup() as group:
            ready, stop = asyncio.Semaphore(0), asyncio.Event()
            bmcs = []

            async def host(number):
                sick = {"hang": True} if number % 20 == 0 else {"drop": 0.02}
                async with simulated(f"node-{number}", **sick) as one:
                    bmcs.append(one)
                    ready.release()
                    await stop.wait()

            for number in range(100):
                group.create_task(host(number))
            for _ in range(100):
                await ready.acquire()
            # The deadline of the whole is that of one node: what does not fit in is told as not done.
            means = Means(60, whole_seconds=60, concurrency=64)
            results = await give([one.target for one in bmcs], NETWORK_ON, means)
            stop.set()
        return bmcs, results

    bmcs, results = asyncio.run(scenario())
    for one, result in zip(bmcs, results, strict=True):
        hung = one.bmc.faults.hang
        assert result.ok is not hung, result.error
        assert one.machine.is_on is not hung
        assert not hung or isinstance(result.error, BmcSilent)
        assert not isinstance(result.error, BmcDeadline)
