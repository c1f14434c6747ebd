"""What the BMC answers in a session."""

from __future__ import annotations

import asyncio
import struct

import pytest
from lab.virtual.ipmi.client import Client, Lab, Unanswered, at_rest, until

from perfci.lab.virtual.ipmi import SessionLimits
from perfci.lab.virtual.ipmi.commands import COMMANDS
from perfci.lab.virtual.machine import Boot, BootFrom, MachineBroken
from perfci.lab.virtual.null import NullMachine

CHASSIS, SENSOR, APP, STORAGE, TRANSPORT = 0x00, 0x04, 0x06, 0x0A, 0x0C
OFF, ON, CYCLE, RESET, DIAGNOSE, SOFT = range(6)
GIVE_POWER = (CHASSIS, 0x02)


@pytest.fixture
def lab():
    return Lab(limits=SessionLimits(sessions=4, cycle_seconds=0))


@pytest.fixture
def client(lab):
    return Client(lab).open()


def orders(client, *numbers):
    """Give Chassis Control commands; return their completion codes."""

    async def give():
        codes = [(await client.do(*GIVE_POWER, bytes([number]))).code for number in numbers]
        await until(lambda: at_rest(client.lab))
        return codes

    return asyncio.run(give())


def status(client):
    return client.do_sync(CHASSIS, 0x01).data


def events(client):
    """Return sensor number, direction and type, and offset of each event in the log."""
    found, number = [], 0
    while number != 0xFFFF:
        answer = client.do_sync(STORAGE, 0x43, struct.pack("<HHBB", 0, number, 0, 0xFF))
        if answer.code == 0xCB:
            break
        number = struct.unpack_from("<H", answer.data)[0]
        record = answer.data[2:]
        assert len(record) == 16
        found.append((record[11], record[12], record[13]))
    return found


def test_an_unknown_command(client):
    assert client.do_sync(0x2E, 0x01, b"\0\0\0").code == 0xC1
    assert client.do_sync(APP, 0x39, bytes(17)).code == 0xC1


@pytest.mark.parametrize("key", COMMANDS, ids=lambda key: f"{key[0]:02X}-{key[1]:02X}")
def test_every_command_counts_its_data(lab, client, key):
    command = COMMANDS[key]
    wrong = {command.longest + 1, command.shortest - 1} - {-1}
    assert {client.do_sync(*key, bytes(length)).code for length in wrong} == {0xC7}
    assert lab.bmc.sessions == 1


@pytest.mark.parametrize("key", COMMANDS, ids=lambda key: f"{key[0]:02X}-{key[1]:02X}")
def test_every_command_asks_for_its_privilege(lab, key):
    needed = COMMANDS[key].privilege or 1
    too_long = bytes(COMMANDS[key].longest + 1)

    def code(level):
        client = Client(lab, role=level).open(privilege=level if level > 1 else 0)
        return client.do_sync(*key, too_long).code

    assert code(needed) == 0xC7
    if needed > 1:
        assert code(needed - 1) == 0xD4


@pytest.mark.parametrize(
    ("level", "code", "now"),
    [(0, 0, 2), (1, 0xCC, 2), (2, 0, 2), (3, 0, 3), (4, 0x81, 2), (5, 0x81, 2), (9, 0xCC, 2)],
)
def test_privilege_levels(lab, level, code, now):
    client = Client(lab, role=3).open(privilege=0)
    answer = client.do_sync(APP, 0x3B, bytes([level]))
    assert answer.code == code
    assert client.do_sync(APP, 0x3B, b"\0").data == bytes([now])


def test_who_it_is(client):
    device = client.do_sync(APP, 0x01).data
    assert len(device) == 11
    assert device[4] == 0x02
    assert client.do_sync(APP, 0x04).data == b"\x55\0"


def test_power(lab, client):
    assert status(client)[0] == 0
    assert orders(client, ON) == [0]
    assert lab.machine.is_on
    assert status(client)[0] == 1
    assert orders(client, ON, RESET, SOFT) == [0, 0, 0]
    assert not lab.machine.is_on
    assert orders(client, OFF, RESET, CYCLE) == [0, 0xD5, 0xD5]
    assert orders(client, DIAGNOSE, 9) == [0xCC, 0xCC]


def test_a_cycle_comes_on_again(lab, client):
    boots = []
    lab.machine._next_boot = lambda: boots.append(1) or Boot()
    assert orders(client, ON, CYCLE) == [0, 0]
    assert lab.machine.is_on
    assert len(boots) == 2


def test_an_order_ends_a_cycle():
    lab = Lab(limits=SessionLimits(cycle_seconds=0.01))
    client = Client(lab).open()

    async def give():
        await client.do(*GIVE_POWER, bytes([ON]))
        await client.do(*GIVE_POWER, bytes([CYCLE]))
        assert not lab.machine.is_on
        assert (await client.do(*GIVE_POWER, bytes([OFF]))).code == 0
        await asyncio.sleep(0.03)
        assert not lab.machine.is_on

    asyncio.run(give())


class Stubborn(NullMachine):
    """A machine that is broken, or takes until it is let go."""

    def __init__(self):
        super().__init__(Boot)
        self.go = asyncio.Event()
        self.broken = False

    async def power_on(self):
        if self.broken:
            raise MachineBroken(name="n1", order="power on", reason="no tap", log="n1.log")
        await self.go.wait()
        await super().power_on()


def test_a_broken_machine():
    machine = Stubborn()
    lab = Lab(machine=machine)
    client = Client(lab).open()
    machine.broken = True
    assert orders(client, ON) == [0xD5]
    assert "no tap" in str(lab.bmc.broken)
    machine.broken = False
    machine.go.set()
    assert orders(client, ON) == [0]
    assert lab.bmc.broken is None


def test_a_machine_that_breaks_in_a_cycle():
    machine = Stubborn()
    lab = Lab(machine=machine, limits=SessionLimits(cycle_seconds=0))
    client = Client(lab).open()
    machine.is_on = machine.broken = True
    assert orders(client, CYCLE) == [0]
    assert "no tap" in str(lab.bmc.broken)


def test_orders_come_one_at_a_time():
    """While one is under way others are told so, its repetition waits, and all else is answered."""

    async def give():
        machine = Stubborn()
        lab = Lab(machine=machine)
        first, second = (Client(lab, peer=("192.0.2.1", port)).open() for port in (1, 2))
        message = first.request(*GIVE_POWER, bytes([ON]))
        assert lab.put(first.seal(0, message), first.peer) == []
        await asyncio.sleep(0)
        assert lab.put(first.seal(0, message), first.peer) == []
        packet = second.seal(0, second.request(*GIVE_POWER, bytes([OFF])))
        lab.put(packet, second.peer)
        await asyncio.sleep(0)
        assert second.answer([packet for packet, _ in lab.sent], *GIVE_POWER).code == 0xC0
        assert second.do_sync(CHASSIS, 0x01).data[0] == 0
        lab.sent.clear()
        machine.go.set()
        await lab.orders()
        assert first.answer([packet for packet, _ in lab.sent], *GIVE_POWER).code == 0
        assert machine.is_on

    asyncio.run(give())


def test_closing_the_bmc_cancels_an_order():
    async def give():
        lab = Lab(machine=Stubborn())
        client = Client(lab).open()
        lab.put(client.seal(0, client.request(*GIVE_POWER, bytes([ON]))))
        await asyncio.sleep(0)
        await lab.bmc.close()
        await lab.bmc.close()
        assert not lab.bmc._orders
        assert lab.sent == []

    asyncio.run(give())


def test_closing_the_bmc_in_the_middle_of_a_cycle():
    """While the machine is off, and while it comes on again."""

    async def give(seconds):
        machine = Stubborn()
        machine.is_on = True
        lab = Lab(machine=machine, limits=SessionLimits(cycle_seconds=seconds))
        await Client(lab).open().do(*GIVE_POWER, bytes([CYCLE]))
        if not seconds:
            await until(lambda: lab.bmc._bmc.power._return)
        await lab.bmc.close()
        assert at_rest(lab)
        assert not machine.is_on

    asyncio.run(give(60))
    asyncio.run(give(0))


def test_a_repeated_command_is_answered_again_and_obeyed_once(lab, client):
    resets = []
    lab.machine._next_boot = lambda: resets.append(1) or Boot()

    async def give():
        await client.do(*GIVE_POWER, bytes([ON]))
        message = client.request(*GIVE_POWER, bytes([RESET]))
        for _ in range(3):
            packets = await lab.exchange(client.seal(0, message))
            assert client.answer(packets, *GIVE_POWER).code == 0
        client.rq += 1

    asyncio.run(give())
    assert len(resets) == 2


def test_a_replayed_packet_is_not_answered(lab, client):
    packet = client.seal(0, client.request(APP, 0x01))
    assert len(lab.put(packet)) == 1
    assert lab.put(packet) == []
    assert lab.put(client.seal(0, client.request(APP, 0x01), sequence=client.sequence + 16)) == []
    assert lab.put(client.seal(0, client.request(APP, 0x01), sequence=client.sequence + 15)) != []


def test_a_packet_that_is_not_rightly_signed_is_not_answered(lab, client):
    packet = bytearray(client.seal(0, client.request(APP, 0x01)))
    packet[-1] ^= 1
    assert lab.put(bytes(packet)) == []
    unsigned = b"\x06\0\xff\x07\x06\0" + client.bmc_id + bytes([9, 0, 0, 0, 7, 0]) + client.request(APP, 0x01)
    assert lab.put(unsigned) == []


def test_nobody_gets_in_by_a_stale_session(lab, client):
    lab.faults.stale_sessions = 1
    stale = next(one for one in lab.bmc._bmc.sessions.all() if one.stale)
    client.bmc_id = stale.id.to_bytes(4, "little")
    with pytest.raises(Unanswered):
        client.do_sync(APP, 0x01)


def test_a_session_ends_after_a_while(lab, client):
    lab.clock.now += 59
    assert client.do_sync(APP, 0x01).code == 0
    lab.clock.now += 61
    with pytest.raises(Unanswered):
        client.do_sync(APP, 0x01)
    assert lab.bmc.sessions == 0


@pytest.mark.parametrize("kind", [0x02, 0x10, 0x14, 0x3F])
def test_a_session_carries_commands_and_sol_only(lab, client, kind):
    assert lab.put(client.seal(kind, client.request(APP, 0x01))) == []


def test_the_identify_light(lab, client):
    def light():
        return status(client)[2]

    assert light() == 0x40
    client.do_sync(CHASSIS, 0x04)
    assert light() == 0x50
    lab.clock.now += 14.9
    assert light() == 0x50
    lab.clock.now += 0.1
    assert light() == 0x40
    client.do_sync(CHASSIS, 0x04, b"\0\1")
    lab.clock.now += 50
    assert light() == 0x60
    client.do_sync(CHASSIS, 0x04, b"\0")
    assert light() == 0x40


def test_a_boot_order_reaches_the_machine(lab, client):
    assert client.do_sync(CHASSIS, 0x08, bytes([5, 0xA0, 4, 0, 0, 0])).code == 0
    assert client.do_sync(CHASSIS, 0x09, b"\5\0\0").data == bytes([1, 5, 0xA0, 4, 0, 0, 0])
    orders(client, ON)
    assert lab.machine.booted == Boot(BootFrom.NETWORK, uefi=True)
    assert client.do_sync(CHASSIS, 0x09, b"\5\0\0").data == bytes([1, 5, 0, 0, 0, 0, 0])
    orders(client, RESET)
    assert lab.machine.booted == Boot()


def test_a_power_command_keeps_a_boot_order_alive(lab, client):
    client.do_sync(CHASSIS, 0x08, bytes([5, 0x80, 4, 0, 0, 0]))
    lab.clock.now += 50
    orders(client, SOFT)
    lab.clock.now += 50
    assert client.do_sync(CHASSIS, 0x09, b"\5\0\0").data[2] == 0x80


@pytest.mark.parametrize(("data", "code"), [(b"\x07\0", 0x80), (b"\5\0", 0xC7), (b"\x85", 0)])
def test_boot_options_that_can_not_be_set(client, data, code):
    assert client.do_sync(CHASSIS, 0x08, data).code == code
    assert client.do_sync(CHASSIS, 0x09, b"\x07\0\0").code == 0x80


def test_capabilities_of_the_chassis(client):
    assert client.do_sync(CHASSIS, 0x00).data == bytes.fromhex("0020202020")


def test_session_info(lab, client):
    other = Client(lab, user=b"second", password=b"other", role=3, peer=("198.51.100.9", 999)).open()
    mine = client.do_sync(APP, 0x3D, b"\0").data
    assert mine[1:6] == bytes([4, 2, 2, 4, 0x11])
    assert mine[6:] == bytes([192, 0, 2, 7]) + bytes(6) + struct.pack("<H", 40623)
    theirs = client.do_sync(APP, 0x3D, b"\2").data
    assert theirs[1:10] == bytes([4, 2, 3, 3, 0x11, 198, 51, 100, 9])
    assert client.do_sync(APP, 0x3D, b"\xfe" + theirs[:1]).data == theirs
    assert client.do_sync(APP, 0x3D, b"\xff" + other.bmc_id).data == theirs
    assert client.do_sync(APP, 0x3D, b"\3").data == bytes([0, 4, 2])
    assert client.do_sync(APP, 0x3D, b"\xff\1\1\1\1").data == bytes([0, 4, 2])
    assert client.do_sync(APP, 0x3D, b"\xfe").code == 0xC7


def test_session_info_of_a_client_over_ipv6(lab):
    client = Client(lab, peer=("2001:db8::1", 5)).open()
    assert client.do_sync(APP, 0x3D, b"\0").data[6:] == bytes(10) + b"\5\0"


def test_closing_the_session_of_another(lab, client):
    second = Client(lab, role=3, peer=("192.0.2.1", 2)).open()
    third = Client(lab, peer=("192.0.2.1", 3)).open()
    assert second.do_sync(APP, 0x3C, third.bmc_id).code == 0xD4
    assert client.do_sync(APP, 0x3C, second.bmc_id).code == 0
    handle = client.do_sync(APP, 0x3D, b"\xff" + third.bmc_id).data[:1]
    assert client.do_sync(APP, 0x3C, bytes(4) + handle).code == 0
    assert lab.bmc.sessions == 1
    assert client.do_sync(APP, 0x3C, second.bmc_id).code == 0x87
    assert client.do_sync(APP, 0x3C, bytes(4) + b"\x77").code == 0x88
    assert client.do_sync(APP, 0x3C, bytes(4)).code == 0xC7
    assert client.do_sync(APP, 0x3C, client.bmc_id + b"\1").code == 0xC7


def test_channel_and_users(client):
    assert client.do_sync(APP, 0x41, b"\x0e\x80").data == bytes([2, 4])
    assert client.do_sync(APP, 0x42, b"\x0e").data == bytes([1, 4, 1, 0x81, 0xF2, 0x1B, 0, 0, 0])
    assert client.do_sync(APP, 0x42, b"\7").code == 0xCC
    assert client.do_sync(APP, 0x44, b"\x0e\1").data == bytes([3, 0x82, 1, 0x0F])
    assert client.do_sync(APP, 0x44, b"\x0e\2").data == bytes([3, 0x42, 1, 0x14])
    assert [client.do_sync(APP, 0x46, bytes([n])).data.rstrip(b"\0") for n in (1, 2, 3)] == [
        b"",
        b"admin",
        b"second",
    ]
    assert client.do_sync(APP, 0x46, b"\4").code == client.do_sync(APP, 0x44, b"\x0e\0").code == 0xC9


@pytest.mark.parametrize("number", [0x02, 0x03])
def test_a_reset_of_the_bmc(lab, client, number):
    other = Client(lab, peer=("192.0.2.1", 2)).open()
    orders(client, ON)
    client.do_sync(CHASSIS, 0x08, bytes([5, 0x80, 4, 0, 0, 0]))
    assert client.do_sync(APP, number).code == 0
    assert lab.bmc.sessions == 0
    with pytest.raises(Unanswered):
        Client(lab).open()
    lab.clock.now += 2
    with pytest.raises(Unanswered):
        other.do_sync(APP, 0x01)
    again = Client(lab).open()
    assert lab.machine.is_on
    assert again.do_sync(CHASSIS, 0x09, b"\5\0\0").data[2:4] == bytes([0x80, 4])


def test_a_power_cut(lab, client):
    orders(client, ON)
    asyncio.run(lab.bmc.power_cut())
    assert not lab.machine.is_on
    assert lab.bmc.sessions == 0
    assert lab.put(bytes.fromhex("0600ff06 000011be 80 07 00 00")) == []
    lab.clock.now += 2
    assert status(Client(lab).open())[0] == 0


def test_power_is_noted_in_the_log(lab, client):
    assert events(client) == []
    orders(client, ON, ON, RESET, CYCLE)
    orders(client, OFF, OFF)
    on, off, cycle, reset = (0x30, 0xEF, 0), (0x30, 0x6F, 0), (0x30, 0x6F, 1), (0x31, 0x6F, 1)
    assert events(client) == [on, reset, cycle, on, off]
    info = client.do_sync(STORAGE, 0x40).data
    version, count, free, added, erased, support = struct.unpack("<BHHIIB", info)
    assert (version, count, free, erased, support) == (0x51, 5, (512 - 5) * 16, 0xFFFFFFFF, 0x02)
    now = struct.unpack("<I", client.do_sync(STORAGE, 0x48).data)[0]
    assert 0 <= now - added < 60


def test_the_log_is_cleared_under_a_reservation(lab, client):
    orders(client, ON)
    assert client.do_sync(STORAGE, 0x47, b"\0\0CLR\xaa").code == 0xC5
    reservation = client.do_sync(STORAGE, 0x42).data
    assert client.do_sync(STORAGE, 0x47, reservation + b"CLX\xaa").code == 0xCC
    assert client.do_sync(STORAGE, 0x47, reservation + b"CLR\x00").data == b"\1"
    assert len(events(client)) == 1
    assert client.do_sync(STORAGE, 0x47, reservation + b"CLR\xaa").data == b"\1"
    assert events(client) == [(0x32, 0x6F, 2)]
    assert client.do_sync(STORAGE, 0x42).data != reservation
    assert client.do_sync(STORAGE, 0x47, reservation + b"CLR\xaa").code == 0xC5


def test_entries_are_added_and_read_in_parts(client):
    entry = bytes.fromhex("0000 02 00000000 2000 04 01 01 01 570102")
    number = client.do_sync(STORAGE, 0x44, entry).data
    whole = client.do_sync(STORAGE, 0x43, b"\0\0" + number + b"\0\xff").data
    assert whole[:2] == b"\xff\xff"
    assert whole[2:5] == number + b"\2"
    assert whole[9:] == entry[7:]
    assert client.do_sync(STORAGE, 0x43, b"\0\0" + number + b"\5\3").code == 0xC5
    reservation = client.do_sync(STORAGE, 0x42).data
    assert client.do_sync(STORAGE, 0x43, reservation + number + b"\5\3").data[2:] == whole[7:10]
    assert client.do_sync(STORAGE, 0x43, reservation + number + b"\x10\1").code == 0xC9
    assert client.do_sync(STORAGE, 0x43, b"\0\0\xff\xff\0\xff").data == whole
    assert client.do_sync(STORAGE, 0x43, b"\0\0\x63\0\0\xff").code == 0xCB
    oem = bytes.fromhex("0000 e0 0102030405060708090a0b0c0d")
    number = client.do_sync(STORAGE, 0x44, oem).data
    assert client.do_sync(STORAGE, 0x43, b"\0\0" + number + b"\0\xff").data[2:] == number + oem[2:]


def test_a_full_log_says_so(lab, client):
    entry = bytes.fromhex("0000 02 00000000 2000 04 01 01 01 570102")
    codes = [client.do_sync(STORAGE, 0x44, entry).code for _ in range(513)]
    assert codes == [0] * 512 + [0xC4]
    assert client.do_sync(STORAGE, 0x40).data[-1] == 0x82
    assert orders(client, ON) == [0]
    assert len(events(client)) == 512


def records(client):
    found, number = [], 0
    while number != 0xFFFF:
        data = client.do_sync(STORAGE, 0x23, struct.pack("<HHBB", 0, number, 0, 0xFF)).data
        number = struct.unpack_from("<H", data)[0]
        found.append(data[2:])
    return found


def test_the_records_of_the_sensors(client):
    found = records(client)
    info = client.do_sync(STORAGE, 0x20).data
    assert struct.unpack_from("<BH", info) == (0x51, len(found))
    assert len(info) == 14
    for number, record in enumerate(found, start=1):
        assert struct.unpack_from("<H", record)[0] == number
        assert record[2] == 0x51
        assert record[4] == len(record) - 5
    assert {bytes(record[-(record[47] & 0x1F) :]) for record in found if record[3] == 1} == {
        b"Inlet Temp",
        b"CPU Temp",
        b"Fan 1",
        b"Power",
    }


def test_a_record_in_parts(client):
    whole = records(client)[0]
    last = struct.pack("<H", 0xFFFF)
    assert client.do_sync(STORAGE, 0x23, b"\0\0" + last + b"\0\5").data[2:] == records(client)[-1][:5]
    assert client.do_sync(STORAGE, 0x23, b"\0\0\1\0\5\5").code == 0xC5
    reservation = client.do_sync(STORAGE, 0x22).data
    assert client.do_sync(STORAGE, 0x23, reservation + b"\1\0\5\5").data[2:] == whole[5:10]
    assert client.do_sync(STORAGE, 0x23, reservation + b"\1\0\xf0\5").code == 0xC9
    assert client.do_sync(STORAGE, 0x23, b"\0\0\x63\0\0\xff").code == 0xCB


def test_readings_follow_the_machine(client):
    def read(number):
        return client.do_sync(SENSOR, 0x2D, bytes([number])).data

    assert read(0x02)[1] & 0x20
    assert read(0x30)[2] & 1
    orders(client, ON)
    assert not read(0x02)[1] & 0x20
    assert read(0x10)[0] * 60 == 5400
    assert not read(0x30)[2] & 1
    assert client.do_sync(SENSOR, 0x2D, b"\x99").code == 0xCB


def test_thresholds(client):
    assert client.do_sync(SENSOR, 0x27, b"\1").data == bytes([0x18, 0, 0, 0, 42, 46, 0])
    assert client.do_sync(SENSOR, 0x27, b"\x10").data == bytes([0x02, 0, 10, 0, 0, 0, 0])
    assert client.do_sync(SENSOR, 0x27, b"\x30").code == 0xCB
