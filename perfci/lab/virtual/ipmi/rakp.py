"""The key exchange of RMCP+ (13.20 to 13.24, 13.31, 13.32): the values that both sides compute."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from perfci.lab.virtual.ipmi.crypto import Keys

if TYPE_CHECKING:
    from perfci.lab.virtual.ipmi.crypto import Suite


class RakpStatus(IntEnum):
    """RMCP+ and RAKP message status codes (table 13-15)."""

    OK = 0x00
    INSUFFICIENT_RESOURCES = 0x01
    INVALID_SESSION_ID = 0x02
    INVALID_AUTHENTICATION_ALGORITHM = 0x04
    INVALID_INTEGRITY_ALGORITHM = 0x05
    INVALID_ROLE = 0x09
    UNAUTHORIZED_ROLE = 0x0A
    INVALID_NAME_LENGTH = 0x0C
    UNAUTHORIZED_NAME = 0x0D
    INVALID_INTEGRITY_CHECK = 0x0F
    INVALID_CONFIDENTIALITY_ALGORITHM = 0x10
    NO_CIPHER_SUITE_MATCH = 0x11


@dataclass(frozen=True, slots=True)
class Exchange:
    """Everything that both sides know after RAKP 1 and 2. Ids are 4 bytes, random numbers and GUID 16."""

    suite: Suite
    console_id: bytes
    bmc_id: bytes
    console_random: bytes
    bmc_random: bytes
    guid: bytes
    role: int
    """The byte as it was sent, with the bit that asks for a look-up by name only."""
    name: bytes
    key: bytes
    """The user's password, K_UID; there is no K_G, so it is used in its place."""

    @property
    def _who(self) -> bytes:
        return bytes([self.role, len(self.name)]) + self.name

    def rakp_2_code(self) -> bytes:
        """The BMC's proof that it knows the password."""
        ids = self.console_id + self.bmc_id
        return self.suite.hmac(self.key, ids + self.console_random + self.bmc_random + self.guid + self._who)

    def rakp_3_code(self) -> bytes:
        """The console's proof that it knows the password."""
        return self.suite.hmac(self.key, self.bmc_random + self.console_id + self._who)

    def rakp_4_code(self) -> bytes:
        """The BMC's proof that it has the session integrity key; shortened like a signature."""
        code = self.suite.hmac(self._session_integrity_key(), self.console_random + self.bmc_id + self.guid)
        return code[: self.suite.signature_bytes]

    def keys(self) -> Keys:
        """Return the keys of the session."""
        return Keys(self.suite, self._session_integrity_key())

    def _session_integrity_key(self) -> bytes:
        return self.suite.hmac(self.key, self.console_random + self.bmc_random + self._who)
