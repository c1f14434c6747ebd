"""Cipher suites 3 and 17: which algorithms they name, and how they protect a packet (13.28, 13.29)."""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from perfci.lab.virtual.ipmi.packets import HEADER_END, RMCP, Header, Malformed

if TYPE_CHECKING:
    from collections.abc import Sequence

AES_BLOCK = 16
_SIGNED_FROM = len(RMCP) + 1
"""The signature covers the packet from its session header on."""
_NEXT_HEADER = 0x07
_CONSTANT_BYTES = 20


@dataclass(frozen=True, slots=True)
class Suite:
    """A cipher suite (table 22-20) by the numbers of its algorithms (tables 13-17 to 13-19)."""

    id: int
    authentication: int
    integrity: int
    confidentiality: int
    digest: str
    """Name of the hash in hashlib, for the keys and for the signatures."""
    signature_bytes: int

    @property
    def algorithms(self) -> tuple[int, int, int]:
        """Authentication, integrity, confidentiality."""
        return (self.authentication, self.integrity, self.confidentiality)

    def hmac(self, key: bytes, data: bytes) -> bytes:
        """Return the whole keyed hash."""
        return hmac.digest(key, data, self.digest)


SUITES = (
    Suite(17, authentication=3, integrity=4, confidentiality=1, digest="sha256", signature_bytes=16),
    Suite(3, authentication=1, integrity=1, confidentiality=1, digest="sha1", signature_bytes=12),
)
"""RAKP-HMAC-SHA256 with HMAC-SHA256-128, and RAKP-HMAC-SHA1 with HMAC-SHA1-96; both with AES-CBC-128.
The better one first: it is taken where a client leaves the choice."""


def choose(proposal: Sequence[int | None]) -> Suite | None:
    """Return the best suite with these algorithms; None in the proposal stands for any."""
    for suite in SUITES:
        if all(asked in {None, own} for asked, own in zip(proposal, suite.algorithms, strict=True)):
            return suite
    return None


class Keys:
    """The keys of a session; they are made from its session integrity key (13.32)."""

    __slots__ = ("_aes", "_k1", "_suite")

    def __init__(self, suite: Suite, session_integrity_key: bytes) -> None:
        self._suite = suite
        self._k1 = suite.hmac(session_integrity_key, b"\x01" * _CONSTANT_BYTES)
        self._aes = AES(suite.hmac(session_integrity_key, b"\x02" * _CONSTANT_BYTES)[:AES_BLOCK])

    def seal(self, payload_type: int, session_id: int, sequence: int, payload: bytes) -> bytes:
        """Return an encrypted and signed packet."""
        body = encrypt(self._aes, payload)
        header = Header(
            payload_type,
            encrypted=True,
            authenticated=True,
            session_id=session_id,
            sequence=sequence,
            length=len(body),
        )
        packet = header.pack() + body
        filling = -(len(packet) - _SIGNED_FROM + 2) % 4
        packet += b"\xff" * filling + bytes([filling, _NEXT_HEADER])
        return packet + self._sign(packet)

    def unseal(self, packet: bytes, header: Header) -> bytes:
        """Return the payload of a packet. Raises `Malformed` unless it is encrypted and rightly signed."""
        signed = packet[: -self._suite.signature_bytes]
        if not (header.encrypted and header.authenticated):
            raise Malformed
        if not hmac.compare_digest(packet[len(signed) :], self._sign(signed)):
            raise Malformed
        end = HEADER_END + header.length
        trailer = signed[end:]
        if len(trailer) < 2 or trailer[-1] != _NEXT_HEADER or trailer[-2] != len(trailer) - 2:  # noqa: PLR2004
            raise Malformed
        return decrypt(self._aes, packet[HEADER_END:end])

    def _sign(self, packet: bytes) -> bytes:
        return self._suite.hmac(self._k1, packet[_SIGNED_FROM:])[: self._suite.signature_bytes]


def encrypt(key: AES, plain: bytes) -> bytes:
    """Encrypt with AES-CBC-128, under a fresh initialisation vector that stands before it (13.29)."""
    filling = -(len(plain) + 1) % AES_BLOCK
    padded = plain + bytes(range(1, filling + 1)) + bytes([filling])
    vector = os.urandom(AES_BLOCK)
    cipher = Cipher(key, CBC(vector)).encryptor()
    return vector + cipher.update(padded) + cipher.finalize()


def decrypt(key: AES, data: bytes) -> bytes:
    """Undo `encrypt`. Raises `Malformed` for wrong lengths and wrong padding."""
    if len(data) < 2 * AES_BLOCK or len(data) % AES_BLOCK:
        raise Malformed
    cipher = Cipher(key, CBC(data[:AES_BLOCK])).decryptor()
    padded = cipher.update(data[AES_BLOCK:]) + cipher.finalize()
    filling = padded[-1]
    end = len(padded) - 1 - filling
    if end < 0 or padded[end:-1] != bytes(range(1, filling + 1)):
        raise Malformed
    return padded[:end]
