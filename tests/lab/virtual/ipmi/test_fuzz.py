"""Whatever comes over the network: nothing is raised, nothing changes, nothing grows."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as some
from lab.virtual.ipmi.client import RMCP, Client, Lab, bare_packet, message, old_packet

from perfci.lab.virtual.ipmi import SessionLimits
from perfci.lab.virtual.ipmi.commands import COMMANDS
from perfci.lab.virtual.ipmi.sessions import HALF_OPEN

EXAMPLES = settings(max_examples=200, deadline=None)
LIMITS = SessionLimits(sessions=4, cycle_seconds=0)


def state(lab):
    """Return all that no stranger may change."""
    return (
        lab.machine.is_on,
        lab.machine.booted,
        lab.boot.get(5),
        lab.faults.as_dict(),
        lab.bmc.sessions,
        len(lab.bmc._bmc.events),
        lab.bmc._bmc.identify_seconds,
        lab.bmc._bmc.silent,
    )


def unchanged(packets):
    """Give a BMC with one open session these packets; it must go on as if nothing was."""
    lab = Lab(limits=LIMITS)
    client = Client(lab).open()
    before = state(lab)
    for packet in packets:
        assert len(lab.put(packet, ("198.51.100.1", 9))) <= 1
    assert state(lab) == before
    assert not lab.bmc._orders
    assert len(lab.bmc._bmc.sessions._pending) <= HALF_OPEN
    assert client.do_sync(0x06, 0x01).code == 0


@EXAMPLES
@given(some.lists(some.binary(max_size=200), max_size=5))
def test_noise(packets):
    unchanged(packets)


@EXAMPLES
@given(some.lists(some.binary(max_size=100), max_size=5))
def test_noise_behind_a_header(packets):
    unchanged([RMCP + packet for packet in packets])


@EXAMPLES
@given(some.lists(some.tuples(some.integers(0, 255), some.binary(max_size=80)), max_size=5))
def test_noise_in_the_handshake(found):
    unchanged([bare_packet(kind, payload) for kind, payload in found])


@EXAMPLES
@given(
    some.booleans(),
    some.sampled_from(sorted(COMMANDS)) | some.tuples(some.integers(0, 63), some.integers(0, 255)),
    some.binary(max_size=20),
)
def test_commands_without_a_session(old, key, data):
    payload = message(key[0], key[1], data)
    unchanged([old_packet(payload) if old else bare_packet(0, payload)])


@EXAMPLES
@given(some.data())
def test_changed_packets_of_a_session(data):
    """No bit of a rightly signed packet can be changed."""
    lab = Lab(limits=LIMITS)
    client = Client(lab, suite=data.draw(some.sampled_from([3, 17]))).open()
    before = state(lab)
    packet = bytearray(client.seal(0, client.request(0x00, 0x02, b"\1")))
    for place in data.draw(
        some.lists(some.integers(4, len(packet) - 1), min_size=1, max_size=3, unique=True)
    ):
        packet[place] ^= data.draw(some.integers(1, 255))
    cut = data.draw(some.integers(0, len(packet)))
    for changed in (packet, packet[:cut], packet + packet[:cut]):
        lab.put(bytes(changed))
        assert state(lab) == before
    assert not lab.bmc._orders


@EXAMPLES
@given(some.lists(some.tuples(some.integers(0, 0x1F), some.binary(max_size=60)), max_size=5))
def test_noise_inside_a_session(found):
    """Somebody with the password may change much, but not end the BMC."""
    lab = Lab(limits=LIMITS)
    client = Client(lab).open()

    async def give():
        for kind, payload in found:
            await lab.exchange(client.seal(kind, payload))

    asyncio.run(give())
    assert client.do_sync(0x06, 0x01).code == 0


@EXAMPLES
@given(
    some.lists(
        some.tuples(
            some.sampled_from(sorted(set(COMMANDS) - {(6, 2), (6, 3), (6, 0x3C), (6, 0x3B)})),
            some.binary(max_size=20),
        ),
        max_size=8,
    )
)
def test_any_data_of_any_command(found):
    lab = Lab(limits=LIMITS)
    client = Client(lab).open()

    async def give():
        for key, data in found:
            answer = await client.do(*key, data[: COMMANDS[key].longest])
            assert answer.code <= 0xD5

    asyncio.run(give())
    assert lab.bmc.sessions == 1


@EXAMPLES
@given(some.data())
def test_a_handshake_that_goes_wrong_anywhere_leaves_no_session(data):
    lab = Lab(limits=LIMITS)
    client = Client(lab, suite=data.draw(some.sampled_from([3, 17])))
    client.rakp_1()
    rakp_3 = bytearray(client.rakp_3_message)
    place = data.draw(some.integers(1, len(rakp_3) - 1).filter(lambda place: place not in {2, 3}))
    rakp_3[place] ^= data.draw(some.integers(1, 255))
    lab.put(bare_packet(0x14, bytes(rakp_3)))
    assert lab.bmc.sessions == 0


def test_a_flood_of_half_open_sessions_locks_nobody_out():
    lab = Lab(limits=LIMITS)
    for number in range(1000):
        Client(lab, peer=("198.51.100.1", number)).rakp_1()
    assert len(lab.bmc._bmc.sessions._pending) == HALF_OPEN
    Client(lab).open().close()
    assert lab.bmc.sessions == 0


def test_sessions_never_leak():
    """A thousand logins, half of them left without a goodbye, by clients that come again."""
    lab = Lab(limits=LIMITS)
    for number in range(1000):
        client = Client(lab, peer=("198.51.100.1", number % 3)).open()
        if number % 2:
            client.close()
        else:
            lab.clock.now += 61
    assert lab.bmc.sessions == 0
    assert lab.bmc._bmc.sessions._open == {}
