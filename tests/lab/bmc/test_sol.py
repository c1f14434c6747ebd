"""Serial over LAN: a console on a simulated BMC, on good lines and bad ones."""

from __future__ import annotations

import asyncio

import pytest
from simulated_bmcs import simulated

from perfci.lab.bmc import sol
from perfci.lab.bmc.errors import BmcRefused
from perfci.lab.bmc.ipmi import connect


class Echo:
    """A machine that prints whatever is typed, in capitals."""

    def __init__(self):
        self.receive = None
        self.typed = bytearray()

    def attach(self, receive):
        self.receive = receive

    def detach(self):
        self.receive = None

    def write(self, data):
        self.typed += data
        if self.receive:
            asyncio.get_running_loop().call_soon(self.receive, data.upper())


async def read(console, count):
    found = b""
    while len(found) < count:
        part = await console.read()
        assert part, "the console ended too early"
        found += part
    return found


@pytest.mark.parametrize("text", [b"x", b"\x00\xff~.\r\n", bytes(range(256)) * 8])
def test_what_is_typed_arrives_and_what_is_printed_comes_back(text):
    async def scenario():
        echo = Echo()
        async with simulated(console=echo) as one:
            async with connect(one.target) as bmc, bmc.console() as console:
                await console.write(text)
                assert await read(console, len(text)) == text.upper()
            assert bytes(echo.typed) == text
            assert one.bmc.sessions == 0

    asyncio.run(scenario())


@pytest.mark.slow
def test_lost_packets_lose_and_double_nothing(monkeypatch):
    monkeypatch.setattr(sol, "ACKNOWLEDGE_SECONDS", (0.1,) * 20)
    text = bytes(range(32, 127)) * 10

    async def scenario():
        echo = Echo()
        async with simulated(console=echo) as one, connect(one.target) as bmc, bmc.console() as console:
            one.bmc.faults.drop = 0.15
            reading = asyncio.create_task(read(console, len(text)))
            await console.write(text)
            assert await reading == text.upper()
            assert bytes(echo.typed) == text
            one.bmc.faults.drop = 0.0

    asyncio.run(scenario())


def test_one_at_a_time_unless_taken_over():
    async def scenario():
        async with (
            simulated(console=Echo()) as one,
            connect(one.target) as first,
            first.console(),
            connect(one.target) as second,
        ):
            with pytest.raises(BmcRefused, match="open the console"):
                await second.console().__aenter__()
            async with second.console(take_over=True) as console:
                await console.write(b"mine")
                assert await read(console, 4) == b"MINE"

    asyncio.run(scenario())


def test_a_machine_without_a_serial_port():
    async def scenario():
        async with simulated() as one, connect(one.target) as bmc:
            with pytest.raises(BmcRefused):
                await bmc.console().__aenter__()

    asyncio.run(scenario())


def test_a_console_ends_when_the_bmc_falls_silent(monkeypatch):
    monkeypatch.setattr(sol, "KEEPALIVE_SECONDS", 0.05)

    async def scenario():
        async with (
            simulated(console=Echo()) as one,
            connect(one.target) as bmc,
            bmc.console() as console,
        ):
            one.bmc.faults.hang = True
            assert await console.read() == b""
            assert await console.read() == b""

    asyncio.run(scenario())
