"""Keys, signatures, encryption."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from hypothesis import given
from hypothesis import strategies as some

from perfci.lab.virtual.ipmi.crypto import SUITES, Keys, choose, decrypt, encrypt
from perfci.lab.virtual.ipmi.packets import Header, Malformed
from perfci.lab.virtual.ipmi.rakp import Exchange

SHA256, SHA1 = SUITES


@pytest.mark.parametrize(
    ("proposal", "suite"),
    [
        ((3, 4, 1), 17),
        ((1, 1, 1), 3),
        ((None, None, None), 17),
        ((1, None, None), 3),
        ((None, 1, 1), 3),
        ((1, 4, 1), None),
        ((0, 0, 0), None),
        ((3, 4, 0), None),
    ],
)
def test_the_suite_is_chosen_by_its_algorithms(proposal, suite):
    chosen = choose(proposal)
    assert (chosen.id if chosen else None) == suite


@given(some.binary(max_size=100))
def test_what_was_encrypted_is_decrypted(plain):
    key = AES(bytes(range(16)))
    data = encrypt(key, plain)
    assert len(data) % 16 == 0
    assert 1 <= len(data) - 16 - len(plain) <= 16
    assert decrypt(key, data) == plain
    assert len(plain) < 8 or plain not in data


def test_padding_counts_from_one():
    """Table 13-20: 01h, 02h, ... and their number."""
    key = AES(bytes(16))
    assert decrypt(AES(bytes(16)), encrypt(key, bytes(range(10)))) == bytes(range(10))
    for wrong in (b"x" * 10 + b"\1\2\3\4\6\5", b"x" * 15 + b"\xff", b"x" * 14 + b"\2\1"):
        whole = encrypt(key, wrong + bytes(15))  # an own last block, to be cut off
        with pytest.raises(Malformed):
            decrypt(key, whole[:32])


@pytest.mark.parametrize("length", [0, 15, 16, 31, 33])
def test_what_is_no_row_of_blocks_is_malformed(length):
    with pytest.raises(Malformed):
        decrypt(AES(bytes(16)), bytes(length))


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: str(suite.id))
@pytest.mark.parametrize("length", range(18))
def test_a_sealed_packet_is_unsealed_by_the_same_keys_only(suite, length):
    payload = bytes(range(length))
    packet = Keys(suite, b"key").seal(0, 0x01020304, 7, payload)
    header = Header.parse(packet)
    assert (header.session_id, header.sequence) == (0x01020304, 7)
    assert (len(packet) - 4 - suite.signature_bytes) % 4 == 0
    assert Keys(suite, b"key").unseal(packet, header) == payload
    with pytest.raises(Malformed):
        Keys(suite, b"another").unseal(packet, header)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: str(suite.id))
def test_no_byte_of_a_sealed_packet_can_be_changed(suite):
    keys = Keys(suite, b"key")
    packet = keys.seal(0, 1, 1, b"chassis")
    for place in range(4, len(packet)):
        changed = bytearray(packet)
        changed[place] ^= 0x01
        with pytest.raises(Malformed):
            keys.unseal(bytes(changed), Header.parse(bytes(changed)))


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: str(suite.id))
def test_a_signature_alone_is_not_enough(suite):
    """A packet that is rightly signed but not encrypted, or has a wrong trailer, is refused."""
    k1 = hmac.digest(b"key", b"\1" * 20, suite.digest)
    for kind, trailer in ((0x40, b"\0\7"), (0xC0, b"\0\6"), (0xC0, b"\1\7"), (0xC0, b"")):
        body = bytes([6, kind, 1, 0, 0, 0, 1, 0, 0, 0, 32, 0]) + bytes(32) + trailer
        packet = bytes.fromhex("0600ff07") + body
        packet += hmac.digest(k1, body, suite.digest)[: suite.signature_bytes]
        with pytest.raises(Malformed):
            Keys(suite, b"key").unseal(packet, Header.parse(packet))


@pytest.mark.parametrize(("suite", "hash_name"), [(SHA256, "sha256"), (SHA1, "sha1")])
def test_the_codes_of_the_exchange(suite, hash_name):
    """13.20 to 13.23, 13.31: spelled out once more."""
    rm, rc, guid = (bytes([n]) * 16 for n in (0x11, 0x22, 0x33))
    exchange = Exchange(
        suite=suite,
        console_id=b"\xa4\xa3\xa2\xa0",
        bmc_id=b"\1\0\0\2",
        console_random=rm,
        bmc_random=rc,
        guid=guid,
        role=0x14,
        name=b"admin",
        key=b"secret",
    )

    def code(key, data):
        return hmac.new(key, data, getattr(hashlib, hash_name)).digest()

    who = b"\x14\x05admin"
    sik = code(b"secret", rm + rc + who)
    assert exchange.rakp_2_code() == code(b"secret", b"\xa4\xa3\xa2\xa0\1\0\0\2" + rm + rc + guid + who)
    assert exchange.rakp_3_code() == code(b"secret", rc + b"\xa4\xa3\xa2\xa0" + who)
    assert exchange.rakp_4_code() == code(sik, rm + b"\1\0\0\2" + guid)[: suite.signature_bytes]


RECORDED = Exchange(
    suite=SHA1,
    console_id=bytes.fromhex("a4a3a2a0"),
    bmc_id=bytes.fromhex("02000000"),
    console_random=bytes.fromhex("1c07696ad7128a79207bd92ab2d60afc"),
    bmc_random=bytes.fromhex("3d319db137f2507379ee556fab085054"),
    guid=bytes.fromhex("a123456789abcdefa123456789abcdef"),
    role=0x14,
    name=b"ipmiusr",
    key=b"test",
)
"""A login of ipmitool 1.8.19 to OpenIPMI's ipmi_sim 2.0.33 under suite 3; neither shares code with ours."""


def test_the_codes_of_a_recorded_exchange():
    assert RECORDED.rakp_2_code().hex() == "e64c1c5f908d2c6e83e9390f95debb774d3fe594"
    assert RECORDED.rakp_3_code().hex() == "b8f4fd53853f65c9b6348c7bf73c1ab6f9122fad"
    assert RECORDED.rakp_4_code().hex() == "7dc23f1f2d739ceca56dc5ef"


FROM_CONSOLE = (
    "0600ff0706c002000000030000002000ed49699fa8b0028ca42f188aa2e72ef4"
    "a07d9526ef6648cd81a89832b3ae0d4bffff0207a1c07b413448f739c8a50e96"
)
FROM_BMC = (
    "0600ff0706c0a4a3a2a001000000200009391f73ec278de8766cf605e4d4fac0"
    "ad0bba177e77495dce53bcb5a2e85711ffff02077719c34730b2c03ce0bd193a"
)


@pytest.mark.parametrize(("packet", "start"), [(FROM_CONSOLE, "2018c881"), (FROM_BMC, "811c6320")])
def test_recorded_packets_are_unsealed(packet, start):
    """They set the session's privilege to 4."""
    data = bytes.fromhex(packet)
    payload = RECORDED.keys().unseal(data, Header.parse(data))
    assert payload[:4].hex() == start
    assert payload[5] == 0x3B
    assert payload[-2] == 0x04
