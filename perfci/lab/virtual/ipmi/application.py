"""Commands about the BMC itself, its sessions, channel and users (sections 20 and 22)."""

from __future__ import annotations

import ipaddress

from perfci.lab.virtual.ipmi.call import LAN_CHANNEL, Call
from perfci.lab.virtual.ipmi.completion import CommandRefused, Completion
from perfci.lab.virtual.ipmi.crypto import SUITES
from perfci.lab.virtual.ipmi.faults import Remedy
from perfci.lab.virtual.ipmi.packets import BMC_ADDRESS
from perfci.lab.virtual.ipmi.sessions import Privilege, Session

_DEVICE_ID = bytes(
    (
        BMC_ADDRESS,  # device id
        0x01,  # revision
        0x01,  # firmware 1.00, not being updated
        0x00,
        0x02,  # IPMI 2.0
        0x87,  # chassis, SEL, SDR repository, sensors
        0x00,  # manufacturer: unspecified
        0x00,
        0x00,
        0x01,  # product
        0x00,
    )
)
_SELF_TEST_PASSED = bytes((0x55, 0x00))
_EXTENDED_DATA, _NAMED_USERS, _RMCP_PLUS = 0x80, 0x04, 0x02
_LIST_BY_SUITE = 0x80
_SUITE_RECORDS_BYTES = 16
_SUITE_START, _INTEGRITY_TAG, _CONFIDENTIALITY_TAG = 0xC0, 0x40, 0x80
_LEVEL_NOT_ALLOWED = 0x81
_UNKNOWN_SESSION_ID, _UNKNOWN_HANDLE = 0x87, 0x88
_CURRENT, _BY_HANDLE, _BY_ID = 0x00, 0xFE, 0xFF
_PROTOCOL_RMCP_PLUS = 0x10
_MEDIUM_LAN, _MULTI_SESSION, _VENDOR_IPMI = 0x04, 0x80, bytes((0xF2, 0x1B, 0x00))
_ALWAYS_AVAILABLE = 0x02
_NAME_BYTES = 16
_FIRST_NAMED_USER = 2
"""User 1 is the one without a name, who is disabled."""
_ENABLED, _DISABLED = 0x40, 0x80
_MESSAGING, _NO_ACCESS = 0x10, 0x0F


def get_device_id(_call: Call) -> bytes:
    """20.1."""
    return _DEVICE_ID


def cold_reset(call: Call) -> bytes:
    """20.2; answered before it takes effect."""
    call.bmc.restart(Remedy.COLD)
    return b""


def warm_reset(call: Call) -> bytes:
    """20.3; answered before it takes effect."""
    call.bmc.restart(Remedy.WARM)
    return b""


def get_self_test_results(_call: Call) -> bytes:
    """20.4."""
    return _SELF_TEST_PASSED


def get_guid(call: Call) -> bytes:
    """20.8 and 22.14: the same for the device and the system."""
    return call.bmc.guid


def get_channel_authentication_capabilities(call: Call) -> bytes:
    """22.13: RMCP+ only; no authentication of IPMI 1.5 is offered."""
    call.check_channel(call.data[0])
    if not call.data[0] & _EXTENDED_DATA:
        return bytes([LAN_CHANNEL, 0, _NAMED_USERS, 0, 0, 0, 0, 0])
    return bytes([LAN_CHANNEL, _EXTENDED_DATA, _NAMED_USERS, _RMCP_PLUS, 0, 0, 0, 0])


def get_channel_cipher_suites(call: Call) -> bytes:
    """22.15: the suites 16 bytes at a time, or the algorithms in them."""
    call.check_channel(call.data[0])
    suites = sorted(SUITES, key=lambda suite: suite.id)
    if call.data[2] & _LIST_BY_SUITE:
        records = b"".join(bytes([_SUITE_START, suite.id]) + _tagged(suite.algorithms) for suite in suites)
    else:
        records = bytes(sorted({byte for suite in suites for byte in _tagged(suite.algorithms)}))
    start = (call.data[2] & 0x3F) * _SUITE_RECORDS_BYTES
    return bytes([LAN_CHANNEL]) + records[start : start + _SUITE_RECORDS_BYTES]


def _tagged(algorithms: tuple[int, int, int]) -> bytes:
    authentication, integrity, confidentiality = algorithms
    return bytes([authentication, _INTEGRITY_TAG | integrity, _CONFIDENTIALITY_TAG | confidentiality])


def set_session_privilege_level(call: Call) -> bytes:
    """22.18: 0 asks for the present level."""
    session, level = call.owner, call.data[0] & 0x0F
    if level == 1 or level > Privilege.ADMINISTRATOR + 1:
        raise CommandRefused(Completion.INVALID_FIELD)
    if level > session.limit:
        raise CommandRefused(_LEVEL_NOT_ALLOWED)
    if level:
        session.privilege = Privilege(level)
    return bytes([session.privilege])


def close_session(call: Call) -> bytes:
    """22.19: by id, or by handle where the id is 0; another's only by an administrator."""
    number, handle = int.from_bytes(call.data[:4], "little"), call.data[4:]
    if bool(handle) == bool(number):
        raise CommandRefused(Completion.LENGTH_INVALID)
    if number:
        found = [one for one in call.bmc.sessions.all() if one.id == number]
    else:
        found = [one for one in call.bmc.sessions.all() if one.handle == handle[0]]
    if not found:
        raise CommandRefused(_UNKNOWN_SESSION_ID if number else _UNKNOWN_HANDLE)
    if found[0] is not call.owner and call.owner.privilege < Privilege.ADMINISTRATOR:
        raise CommandRefused(Completion.INSUFFICIENT_PRIVILEGE)
    call.bmc.sessions.close(found[0])
    return b""


def get_session_info(call: Call) -> bytes:
    """22.20: of this session, of the n-th open one, or of one by handle or id."""
    sessions = call.bmc.sessions.all()
    found = _asked_for(call, sessions)
    head = bytes([found.handle if found else 0, call.bmc.sessions.size, len(sessions)])
    return head + _details(found, call.bmc.users) if found else head


def _asked_for(call: Call, sessions: tuple[Session, ...]) -> Session | None:
    which, rest = call.data[0], call.data[1:]
    if which == _CURRENT:
        return call.owner
    if which == _BY_HANDLE and len(rest) == 1:
        return next((one for one in sessions if one.handle == rest[0]), None)
    if which == _BY_ID and len(rest) == 4:  # noqa: PLR2004 - an id
        number = int.from_bytes(rest, "little")
        return next((one for one in sessions if one.id == number), None)
    if which in {_BY_HANDLE, _BY_ID}:
        raise CommandRefused(Completion.LENGTH_INVALID)
    return sessions[which - 1] if which <= len(sessions) else None


def _details(session: Session, users: tuple[bytes, ...]) -> bytes:
    """User, privilege, protocol and channel, then the client's address, MAC (unknown) and port."""
    user = users.index(session.user) + _FIRST_NAMED_USER if session.user in users else 1
    who = bytes([user, session.privilege, _PROTOCOL_RMCP_PLUS | LAN_CHANNEL])
    address = ipaddress.ip_address(session.peer[0])
    packed = address.packed if address.version == 4 else bytes(4)  # noqa: PLR2004 - there is no room for IPv6
    return who + packed + bytes(6) + session.peer[1].to_bytes(2, "little")


def get_channel_access(call: Call) -> bytes:
    """22.23: always available, up to administrator."""
    call.check_channel(call.data[0])
    return bytes([_ALWAYS_AVAILABLE, Privilege.ADMINISTRATOR])


def get_channel_info(call: Call) -> bytes:
    """22.24: one LAN channel."""
    call.check_channel(call.data[0])
    open_now = min(len(call.bmc.sessions.all()), 0x3F)
    medium = bytes([LAN_CHANNEL, _MEDIUM_LAN, 0x01, _MULTI_SESSION | open_now])
    return medium + _VENDOR_IPMI + bytes(2)


def get_user_access(call: Call) -> bytes:
    """22.27: how many users, how many of them enabled, and what this one may do."""
    call.check_channel(call.data[0])
    users = len(call.bmc.users)
    user = _user(call, call.data[1])
    what = _MESSAGING | Privilege.ADMINISTRATOR if user else _NO_ACCESS
    return bytes([users + 1, (_ENABLED if user else _DISABLED) | min(users, 0x3F), 1, what])


def get_user_name(call: Call) -> bytes:
    """22.29."""
    return (_user(call, call.data[0]) or b"").ljust(_NAME_BYTES, b"\0")


def _user(call: Call, number: int) -> bytes | None:
    """Return the name of a user; None for user 1. Raises `CommandRefused` for one that there is not."""
    number &= 0x3F
    if number == _FIRST_NAMED_USER - 1:
        return None
    if not _FIRST_NAMED_USER <= number < len(call.bmc.users) + _FIRST_NAMED_USER:
        raise CommandRefused(Completion.PARAMETER_OUT_OF_RANGE)
    return call.bmc.users[number - _FIRST_NAMED_USER]
