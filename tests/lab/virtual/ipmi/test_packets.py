"""Packets as bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from perfci.lab.virtual.ipmi import packets
from perfci.lab.virtual.ipmi.packets import Header, Malformed, PayloadType, Request

RECORDED = bytes.fromhex("2018c88108388e03ae")
"""Get Channel Authentication Capabilities, as FreeIPMI sends it."""


def test_a_recorded_request_is_read():
    assert Request.parse(RECORDED) == Request(0x06, 0x38, b"\x8e\x03", 0x81, 0x08, 0)


def test_a_recorded_response_is_written():
    """FreeIPMI's trace of an answer with rqSeq 13h gives 63h and C6h for the checksums of these bytes."""
    request = Request(0x06, 0x38, b"", 0x81, 0x13 << 2, 0)
    answer = request.answer(0x00, bytes.fromhex("0204"))
    assert answer[:3] == bytes.fromhex("811c63")
    assert answer[3:-1] == bytes.fromhex("204c38000204")
    assert sum(answer[3:]) & 0xFF == 0


def test_the_response_keeps_both_luns():
    request = Request.parse(with_sums(bytes([0x20, 0x06 << 2 | 2]), bytes([0x81, 5 << 2 | 1, 0x01])))
    answer = request.answer(0xC1)
    assert answer[1] == 0x07 << 2 | 1
    assert answer[4] == 5 << 2 | 2


def with_sums(head, body):
    return head + bytes([packets.checksum(head)]) + body + bytes([packets.checksum(body)])


@pytest.mark.parametrize(
    "message",
    [
        b"",
        RECORDED[:6],
        RECORDED[:2] + b"\0" + RECORDED[3:],
        RECORDED[:-1] + b"\0",
        with_sums(b"\x22\x18", RECORDED[3:-1]),
        with_sums(b"\x20\x1c", RECORDED[3:-1]),
    ],
    ids=["empty", "short", "checksum 1", "checksum 2", "another's", "a response"],
)
def test_a_wrong_request_is_malformed(message):
    with pytest.raises(Malformed):
        Request.parse(message)


@given(
    some.integers(0, 0x3F),
    some.tuples(some.booleans(), some.booleans()),
    some.integers(0, 2**32 - 1),
    some.integers(0, 2**32 - 1),
    some.binary(max_size=80),
)
def test_a_header_comes_back(kind, bits, session_id, sequence, payload):
    header = Header(kind, *bits, session_id, sequence, len(payload))
    packet = header.pack() + payload
    assert packets.message_class(packet) == packets.CLASS_IPMI
    assert Header.parse(packet) == header
    with pytest.raises(Malformed):
        Header.parse(packet[:-1])


def test_a_bare_packet_comes_back():
    packet = packets.bare(PayloadType.RAKP_2, b"abc")
    assert packets.payload_of(packet, Header.parse(packet)) == b"abc"


@pytest.mark.parametrize(
    ("offset", "value"), [(5, 0x92), (5, 0x52), (6, 1)], ids=["encrypted", "signed", "id"]
)
def test_a_protected_packet_is_not_bare(offset, value):
    packet = bytearray(packets.bare(PayloadType.RAKP_1, b"abc"))
    packet[offset] = value
    with pytest.raises(Malformed):
        packets.payload_of(bytes(packet), Header.parse(bytes(packet)))


def test_an_old_packet_comes_back():
    packet = packets.old(RECORDED)
    assert packet == bytes.fromhex("0600ff07 00 00000000 00000000 09") + RECORDED
    assert packets.old_payload(packet + b"\0") == RECORDED  # with the filling that old network cards need
    for wrong in (
        packet[:-1],
        packet[:12],
        packet[:9] + b"\1" + packet[10:],
        packet[:4] + b"\2" + packet[5:],
    ):
        with pytest.raises(Malformed):
            packets.old_payload(wrong)


def test_ping_and_pong():
    ping = bytes.fromhex("0600ff06 000011be 80 2a 00 00")
    assert packets.pong(ping) == bytes.fromhex(
        "0600ff06 000011be 40 2a 00 10 000011be 00000000 81 00 000000000000"
    )


@pytest.mark.parametrize(
    "packet", ["0600ff06 000011be 40 2a 00 00", "0600ff06 000011bf 80 2a 00 00", "0600ff06 000011be 80"]
)
def test_what_is_no_ping_gets_no_pong(packet):
    with pytest.raises(Malformed):
        packets.pong(bytes.fromhex(packet))


@pytest.mark.parametrize("packet", ["", "0600ff07", "0500ff0700", "0600ff8700"])
def test_what_is_no_rmcp_message_is_malformed(packet):
    with pytest.raises(Malformed):
        packets.message_class(bytes.fromhex(packet))
