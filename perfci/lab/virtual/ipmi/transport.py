"""Commands about payloads, which is Serial over LAN (sections 24 and 26)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from perfci.lab.virtual.ipmi.call import LAN_CHANNEL
from perfci.lab.virtual.ipmi.completion import CommandRefused, Completion
from perfci.lab.virtual.ipmi.packets import PayloadType
from perfci.lab.virtual.ipmi.sessions import Privilege
from perfci.lab.virtual.ipmi.sol import CHARACTERS, HEAD_BYTES, RETRIES, RETRY_SECONDS

if TYPE_CHECKING:
    from perfci.lab.virtual.ipmi.call import Call

_INSTANCE = 1
_ENCRYPTION = 0x80
_ACTIVE_ELSEWHERE, _DISABLED, _NO_ENCRYPTION = 0x80, 0x81, 0x84
_ALREADY_INACTIVE = 0x80
_NO_VLAN = 0xFFFF
_FORMAT_VERSION = 0x10
_PARAMETER_VERSION, _PARAMETER_UNSUPPORTED = 0x11, 0x80
_REVISION_ONLY = 0x80
_BITS_PER_SECOND = 0x0A
"""115,200 (table 26-5)."""
_ONLY_PROTECTED = 0xC0
_ACCUMULATE = bytes((0x01, CHARACTERS))
"""Send after 5 ms, or after so many characters."""


def activate_payload(call: Call) -> bytes:
    """24.1: only encrypted, as all packets of a session are."""
    _check_payload(call)
    sol = call.bmc.sol
    if sol.console is None:
        raise CommandRefused(_DISABLED)
    if not call.data[2] & _ENCRYPTION:
        raise CommandRefused(_NO_ENCRYPTION)
    call.bmc.sessions.all()  # ends a session whose time is over and which still has the payload
    if sol.session not in {None, call.owner}:
        raise CommandRefused(_ACTIVE_ELSEWHERE)
    sol.activate(call.owner, sol.console)
    size = CHARACTERS + HEAD_BYTES
    return bytes(4) + struct.pack("<HHHH", size, size, call.bmc.port, _NO_VLAN)


def deactivate_payload(call: Call) -> bytes:
    """24.2: also that of another session."""
    _check_payload(call)
    if call.bmc.sol.session is None:
        raise CommandRefused(_ALREADY_INACTIVE)
    call.bmc.sol.deactivate()
    return b""


def get_payload_activation_status(call: Call) -> bytes:
    """24.4: one instance, active or not."""
    _check_type(call)
    return bytes([_INSTANCE, int(call.bmc.sol.session is not None), 0])


def get_payload_instance_info(call: Call) -> bytes:
    """24.5: the session that has the payload, or 0."""
    _check_payload(call)
    session = call.bmc.sol.session
    return (session.id if session else 0).to_bytes(4, "little") + bytes(8)


def get_channel_payload_support(call: Call) -> bytes:
    """24.8: IPMI messages, SOL, and the messages that open a session."""
    call.check_channel(call.data[0])
    standard = 1 << PayloadType.IPMI | 1 << PayloadType.SOL
    setup = sum(
        1 << kind - PayloadType.OPEN_SESSION_REQUEST for kind in PayloadType if kind > PayloadType.SOL
    )
    return bytes([standard, 0, setup, 0, 0, 0, 0, 0])


def get_channel_payload_version(call: Call) -> bytes:
    """24.9: 1.0 for all."""
    call.check_channel(call.data[0])
    if call.data[1] not in set(PayloadType):
        raise CommandRefused(_PARAMETER_UNSUPPORTED)
    return bytes([_FORMAT_VERSION])


def get_sol_configuration(call: Call) -> bytes:
    """26.3."""
    call.check_channel(call.data[0])
    if call.data[0] & _REVISION_ONLY:
        return bytes([_PARAMETER_VERSION])
    enabled = int(call.bmc.sol.console is not None)
    parameters = {
        0: b"\0",  # no change is under way
        1: bytes([enabled]),
        2: bytes([_ONLY_PROTECTED | Privilege.USER]),
        3: _ACCUMULATE,
        4: bytes([RETRIES, int(RETRY_SECONDS * 100)]),
        5: bytes([_BITS_PER_SECOND]),
        6: bytes([_BITS_PER_SECOND]),
        7: bytes([LAN_CHANNEL]),
        8: call.bmc.port.to_bytes(2, "little"),
    }
    if call.data[1] not in parameters:
        raise CommandRefused(_PARAMETER_UNSUPPORTED)
    return bytes([_PARAMETER_VERSION]) + parameters[call.data[1]]


def _check_type(call: Call) -> None:
    if call.data[0] & 0x3F != PayloadType.SOL:
        raise CommandRefused(Completion.INVALID_FIELD)


def _check_payload(call: Call) -> None:
    _check_type(call)
    if call.data[1] & 0x0F != _INSTANCE:
        raise CommandRefused(Completion.INVALID_FIELD)
