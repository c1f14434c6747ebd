"""Every fault: what a client sees, and what heals it."""

from __future__ import annotations

import asyncio
import json

import pytest
from lab.virtual.ipmi.client import Client, Lab, Rejected, Unanswered, ask_old, until

from perfci.lab.virtual.ipmi import Faults, Remedy, SessionLimits
from perfci.lab.virtual.ipmi.faults import FaultsInvalid

CHASSIS, APP = 0x00, 0x06
PING = bytes.fromhex("0600ff06 000011be 80 07 00 00")
COLD, WARM = 0x02, 0x03


@pytest.fixture
def lab():
    return Lab(limits=SessionLimits(sessions=4, cycle_seconds=0))


def order(client, number):
    return asyncio.run(client.do(CHASSIS, 0x02, bytes([number]))).code


def test_as_json_and_back():
    faults = Faults(hang=True, drop=0.25, recovers_by=Remedy.COLD)
    copy = Faults()
    copy.change(json.loads(json.dumps(faults.as_dict())))
    assert copy == faults


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hnag": True}, "did you mean 'hang'?"),
        ({"drop": 1.5}, "drop: expected a number from 0 to 1, got 1.5"),
        ({"recovers_by": "prayer"}, "recovers_by: expected 'warm' or 'cold' or 'power' or 'none'"),
        ({"stale_sessions": -1}, "stale_sessions: expected a whole number from 0 to 255"),
        ({"delay_seconds": "long"}, "delay_seconds: expected a number from 0 to 60"),
    ],
)
def test_wrong_faults_change_nothing(changes, said):
    faults = Faults(half_hung=True)
    with pytest.raises(FaultsInvalid) as error:
        faults.change({"hang": True, **changes})
    assert said in str(error.value)
    assert faults == Faults(half_hung=True)


@pytest.mark.parametrize("needed", Remedy)
@pytest.mark.parametrize("given", [Remedy.WARM, Remedy.COLD, Remedy.POWER])
def test_a_remedy_heals_what_needs_no_stronger_one(needed, given):
    strength = [Remedy.WARM, Remedy.COLD, Remedy.POWER, Remedy.NONE]
    faults = Faults(hang=True, half_hung=True, sessions_full=True, ok_without_effect=True, recovers_by=needed)
    faults.treat(given)
    sick = strength.index(given) < strength.index(needed)
    assert (faults.hang, faults.half_hung, faults.sessions_full, faults.ok_without_effect) == (sick,) * 4


def test_a_remedy_does_not_mend_the_network_the_password_or_the_machine():
    faults = Faults(drop=0.5, delay_seconds=1, wrong_credentials=True, power_on_never=True)
    faults.treat(Remedy.POWER)
    assert faults == Faults(drop=0.5, delay_seconds=1, wrong_credentials=True, power_on_never=True)


def test_a_hung_bmc_answers_nothing_until_its_power_is_cut(lab):
    client = Client(lab).open()
    lab.faults.hang = True
    assert lab.put(PING) == []
    for number in (0x01, WARM, COLD):
        with pytest.raises(Unanswered):
            client.do_sync(APP, number)
    asyncio.run(lab.bmc.power_cut())
    lab.clock.now += 2
    assert lab.put(PING) != []
    assert lab.bmc.sessions == 0


def test_a_bmc_that_nothing_heals(lab):
    lab.faults.change({"hang": True, "recovers_by": "none"})
    asyncio.run(lab.bmc.power_cut())
    lab.clock.now += 100
    assert lab.put(PING) == []


def test_a_hung_bmc_is_silent_in_mid_delivery(lab):
    """What the machine's console says, or an order ends with, does not leave a hung BMC either."""
    client = Client(lab).open()

    async def give():
        lab.put(client.seal(0, client.request(CHASSIS, 0x02, b"\1")))
        lab.faults.hang = True
        await lab.orders()
        return lab.sent

    assert asyncio.run(give()) == []


@pytest.mark.parametrize(
    ("recovers_by", "reset", "healed"),
    [
        ("warm", WARM, True),
        ("warm", COLD, True),
        ("cold", WARM, False),
        ("cold", COLD, True),
        ("power", COLD, False),
    ],
)
def test_a_half_hung_bmc(lab, recovers_by, reset, healed):
    lab.faults.change({"half_hung": True, "recovers_by": recovers_by})
    client = Client(lab).open()
    assert client.do_sync(APP, 0x01).code == 0
    for number, data in ((0x01, b""), (0x02, b"\1"), (0x09, b"\5\0\0")):
        with pytest.raises(Unanswered):
            client.do_sync(CHASSIS, number, data)
    assert not lab.machine.is_on
    assert client.do_sync(APP, reset).code == 0
    lab.clock.now += 2
    client = Client(lab).open()
    if healed:
        assert client.do_sync(CHASSIS, 0x01).code == 0
    else:
        with pytest.raises(Unanswered):
            client.do_sync(CHASSIS, 0x01)


def test_a_session_table_that_is_always_full(lab):
    client = Client(lab).open()
    lab.faults.sessions_full = True
    with pytest.raises(Rejected) as rejected:
        Client(lab).open()
    assert rejected.value.status == 0x01
    lab.faults.recovers_by = Remedy.COLD
    assert client.do_sync(APP, COLD).code == 0
    lab.clock.now += 2
    Client(lab).open()


def test_stale_sessions_are_closed_through_the_slot_that_is_left(lab):
    lab.faults.stale_sessions = 3
    client = Client(lab).open()
    assert lab.bmc.sessions == 4
    with pytest.raises(Rejected):
        Client(lab, peer=("192.0.2.1", 2)).open()
    own = client.do_sync(APP, 0x3D, b"\0").data[0]
    handles = [client.do_sync(APP, 0x3D, bytes([n])).data[0] for n in (1, 2, 3, 4)]
    for handle in set(handles) - {own}:
        assert client.do_sync(APP, 0x3C, bytes(4) + bytes([handle])).code == 0
    assert lab.bmc.sessions == 1
    assert lab.faults.stale_sessions == 0


def test_stale_sessions_in_all_slots_end_with_the_mains(lab):
    lab.faults.stale_sessions = 4
    with pytest.raises(Rejected) as rejected:
        Client(lab).open()
    assert rejected.value.status == 0x01
    asyncio.run(lab.bmc.power_cut())
    lab.clock.now += 2
    Client(lab).open()


def test_stale_sessions_end_with_a_reset(lab):
    lab.faults.stale_sessions = 2
    assert Client(lab).open().do_sync(APP, WARM).code == 0
    assert lab.bmc.sessions == 0


@pytest.mark.parametrize("suite", [3, 17])
def test_wrong_credentials(lab, suite):
    lab.faults.wrong_credentials = True
    client = Client(lab, suite=suite)
    client.rakp_1()
    assert not client.bmc_is_right
    with pytest.raises(Rejected) as rejected:
        client.setup(0x14, client.rakp_3_message)
    assert rejected.value.status == 0x0F
    lab.faults.wrong_credentials = False
    Client(lab, suite=suite).open()


def test_ok_without_effect(lab):
    lab.faults.ok_without_effect = True
    client = Client(lab).open()
    assert client.do_sync(CHASSIS, 0x08, bytes([5, 0x80, 4, 0, 0, 0])).code == 0
    assert client.do_sync(CHASSIS, 0x09, b"\5\0\0").data[2:] == bytes(5)
    assert [order(client, number) for number in (1, 3, 2)] == [0, 0, 0]
    assert not lab.machine.is_on


def test_power_on_that_never_comes(lab):
    client = Client(lab).open()
    lab.machine.is_on = True
    lab.faults.power_on_never = True

    async def cycle():
        code = (await client.do(CHASSIS, 0x02, b"\2")).code
        await until(lambda: lab.bmc._bmc.power._return and lab.bmc._bmc.power._return.done())
        return code

    assert asyncio.run(cycle()) == 0
    assert order(client, 1) == 0
    assert not lab.machine.is_on
    assert client.do_sync(CHASSIS, 0x01).data[0] == 0


def test_lost_packets_are_the_same_ones_each_time(lab):
    def losses(name):
        one = Lab(name=name, faults=Faults(drop=0.3))
        return [bool(one.put(PING)) for _ in range(400)]

    first = losses("n1")
    assert first == losses("n1") != losses("n2")
    assert 140 < sum(first) < 250  # 0.7 squared of 400 is 196: both directions lose
    lab.faults.drop = 1
    assert lab.put(PING) == []


def test_late_answers(lab):
    """The answer leaves after the delay, in the order of the questions."""
    lab.faults.delay_seconds = 0.01

    async def give():
        for number in range(3):
            assert lab.put(PING[:9] + bytes([number]) + PING[10:]) == []
        await until(lambda: len(lab.sent) == 3)
        return [packet[9] for packet, _ in lab.sent]

    assert asyncio.run(give()) == [0, 1, 2]


def test_an_answer_that_is_late_for_a_closed_bmc_is_not_sent(lab):
    lab.faults.delay_seconds = 0.01

    async def give():
        lab.put(PING)
        await lab.bmc.close()
        await asyncio.sleep(0.03)
        return lab.sent

    assert asyncio.run(give()) == []


def test_faults_may_be_changed_at_any_time(lab):
    client = Client(lab).open()
    lab.faults.change({"hang": True})
    with pytest.raises(Unanswered):
        client.do_sync(APP, 0x01)
    lab.faults.change({"hang": False})
    assert client.do_sync(APP, 0x01).code == 0
    assert ask_old(lab, APP, 0x37).code == 0
