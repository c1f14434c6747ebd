"""The BMC on a real port."""

from __future__ import annotations

import asyncio
import socket

import pytest
from lab.virtual.ipmi.client import Lab

from perfci.lab.virtual.ipmi.call import Call
from perfci.lab.virtual.ipmi.completion import CommandRefused

PING = bytes.fromhex("0600ff06 000011be 80 07 00 00")


def test_it_answers_until_it_is_closed():
    async def main():
        lab = Lab()
        lab.bmc._transport = None
        with pytest.raises(RuntimeError, match="n1 does not listen"):
            _ = lab.bmc.address
        await lab.bmc.listen("127.0.0.1", 0)
        assert lab.bmc._bmc.port == lab.bmc.address[1]
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
            ours.settimeout(0)
            ours.connect(lab.bmc.address)
            await loop.sock_sendall(ours, PING)
            assert (await loop.sock_recv(ours, 100))[8:10] == b"\x40\x07"
            await lab.bmc.close()
            await asyncio.sleep(0)
            await loop.sock_sendall(ours, PING)
            with pytest.raises(ConnectionRefusedError):
                await loop.sock_recv(ours, 100)

    asyncio.run(main())


def test_a_port_that_is_taken():
    async def main():
        first, second = Lab(), Lab()
        await first.bmc.listen("127.0.0.1", 0)
        with pytest.raises(OSError, match="in use"):
            await second.bmc.listen(*first.bmc.address)
        await first.bmc.close()

    asyncio.run(main())


def test_each_bmc_has_an_address_of_its_own():
    async def main():
        first, second = Lab(name="n1"), Lab(name="n2")
        await first.bmc.listen("127.0.0.1", 0)
        port = first.bmc.address[1]
        await second.bmc.listen("127.77.0.2", port)
        assert second.bmc.address == ("127.77.0.2", port)
        await first.bmc.close()
        await second.bmc.close()

    asyncio.run(main())


@pytest.mark.parametrize("kind", [0x00, 0x08, 0x1F])
def test_another_class_of_message_gets_no_answer(kind):
    assert Lab().put(bytes([6, 0, 0xFF, kind]) + PING[4:]) == []


def test_a_call_without_a_session_has_no_owner():
    with pytest.raises(CommandRefused) as refused:
        _ = Call(Lab().bmc._bmc, None, b"").owner
    assert refused.value.code == 0xD4
