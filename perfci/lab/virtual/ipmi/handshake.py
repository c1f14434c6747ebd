"""How a session is opened: Open Session, RAKP 1 to 4 (13.17 to 13.24)."""

from __future__ import annotations

import hmac
import os
import struct
from typing import TYPE_CHECKING

from perfci.lab.virtual.ipmi.crypto import SUITES, choose
from perfci.lab.virtual.ipmi.packets import Malformed, PayloadType
from perfci.lab.virtual.ipmi.rakp import Exchange, RakpStatus
from perfci.lab.virtual.ipmi.sessions import Privilege

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perfci.lab.virtual.ipmi.faults import Faults
    from perfci.lab.virtual.ipmi.sessions import Peer, PendingSession, SessionTable

ROLE_BITS = 0x0F
RANDOM_BYTES = 16
LONGEST_NAME = 16
_OPEN_REQUEST_BYTES, _RAKP_1_BYTES, _RAKP_3_BYTES = 32, 28, 8
_ALGORITHM = struct.Struct("<BxxBBxxx")
"""Kind (0 authentication, 1 integrity, 2 confidentiality), length of the field, number of the algorithm."""
_UNKNOWN = (
    RakpStatus.INVALID_AUTHENTICATION_ALGORITHM,
    RakpStatus.INVALID_INTEGRITY_ALGORITHM,
    RakpStatus.INVALID_CONFIDENTIALITY_ALGORITHM,
)

Answer = tuple[PayloadType, bytes]
"""Type and content of a message."""


class Handshake:
    """The BMC's side of the key exchange, for all clients of one BMC. Passwords are at most 20 bytes."""

    def __init__(
        self, credentials: Mapping[str, bytes], guid: bytes, table: SessionTable, faults: Faults
    ) -> None:
        self._passwords = {name.encode(): password for name, password in credentials.items()}
        self._guid = guid
        self._table = table
        self._faults = faults

    def answer(self, payload_type: int, message: bytes, peer: Peer) -> Answer | None:
        """Answer a message of the exchange; None for one that gets no answer. Raises `Malformed`."""
        if payload_type == PayloadType.OPEN_SESSION_REQUEST:
            return PayloadType.OPEN_SESSION_RESPONSE, self._open_session(message, peer)
        if payload_type == PayloadType.RAKP_1:
            found = self._rakp_1(message)
            return (PayloadType.RAKP_2, found) if found else None
        if payload_type == PayloadType.RAKP_3:
            found = self._rakp_3(message)
            return (PayloadType.RAKP_4, found) if found else None
        raise Malformed

    def _open_session(self, message: bytes, peer: Peer) -> bytes:
        if len(message) < _OPEN_REQUEST_BYTES:
            raise Malformed
        tag, role, console_id = message[0], message[1] & ROLE_BITS, message[4:8]
        proposal = _proposal(message)
        suite = choose(proposal)
        if role > Privilege.ADMINISTRATOR:
            return _status(tag, RakpStatus.INVALID_ROLE, console_id)
        if suite is None:
            return _status(tag, _mismatch(proposal), console_id)
        if self._table.full:
            return _status(tag, RakpStatus.INSUFFICIENT_RESOURCES, console_id)
        limit = Privilege(role or Privilege.ADMINISTRATOR)
        pending = self._table.ask(console_id, peer, suite, limit, message)
        algorithms = b"".join(
            _ALGORITHM.pack(kind, _ALGORITHM.size, number) for kind, number in enumerate(suite.algorithms)
        )
        return bytes([tag, RakpStatus.OK, limit, 0]) + console_id + _id(pending) + algorithms

    def _rakp_1(self, message: bytes) -> bytes | None:
        if len(message) < _RAKP_1_BYTES or len(message) < _RAKP_1_BYTES + message[27]:
            raise Malformed
        pending = self._table.pending(int.from_bytes(message[4:8], "little"))
        if pending is None:
            return None
        if pending.exchange is None or pending.rakp_1 != message:
            begun = self._begin(pending, message)
            if isinstance(begun, RakpStatus):
                self._table.forget(pending)
                return _status(message[0], begun, pending.console_id)
            pending.rakp_1, pending.exchange = message, begun
        exchange = pending.exchange
        head = bytes([message[0], RakpStatus.OK, 0, 0]) + pending.console_id
        return head + exchange.bmc_random + self._guid + exchange.rakp_2_code()

    def _begin(self, pending: PendingSession, message: bytes) -> Exchange | RakpStatus:
        """Return what both sides know from now on, or what is against this user in this role."""
        role, name = message[24], message[28 : 28 + message[27]]
        if not 0 < role & ROLE_BITS <= Privilege.ADMINISTRATOR:
            return RakpStatus.INVALID_ROLE
        if role & ROLE_BITS > pending.limit:
            return RakpStatus.UNAUTHORIZED_ROLE
        if len(name) > LONGEST_NAME:
            return RakpStatus.INVALID_NAME_LENGTH
        password = self._passwords.get(name)
        if password is None:
            return RakpStatus.UNAUTHORIZED_NAME
        if role & ROLE_BITS > self._faults.privilege:
            return RakpStatus.UNAUTHORIZED_ROLE
        if self._faults.wrong_credentials:
            password = os.urandom(RANDOM_BYTES)
        return Exchange(
            suite=pending.suite,
            console_id=pending.console_id,
            bmc_id=_id(pending),
            console_random=message[8:24],
            bmc_random=os.urandom(RANDOM_BYTES),
            guid=self._guid,
            role=role,
            name=name,
            key=password,
        )

    def _rakp_3(self, message: bytes) -> bytes | None:
        if len(message) < _RAKP_3_BYTES:
            raise Malformed
        number = int.from_bytes(message[4:8], "little")
        session = self._table.find(number)
        if session:
            return session.rakp_4 if session.rakp_3 == message else None
        pending = self._table.pending(number)
        if pending is None or pending.exchange is None:
            return None
        refusal = self._verdict(pending.exchange, message)
        if refusal or message[1] != RakpStatus.OK:
            self._table.forget(pending)
            return None if message[1] != RakpStatus.OK else _status(message[0], refusal, pending.console_id)
        return self._let_in(pending, pending.exchange, message)

    def _verdict(self, exchange: Exchange, message: bytes) -> RakpStatus:
        if not hmac.compare_digest(message[_RAKP_3_BYTES:], exchange.rakp_3_code()):
            return RakpStatus.INVALID_INTEGRITY_CHECK
        if self._table.full:
            return RakpStatus.INSUFFICIENT_RESOURCES
        return RakpStatus.OK

    def _let_in(self, pending: PendingSession, exchange: Exchange, message: bytes) -> bytes:
        session = self._table.open(pending, exchange, Privilege(exchange.role & ROLE_BITS))
        session.rakp_3 = message
        session.rakp_4 = (
            bytes([message[0], RakpStatus.OK, 0, 0]) + pending.console_id + exchange.rakp_4_code()
        )
        return session.rakp_4


def _proposal(message: bytes) -> list[int | None]:
    """Read the three proposed algorithms; None where the choice is left to the BMC (length 0)."""
    proposal: list[int | None] = []
    for kind, offset in enumerate((8, 16, 24)):
        kind_sent, length, number = _ALGORITHM.unpack_from(message, offset)
        if kind_sent != kind:
            raise Malformed
        proposal.append(number & 0x3F if length else None)
    return proposal


def _mismatch(proposal: list[int | None]) -> RakpStatus:
    """Say what is wrong with a proposal: an algorithm that no suite has, or the combination."""
    for index, status in enumerate(_UNKNOWN):
        if proposal[index] not in {None, *(suite.algorithms[index] for suite in SUITES)}:
            return status
    return RakpStatus.NO_CIPHER_SUITE_MATCH


def _status(tag: int, status: RakpStatus, console_id: bytes) -> bytes:
    return bytes([tag, status, 0, 0]) + console_id


def _id(pending: PendingSession) -> bytes:
    return pending.id.to_bytes(4, "little")
