"""The client's side of the wire with garbage on it: it never breaks, and never believes it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulated_bmcs import simulated

from perfci.lab.bmc import session as sessions
from perfci.lab.bmc.base import Power, Target
from perfci.lab.bmc.errors import BmcError, BmcUnreachable
from perfci.lab.bmc.ipmi import IpmiBmc
from perfci.lab.bmc.session import IpmiSession, open_session

HEAD = b"\x06\x00\xff\x07"
places = st.integers(0, 2**16)
garbage = st.one_of(
    st.binary(max_size=120),
    st.binary(max_size=120).map(lambda tail: HEAD + tail),
    # Every type of payload, authenticated or not, with content of any length.
    st.builds(
        lambda kind, tail: HEAD + b"\x06" + bytes([kind]) + tail, st.integers(0, 255), st.binary(max_size=120)
    ),
    # What looks like the answer to the first packet.
    st.binary(max_size=60).map(lambda tail: HEAD + bytes(10) + tail),
)


class Deaf(asyncio.DatagramTransport):
    """A network that takes everything and brings nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []

    def sendto(self, data, addr=None):
        self.sent.append(bytes(data))

    def is_closing(self):
        return False

    def close(self):
        pass


@settings(max_examples=300, deadline=None)
@given(packets=st.lists(garbage, max_size=8))
def test_garbage_before_the_login_changes_nothing(packets):
    async def scenario():
        session = IpmiSession(Target("node-1", "192.0.2.1", "perfci", "s3cret"))
        session.attach(Deaf())
        waiting = asyncio.create_task(session._wait(session.login))
        await asyncio.sleep(0)
        for packet in packets:
            session.received(packet)
        logged_in = waiting.done() and waiting.exception() is None
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        if waiting.done() and not waiting.cancelled():
            assert isinstance(waiting.exception(), BmcError)
        assert not logged_in
        await session.close()

    asyncio.run(scenario())


@asynccontextmanager
async def noisy(noise, each):
    """A BMC on a line that brings `noise` before each of its packets, or mutilates them by `each`."""
    async with simulated() as one:
        original = IpmiSession.received

        def received(session, packet):
            for extra in noise:
                original(session, extra)
            original(session, each(packet))

        IpmiSession.received = received
        try:
            yield one
        finally:
            IpmiSession.received = original


@settings(max_examples=60, deadline=None)
@given(noise=st.lists(garbage, max_size=3))
def test_garbage_beside_the_answers_is_told_apart(noise):
    # What is as an answer in every respect can't be: a refusal of this very request, say.
    noise = [packet for packet in noise if packet[4:6] not in (b"\x06\x11", b"\x06\x13", b"\x06\x15")]

    async def scenario():
        async with noisy(noise, lambda packet: packet) as one:
            async with open_session(one.target) as session:
                assert await IpmiBmc(one.target, session).power() is Power.OFF
            assert one.bmc.sessions == 0

    asyncio.run(scenario())


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    broken=st.integers(1, 12),
    # Drawn before: which packet is the broken one, and how long it is, depends on how fast the machine is.
    changes=st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=4),
    kept=places,
)
def test_a_packet_with_other_bytes_never_breaks_the_client(broken, changes, kept, monkeypatch):
    """One packet of a conversation arrives changed; it succeeds all the same, or ends with an error of ours."""
    monkeypatch.setattr(sessions, "RETRY_SECONDS", (0.02, 0.02, 0.02, 0.05))
    monkeypatch.setattr(sessions, "LOGIN_SECONDS", 1.0)
    monkeypatch.setattr(sessions, "CLOSE_SECONDS", (0.02, 0.02))
    counter = iter(range(1, 10_000))

    def spoil(packet):
        if next(counter) != broken:
            return packet
        changed = bytearray(packet)
        for place, value in changes:
            changed[place % len(changed)] = value
        return bytes(changed[: kept % (len(changed) + 1)])

    async def scenario():
        async with noisy([], spoil) as one:
            with suppress(BmcError):
                async with open_session(one.target) as session:
                    bmc = IpmiBmc(one.target, session)
                    assert await bmc.power() is Power.OFF
                    await bmc.boot()

    asyncio.run(scenario())


def test_a_stale_answer_is_not_taken_for_the_next():
    """The answer to a question that was given up comes when the same question is asked again."""

    async def scenario():
        async with simulated() as one, open_session(one.target) as session:
            kept = []
            original = session.received
            session.received = kept.append
            assert await session.say(0, 1, (), 0.1) is None
            late, session.received = kept[0], original
            await one.machine.power_on()
            asking = asyncio.create_task(IpmiBmc(one.target, session).power())
            await asyncio.sleep(0)
            session.received(late)
            assert await asking is Power.ON

    asyncio.run(scenario())


def test_a_port_where_nothing_listens_is_told_at_once(monkeypatch):
    monkeypatch.setattr(sessions, "RETRY_SECONDS", (60.0,))

    async def scenario():
        async with simulated() as one:
            target = one.target
        with pytest.raises(BmcUnreachable, match="refused"):
            async with open_session(target):
                pass

    asyncio.run(scenario())


def test_a_name_that_nobody_knows():
    async def scenario():
        with pytest.raises(BmcUnreachable, match=r"node-1: there is no BMC at bmc\.invalid"):
            async with open_session(Target("node-1", "bmc.invalid", "perfci", "s3cret")):
                pass

    asyncio.run(scenario())
