"""RMCP, ASF and IPMI packets as bytes (section 13)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

RMCP = b"\x06\x00\xff"
"""Version 1.0, reserved, and the sequence number that asks for no acknowledge; the class follows."""
CLASS_ASF, CLASS_IPMI = 0x06, 0x07
AUTHENTICATION_NONE, FORMAT_RMCP_PLUS = 0x00, 0x06
"""First byte of a session header: IPMI 1.5 without authentication, and RMCP+."""
ENCRYPTED, AUTHENTICATED = 0x80, 0x40
"""Bits of the payload type."""

ASF_IANA = b"\x00\x00\x11\xbe"
PRESENCE_PING, PRESENCE_PONG = 0x80, 0x40
_PONG_DATA = ASF_IANA + bytes(4) + b"\x81" + bytes(7)
"""Enterprise number, none of its own data, "IPMI supported, ASF 1.0", no interactions (13.2.4)."""

BMC_ADDRESS = 0x20
_HEADER = struct.Struct("<BBIIH")
HEADER_END = len(RMCP) + 1 + _HEADER.size
"""Where the payload of an RMCP+ packet begins."""
_OLD_HEADER = struct.Struct("<BIIB")
_OLD_HEADER_END = len(RMCP) + 1 + _OLD_HEADER.size
_SHORTEST_REQUEST = 7


class Malformed(Exception):
    """A packet that can't be read, or that must not be believed: it gets no answer."""


class PayloadType(IntEnum):
    """What an RMCP+ packet carries (table 13-16)."""

    IPMI = 0x00
    SOL = 0x01
    OPEN_SESSION_REQUEST = 0x10
    OPEN_SESSION_RESPONSE = 0x11
    RAKP_1 = 0x12
    RAKP_2 = 0x13
    RAKP_3 = 0x14
    RAKP_4 = 0x15


@dataclass(frozen=True, slots=True)
class Header:
    """The session header of an RMCP+ packet (table 13-8)."""

    payload_type: int
    """Without the two bits above it."""
    encrypted: bool
    authenticated: bool
    session_id: int
    sequence: int
    length: int
    """Of the payload, as it is sent."""

    @classmethod
    def parse(cls, packet: bytes) -> Header:
        """Read the header of a packet of class IPMI. Raises `Malformed`."""
        if len(packet) < HEADER_END:
            raise Malformed
        form, kind, session_id, sequence, length = _HEADER.unpack_from(packet, len(RMCP) + 1)
        if form != FORMAT_RMCP_PLUS or HEADER_END + length > len(packet):
            raise Malformed
        return cls(
            payload_type=kind & 0x3F,
            encrypted=bool(kind & ENCRYPTED),
            authenticated=bool(kind & AUTHENTICATED),
            session_id=session_id,
            sequence=sequence,
            length=length,
        )

    def pack(self) -> bytes:
        """Return the packet up to its payload."""
        kind = self.payload_type | ENCRYPTED * self.encrypted | AUTHENTICATED * self.authenticated
        fields = _HEADER.pack(FORMAT_RMCP_PLUS, kind, self.session_id, self.sequence, self.length)
        return RMCP + bytes([CLASS_IPMI]) + fields


def message_class(packet: bytes) -> int:
    """Return the RMCP class of a packet that is not an acknowledge. Raises `Malformed`."""
    if len(packet) < len(RMCP) + 2 or packet[0] != RMCP[0] or packet[3] & 0x80:
        raise Malformed
    return packet[3] & 0x1F


def bare(payload_type: PayloadType, payload: bytes) -> bytes:
    """Return an RMCP+ packet outside of any session."""
    header = Header(
        payload_type, encrypted=False, authenticated=False, session_id=0, sequence=0, length=len(payload)
    )
    return header.pack() + payload


def payload_of(packet: bytes, header: Header) -> bytes:
    """Return the payload of a packet outside of any session. Raises `Malformed` if it is protected."""
    if header.encrypted or header.authenticated or header.session_id:
        raise Malformed
    return packet[HEADER_END : HEADER_END + header.length]


def old_payload(packet: bytes) -> bytes:
    """Return the payload of an IPMI 1.5 packet outside of any session (13.6). Raises `Malformed`."""
    if len(packet) < _OLD_HEADER_END:
        raise Malformed
    form, _sequence, session_id, length = _OLD_HEADER.unpack_from(packet, len(RMCP) + 1)
    if form != AUTHENTICATION_NONE or session_id or _OLD_HEADER_END + length > len(packet):
        raise Malformed
    return packet[_OLD_HEADER_END : _OLD_HEADER_END + length]


def old(payload: bytes) -> bytes:
    """Return an IPMI 1.5 packet outside of any session."""
    return RMCP + bytes([CLASS_IPMI]) + _OLD_HEADER.pack(AUTHENTICATION_NONE, 0, 0, len(payload)) + payload


def pong(packet: bytes) -> bytes:
    """Answer an ASF presence ping (13.2.3, 13.2.4). Raises `Malformed` for everything else."""
    body = packet[4:]
    if len(body) < 8 or body[:4] != ASF_IANA or body[4] != PRESENCE_PING:  # noqa: PLR2004 - a ping has no data
        raise Malformed
    head = bytes([PRESENCE_PONG, body[5], 0, len(_PONG_DATA)])
    return RMCP + bytes([CLASS_ASF]) + ASF_IANA + head + _PONG_DATA


def checksum(data: bytes) -> int:
    """Return the byte that makes the sum a multiple of 256 (13.8)."""
    return -sum(data) & 0xFF


@dataclass(frozen=True, slots=True)
class Request:
    """A command for the BMC (13.8)."""

    net_function: int
    command: int
    data: bytes
    requester: int
    """Its address or software id."""
    sequence: int
    """rqSeq, with the requester's LUN in the lowest two bits."""
    lun: int

    @classmethod
    def parse(cls, message: bytes) -> Request:
        """Read a message. Raises `Malformed` for a wrong checksum, a response, another's address."""
        if len(message) < _SHORTEST_REQUEST or checksum(message[:3]) or checksum(message[3:]):
            raise Malformed
        address, function, _, requester, sequence, command = message[:6]
        if address != BMC_ADDRESS or function & 0x04:
            raise Malformed
        return cls(function >> 2, command, message[6:-1], requester, sequence, function & 3)

    def answer(self, code: int, data: bytes = b"") -> bytes:
        """Return the response with a completion code."""
        head = bytes([self.requester, (self.net_function + 1) << 2 | self.sequence & 3])
        body = bytes([BMC_ADDRESS, self.sequence & 0xFC | self.lun, self.command, code]) + data
        return head + bytes([checksum(head)]) + body + bytes([checksum(body)])
