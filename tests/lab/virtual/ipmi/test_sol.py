"""Serial over LAN."""

from __future__ import annotations

import asyncio
import struct

import pytest
from lab.virtual.ipmi.client import Client, Lab, Unanswered, until

from perfci.lab.virtual.ipmi import sol

APP, TRANSPORT = 0x06, 0x0C
ACTIVATE, DEACTIVATE, STATUS, INSTANCE = 0x48, 0x49, 0x4A, 0x4B
SOL = bytes([1, 1, 0xC0, 0, 0, 0])


class Serial:
    """A serial line whose machine is the test."""

    def __init__(self):
        self.receive, self.keys = None, b""

    def attach(self, receive):
        self.receive = receive

    def detach(self):
        self.receive = None

    def write(self, data):
        self.keys += data


@pytest.fixture
def serial():
    return Serial()


@pytest.fixture
def lab(serial):
    return Lab(console=serial)


def run(test):
    """Run a test within an event loop, which the timers need."""

    async def main():
        test()

    asyncio.run(main())


def activated(lab, **options):
    client = Client(lab, **options).open()
    assert client.do_sync(APP, ACTIVATE, SOL).code == 0
    lab.sent.clear()
    return client


def heard(client):
    """Return the SOL payloads that the BMC has sent since, by sequence, acknowledge, count, state and text."""
    found = []
    for packet, _ in client.lab.sent:
        kind, payload = client.unseal(packet)
        assert kind == 1
        found.append((*payload[:4], payload[4:]))
    client.lab.sent.clear()
    return found


def say(client, sequence, acknowledge, count, *, operation=0, text=b""):
    client.lab.put(client.seal(1, bytes([sequence, acknowledge, count, operation]) + text), client.peer)
    return heard(client)


def test_activation(lab, serial):
    client = Client(lab).open()
    lab.bmc._bmc.port = 40001
    answer = client.do_sync(APP, ACTIVATE, SOL)
    assert answer.data == bytes(4) + struct.pack("<HHHH", 204, 204, 40001, 0xFFFF)
    assert serial.receive
    assert client.do_sync(APP, STATUS, b"\1").data == bytes([1, 1, 0])
    assert client.do_sync(APP, INSTANCE, b"\1\1").data == client.bmc_id + bytes(8)
    assert client.do_sync(APP, DEACTIVATE, SOL).code == 0
    assert serial.receive is None
    assert client.do_sync(APP, DEACTIVATE, SOL).code == 0x80
    assert client.do_sync(APP, STATUS, b"\1").data == bytes([1, 0, 0])
    assert client.do_sync(APP, INSTANCE, b"\1\1").data == bytes(12)


def test_a_machine_without_a_console():
    client = Client(Lab()).open()
    assert client.do_sync(APP, ACTIVATE, SOL).code == 0x81
    assert client.do_sync(TRANSPORT, 0x22, bytes([0x0E, 1, 0, 0])).data == b"\x11\0"
    with pytest.raises(Unanswered):
        client.answer(client.lab.put(client.seal(1, bytes(4))), 0, 0)


@pytest.mark.parametrize(
    ("data", "code"), [(b"\1\1\x40", 0x84), (b"\1\2\xc0", 0xCC), (b"\0\1\xc0", 0xCC), (b"\2\1\xc0", 0xCC)]
)
def test_what_can_not_be_activated(lab, data, code):
    assert Client(lab).open().do_sync(APP, ACTIVATE, data + bytes(3)).code == code


def test_one_client_at_a_time(lab):
    first = activated(lab)
    second = Client(lab, peer=("192.0.2.1", 2)).open()
    assert second.do_sync(APP, ACTIVATE, SOL).code == 0x80
    assert second.do_sync(APP, DEACTIVATE, SOL).code == 0
    assert second.do_sync(APP, ACTIVATE, SOL).code == 0
    assert first.do_sync(APP, INSTANCE, b"\1\1").data[:4] == second.bmc_id


@pytest.mark.parametrize("end", ["close", "time", "reset"])
def test_the_end_of_the_session_frees_the_console(lab, serial, end):
    client = activated(lab)
    if end == "close":
        client.close()
    elif end == "reset":
        client.do_sync(APP, 0x03)
        lab.clock.now += 2
    else:
        lab.clock.now += 61
    other = Client(lab, peer=("192.0.2.1", 2)).open()
    assert other.do_sync(APP, ACTIVATE, SOL).code == 0
    assert serial.receive


def test_keys_reach_the_machine_once(lab, serial):
    client = activated(lab)
    assert say(client, 1, 0, 0, text=b"ls") == [(0, 1, 2, 0, b"")]
    assert say(client, 1, 0, 0, text=b"ls") == [(0, 1, 2, 0, b"")]
    assert say(client, 2, 0, 0, text=b"\r") == [(0, 2, 1, 0, b"")]
    assert serial.keys == b"ls\r"


def test_output_waits_for_the_acknowledge(lab, serial):
    def test():
        client = activated(lab)
        serial.receive(b"Debian")
        serial.receive(b" login: ")
        assert heard(client) == [(1, 0, 0, 0, b"Debian")]
        assert say(client, 0, 1, 6) == [(2, 0, 0, 0, b" login: ")]
        assert say(client, 0, 1, 6) == []
        assert say(client, 0, 2, 8) == []
        serial.receive(b"x" * 450)
        assert [len(text) for *_, text in heard(client)] == [200]
        assert [len(text) for *_, text in say(client, 0, 3, 200) + say(client, 0, 4, 200)] == [200, 50]
        lab.bmc._bmc.sol.deactivate()

    run(test)


def test_sequence_numbers_go_round(lab, serial):
    def test():
        client = activated(lab)
        numbers = []
        for _ in range(17):
            serial.receive(b"x")
            ((number, *_),) = heard(client)
            say(client, 0, number, 1)
            numbers.append(number)
        assert numbers == [*range(1, 16), 1, 2]

    run(test)


def test_what_was_not_accepted_is_sent_again(lab, serial):
    def test():
        client = activated(lab)
        serial.receive(b"abcdef")
        heard(client)
        assert say(client, 0, 1, 4) == [(2, 0, 0, 0, b"ef")]
        lab.bmc._bmc.sol.deactivate()

    run(test)


def test_a_refused_packet_is_sent_again_later(lab, serial, monkeypatch):
    monkeypatch.setattr(sol, "RETRY_SECONDS", 0.01)

    async def main():
        client = activated(lab)
        serial.receive(b"abc")
        heard(client)
        assert say(client, 0, 1, 0, operation=0x40) == []
        await until(lambda: lab.sent)
        assert heard(client)[0] == (2, 0, 0, 0, b"abc")
        lab.bmc._bmc.sol.deactivate()

    asyncio.run(main())


def test_without_an_acknowledge_the_payload_ends(lab, serial, monkeypatch):
    monkeypatch.setattr(sol, "RETRY_SECONDS", 0.001)

    async def main():
        client = activated(lab)
        serial.receive(b"abc")
        await until(lambda: serial.receive is None)
        assert heard(client) == [(1, 0, 0, 0, b"abc")] * 8
        assert client.do_sync(APP, STATUS, b"\1").data == bytes([1, 0, 0])

    asyncio.run(main())


def test_output_after_the_end_is_dropped(lab, serial):
    client = activated(lab)
    receive = serial.receive
    client.do_sync(APP, DEACTIVATE, SOL)
    lab.sent.clear()
    receive(b"late")
    assert lab.sent == []


def test_the_end_stops_the_repetitions(lab, serial, monkeypatch):
    monkeypatch.setattr(sol, "RETRY_SECONDS", 0.001)

    async def main():
        client = activated(lab)
        serial.receive(b"abc")
        client.do_sync(APP, DEACTIVATE, SOL)
        lab.sent.clear()
        await asyncio.sleep(0.02)
        assert lab.sent == []

    asyncio.run(main())


def test_a_flood_of_output_is_bounded(lab, serial):
    def test():
        activated(lab)
        for _ in range(100):
            serial.receive(b"y" * 4096)
        line = lab.bmc._bmc.sol._line
        assert len(line.backlog) == 65536
        lab.bmc._bmc.sol.deactivate()

    run(test)


@pytest.mark.parametrize("payload", [b"", b"\1\0\0"])
def test_short_packets_are_ignored(lab, payload):
    client = activated(lab)
    assert lab.put(client.seal(1, payload)) == []


def test_configuration(lab):
    client = Client(lab).open()
    lab.bmc._bmc.port = 623

    def parameter(number):
        return client.do_sync(TRANSPORT, 0x22, bytes([0x0E, number, 0, 0]))

    assert [parameter(number).data[1:].hex() for number in range(9)] == [
        "00", "01", "c2", "01c8", "0732", "0a", "0a", "01", "6f02",
    ]  # fmt: skip
    assert parameter(9).code == 0x80
    assert client.do_sync(TRANSPORT, 0x22, bytes([0x8E, 1, 0, 0])).data == b"\x11"


def test_payloads_of_the_channel(lab):
    client = Client(lab).open()
    assert client.do_sync(APP, 0x4E, b"\x0e").data == bytes([3, 0, 0x3F, 0, 0, 0, 0, 0])
    assert client.do_sync(APP, 0x4F, b"\x0e\1").data == b"\x10"
    assert client.do_sync(APP, 0x4F, b"\x0e\2").code == 0x80
