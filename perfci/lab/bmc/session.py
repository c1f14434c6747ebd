"""pyghmi's IPMI 2.0 session, driven by asyncio.

pyghmi's engine does the protocol: framing, login (RAKP), encryption, parsing. Its input and output are
not used: its sessions share one event loop, in which the handler of a packet may wait for the next one,
so that a BMC which falls silent in mid-login stalls the others; every packet wakes the thread of every
session; and whoever forgets to log out leaves a session behind. Here each session has a socket and
timers of its own, nothing waits for anybody else, and `open_session` always closes.

Names with one underscore that are overridden here are pyghmi's (ipmi/private/simplesession.py, 1.6).
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar, cast

from pyghmi.ipmi.private import constants, simplesession
from pyghmi.ipmi.private.util import get_ipmi_error

from perfci.lab.bmc.errors import (
    BmcCredentialsWrong,
    BmcError,
    BmcGarbled,
    BmcRefused,
    BmcRightsMissing,
    BmcSessionsFull,
    BmcSilent,
    BmcUnreachable,
    BmcUnsupported,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from perfci.lab.bmc.base import Target

RETRY_SECONDS = (0.5, 1.0, 1.5, 2.0)
"""After how long a packet is sent again; after the last one the BMC counts as silent. Slow BMCs, as seen
at their first answer, get more."""
SLOWEST_SECONDS = 3.0
LOGIN_SECONDS = 20.0
"""A BMC that answers, but loses so much that no login is complete by then, counts as silent too."""
ONCE_SECONDS = 1.0
BUSY_SECONDS = (0.1, 0.3, 0.6, 1.0, 2.0)
"""How long to wait before a BMC that says "busy" is asked again."""
CLOSE_SECONDS = (0.4, 0.8)
"""How long each attempt to close a session waits for the answer, which may be lost or never come."""

_APPLICATION = 6
_SET_PRIVILEGE, _CLOSE = 0x3B, 0x3C
_ADMINISTRATOR, _OPERATOR, _USER = 4, 3, 2
"""Privileges (6.8). Perfci asks for the highest one first, then for those below it."""
_TOO_MUCH_PRIVILEGE = (0x80, 0x81)
_INSUFFICIENT_PRIVILEGE = 0xD4
_SUITES = {3: (1, (1, 1, 1)), 17: (256, (3, 4, 1))}
"""Cipher suite: pyghmi's name for its hash, its algorithms (IPMI 2.0, table 22-19)."""
_FORGOTTEN = 0x02
_FULL = frozenset({0x01, 0x0B})
_BAD_ROLE = frozenset({0x09, 0x0A})
_UNKNOWN_USER = 0x0D
_BAD_CREDENTIALS = frozenset({0x0C, _UNKNOWN_USER, 0x0F})
"""RMCP+ status codes (table 13-15)."""
_NOT_SET_UP = frozenset({errno.ECONNREFUSED, errno.ENETUNREACH, errno.EACCES, errno.EPERM})
"""What the network says where no BMC can be meant: a closed port, no route from here, a firewall."""
_BUSY = 0xC0
_PASSING = frozenset({_BUSY, 0xC3, 0xC4, 0xCE, 0xD2, 0xD5, 0xFF})
"""Completion codes of a BMC that is busy, starting, or out of its mind (table 5-2)."""
_IPMI_15, _IPMI_20 = 0, 6
_LEAST_BYTES = 16
_TAG_LIMIT = 0x80
"""A login uses a handful of tags; they have one byte."""
_MALFORMED = (LookupError, ValueError, TypeError, AttributeError, struct.error)
"""What pyghmi's parser raises on packets that are none."""


def completion(code: int) -> str:
    """Return a completion code as errors show it."""
    return f"code 0x{code:02x}"


class IpmiSession(simplesession.Session):  # type: ignore[misc]  # pyghmi ships no types
    """One login. Use it through `open_session`."""

    privlevel: int
    logged: int
    logging: bool
    seqlun: int
    rmcptag: int
    pendingsessionid: int
    lastpayload: bytearray | None

    _EXPECTED: ClassVar[dict[str | None, tuple[int, ...]]] = {
        "OPENSESSION": (0x11,),
        "EXPECTINGRAKP2": (0x13,),
        "EXPECTINGRAKP4": (0x15,),
        "ESTABLISHED": (0, 1),
    }

    def __init__(self, target: Target) -> None:
        self._target = target
        self._transport: asyncio.DatagramTransport | None = None
        self._waiting: asyncio.Future[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._one_at_a_time = asyncio.Lock()
        self._sent = 0
        self._first_sent_at = 0.0
        self._stretch = 1.0
        self._status = 0
        self._silent = False
        self._heard = False
        self.pendingsessionid = 0
        self._console_id = int.from_bytes(os.urandom(4), "little") or 1
        super().__init__(target.address, target.username, target.password, port=target.port)

    async def open(self) -> None:
        """Log in. Raises a kind of BmcError."""
        loop = asyncio.get_running_loop()
        address = (self._target.address, self._target.port)
        try:
            await loop.create_datagram_endpoint(lambda: _Wire(self), remote_addr=address)
        except OSError as error:
            raise self._no_way(error) from error
        try:
            async with asyncio.timeout(LOGIN_SECONDS):
                await self._wait(self.login)
        except TimeoutError as error:
            raise self._silence(f"no login was complete after {LOGIN_SECONDS:.0f} s") from error
        answer = await self.exchange(_APPLICATION, _SET_PRIVILEGE, (self.privlevel,))
        while answer["code"] in _TOO_MUCH_PRIVILEGE and self.privlevel > _USER:
            self.privlevel -= 1
            answer = await self.exchange(_APPLICATION, _SET_PRIVILEGE, (self.privlevel,))
        if answer["code"] in _TOO_MUCH_PRIVILEGE:
            raise self._no_rights("log in", str(get_ipmi_error(answer)).lower())
        if answer["code"]:
            raise self.refused("let us in", answer)

    async def command(
        self, order: str, netfn: int, command: int, data: tuple[int, ...] = (), *, least: int = 0
    ) -> bytes:
        """Ask, and return the answer without its completion code. `order` names it in errors.

        Raises BmcRefused, BmcSilent; BmcGarbled where the answer has fewer than `least` bytes.
        """
        answer = await self.exchange(netfn, command, data)
        for seconds in BUSY_SECONDS:
            if answer["code"] != _BUSY:
                break
            await asyncio.sleep(seconds)
            answer = await self.exchange(netfn, command, data)
        if answer["code"]:
            raise self.refused(order, answer)
        found = bytes(answer["data"])
        if len(found) < least:
            raise self.garbled(f"{len(found)} bytes to {order!r}, expected {least}")
        return found

    async def exchange(
        self, netfn: int, command: int, data: tuple[int, ...] = (), *, lun: int = 0
    ) -> dict[str, Any]:
        """Ask, and return pyghmi's answer: `code`, `data`, and `error` in words. Raises BmcSilent."""
        async with self._one_at_a_time:
            answer: dict[str, Any] = await self._wait(
                lambda: self._send_ipmi_net_payload(netfn, command, data, rslun=lun)
            )
        return answer

    async def say(
        self, netfn: int, command: int, data: tuple[int, ...], seconds: float
    ) -> dict[str, Any] | None:
        """Ask once, without sending it again; return pyghmi's answer, or None where none came in time."""
        try:
            async with asyncio.timeout(seconds), self._one_at_a_time:
                answer: dict[str, Any] = await self._wait(
                    lambda: self._send_ipmi_net_payload(netfn, command, data, retry=False)
                )
        except TimeoutError:
            return None
        return answer

    async def close(self) -> None:
        """Give the session back; never raises, and takes no longer than CLOSE_SECONDS together."""
        try:
            if self.logged:
                await self._log_out()
            elif self.pendingsessionid and not self._silent:
                self._abandon()
        finally:
            self.logged = 0
            self._disarm()
            if self._transport is not None:
                self._transport.close()

    def attach(self, transport: asyncio.DatagramTransport) -> None:
        """Take the way to the network."""
        self._transport = transport

    def received(self, packet: bytes) -> None:
        """Take one packet. What is not expected now, or is no packet at all, changes nothing."""
        data = bytearray(packet)
        if not self._expects(data):
            return
        self._heard = True
        try:
            self._handle_ipmi_packet(data)
        except _MALFORMED:
            return

    def unreachable(self, error: OSError) -> None:
        """Take what the network says: nothing listens there, no route."""
        self._fail(self._silence(error.strerror or str(error)) if self._heard else self._no_way(error))

    def refused(self, order: str, answer: dict[str, Any]) -> BmcRefused | BmcRightsMissing:
        """Return the error for a completion code."""
        code = answer["code"]
        words = str(get_ipmi_error(answer)).lower()
        if code == _INSUFFICIENT_PRIVILEGE:
            return self._no_rights(order, words)
        return BmcRefused(
            node=self._target.node,
            order=order,
            reason=words,
            code=completion(code),
            passing=code in _PASSING,
        )

    def garbled(self, reason: str) -> BmcGarbled:
        """Return the error for an answer that makes no sense."""
        return BmcGarbled(node=self._target.node, address=self._target.address, reason=reason)

    # What pyghmi calls: input, output and the steps of the login.

    @classmethod
    def _assignsocket(cls) -> None:
        """Open no socket; each session has an asyncio transport."""

    def login(self) -> None:
        """Begin the login; called by pyghmi's constructor as well, before there is a network."""
        self._initsession()
        if self._transport is None:
            self.logging = False
            return
        self._sent = 0
        self._first_sent_at = asyncio.get_running_loop().time()
        self._get_channel_auth_cap()

    def _initsession(self) -> None:
        tag = getattr(self, "rmcptag", 0) % _TAG_LIMIT
        super()._initsession()
        # pyghmi begins each login with the same tag; a late answer to the login before must not fit this one.
        self.rmcptag = tag
        self.attemptedhash = _SUITES[self._target.cipher_suite][0]
        # pyghmi keeps the sequence number of the login before, and would throw away all new packets.
        self.__dict__.pop("remseqnumber", None)

    def _xmit_packet(self, retry: bool = True, delay_xmit: object = None, timeout: object = None) -> None:  # noqa: FBT001, FBT002, ARG002  (pyghmi's signature)
        if self.sequencenumber:
            self.sequencenumber += 1
        if self._transport is None:
            return
        self._transport.sendto(self.netpacket)
        if retry:
            self._disarm()
            pause = RETRY_SECONDS[min(self._sent, len(RETRY_SECONDS) - 1)] * self._stretch
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(min(pause, SLOWEST_SECONDS), self._timedout)
            self._sent += 1

    def _timedout(self) -> None:
        """Send again what got no answer."""
        if self._sent >= len(RETRY_SECONDS):
            self._fail(self._silence(f"nothing came back to {self._sent} packets"))
        elif self.sessioncontext in {"EXPECTINGRAKP2", "EXPECTINGRAKP4"}:
            # BMCs do not take kindly to a RAKP message that comes twice: start over.
            self._abandon()
            self.lastpayload = None
            self.login()
        elif self.lastpayload:
            self.send_payload()
        else:
            self._fail(self.garbled("an answer that could not be read"))

    def _open_rmcpplus_request(self) -> None:
        # The same id at each attempt: a BMC that has opened the session of an attempt whose last answer was
        # lost can see that it is of the same client, and over.
        self.localsid = self._console_id - 1
        super()._open_rmcpplus_request()

    def _got_channel_auth_cap(self, response: dict[str, Any]) -> None:
        seconds = asyncio.get_running_loop().time() - self._first_sent_at
        self._stretch = max(1.0, 2 * seconds / RETRY_SECONDS[0])
        self._sent = 0
        super()._got_channel_auth_cap(response)

    def _get_session_challenge(self) -> None:
        self.onlogon({"error": "it speaks IPMI 1.5 only"})

    def _got_rmcp_response(self, data: bytearray) -> None:
        if data[0] != self.rmcptag:
            return
        self._status = data[1]
        if self._status:
            self.onlogon({"error": constants.rmcp_codes.get(self._status, f"code {self._status}")})
            return
        if tuple(data[place] for place in (16, 24, 32)) != _SUITES[self._target.cipher_suite][1]:
            self.onlogon({"error": "it answers with another cipher suite than it was asked for"})
            return
        self._sent = 0
        super()._got_rmcp_response(data)

    def _got_rakp2(self, data: bytearray) -> None:
        if data[0] != self.rmcptag:
            return
        self._status, self._sent = data[1], 0
        if self._asks_for_less():
            self.lastpayload = None
            self.login()
            return
        super()._got_rakp2(data)

    def _asks_for_less(self) -> bool:
        """Ask for a lower privilege where the BMC refuses this one to the user; tell whether it did."""
        lowest = {_UNKNOWN_USER: _OPERATOR} | dict.fromkeys(_BAD_ROLE, _USER)
        # Some BMCs say "unknown user" where they mean the role. One more try: others lock users out.
        if self.privlevel <= lowest.get(self._status, _ADMINISTRATOR):
            return False
        self.privlevel -= 1
        return True

    def _got_rakp4(self, data: bytearray) -> None:
        # A BMC that has forgotten this login in the meantime is asked anew once the time is over; to every
        # other refusal no means no, which it does not to pyghmi while it has attempts left.
        if data[0] == self.rmcptag and data[1] != _FORGOTTEN:
            self._status, self.logontries = data[1], 0
            super()._got_rakp4(data)

    def _req_priv_level(self) -> None:
        """End the login; pyghmi would wait here, inside the handler of a packet."""
        self.logged, self.logging = 1, False
        self._succeed(None)

    def onlogon(self, parameter: dict[str, Any]) -> None:
        """Take pyghmi's word for why the login failed."""
        self.logging = False
        self._fail(self._login_error(str(parameter.get("error"))))

    # ------------------------------------------------------------------------------------------------

    async def _wait(self, send: Callable[[], None]) -> Any:
        """Send something, and wait until the answer, the silence or the refusal is there."""
        if self._transport is None or self._transport.is_closing():
            raise self._silence("the session is closed")
        self._waiting = asyncio.get_running_loop().create_future()
        self._sent, self._status = 0, 0
        self.ipmicallback = self._answered
        answered = False
        try:
            send()
            answer = await self._waiting
            answered = True
        finally:
            self._disarm()
            self._waiting = None
            self.lastpayload = None
            self.request_entry.clear()
            if not answered:
                # A late answer must not be taken for one to the next question of this kind.
                self.seqlun = (self.seqlun + 1) & 0x3F
        return answer

    def _answered(self, response: dict[str, Any]) -> None:
        if words := get_ipmi_error(response):
            response["error"] = words
        self._succeed(response)

    def _succeed(self, value: object) -> None:
        self._disarm()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(value)

    def _fail(self, error: BmcError) -> None:
        self._disarm()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expects(self, data: bytearray) -> bool:
        if len(data) < _LEAST_BYTES or data[0] != _IPMI_20 or data[2:4] != b"\xff\x07":
            return False
        if data[4] == _IPMI_15:
            # Only the answer to Get Channel Authentication Capabilities comes so; it has no session.
            return self.sessioncontext is None and not any(data[5:13])
        return data[4] == _IPMI_20 and data[5] & 0x3F in self._EXPECTED.get(self.sessioncontext, ())

    async def _log_out(self) -> None:
        sid = tuple(struct.pack("<I", self.sessionid))
        if self._silent:
            # It may only have stopped to answer: say it once, and do not wait.
            self._send_ipmi_net_payload(_APPLICATION, _CLOSE, sid, retry=False)
            return
        for seconds in CLOSE_SECONDS:
            try:
                if await self.say(_APPLICATION, _CLOSE, sid, seconds):
                    return
            except BmcError:
                return

    def _abandon(self) -> None:
        """Tell the BMC to forget a login that is not complete (RAKP 3 with a status, table 13-13)."""
        if self.pendingsessionid and self._transport is not None:
            payload = bytearray((self.rmcptag, _FORGOTTEN, 0, 0)) + struct.pack("<I", self.pendingsessionid)
            self.lastpayload = None
            self.pendingpayloads.clear()
            self.send_payload(payload, constants.payload_types["rakp3"], retry=False)
            self.pendingsessionid = 0

    def _login_error(self, reason: str) -> BmcError:
        fields = {"node": self._target.node, "address": self._target.address}
        reason = reason[:1].lower() + reason[1:]
        if self._status in _FULL:
            return BmcSessionsFull(**fields, reason=reason)
        if self._status in _BAD_ROLE:
            return self._no_rights("log in", reason)
        if self._status in _BAD_CREDENTIALS or reason.startswith("incorrect password"):
            return self._credentials(reason)
        return BmcUnsupported(**fields, reason=f"{reason} (cipher suite {self._target.cipher_suite})")

    def _credentials(self, reason: str) -> BmcCredentialsWrong:
        target = self._target
        return BmcCredentialsWrong(
            node=target.node, address=target.address, username=target.username, reason=reason
        )

    def _no_rights(self, order: str, reason: str) -> BmcRightsMissing:
        target = self._target
        return BmcRightsMissing(
            node=target.node, address=target.address, username=target.username, order=order, reason=reason
        )

    def _no_way(self, error: OSError) -> BmcError:
        """Return the error for what the network says before the BMC has said anything."""
        reason = error.strerror or str(error)
        if not isinstance(error, socket.gaierror) and error.errno not in _NOT_SET_UP:
            return self._silence(reason)
        target = self._target
        return BmcUnreachable(
            node=target.node, address=target.address, port=f"UDP port {target.port}", reason=reason.lower()
        )

    def _silence(self, reason: str) -> BmcSilent:
        self._silent = True
        return BmcSilent(
            node=self._target.node, address=self._target.address, reason=reason, deaf=not self.logged
        )


class _Wire(asyncio.DatagramProtocol):
    """Carries packets between the network and a session."""

    def __init__(self, session: IpmiSession) -> None:
        self._session = session

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._session.attach(cast("asyncio.DatagramTransport", transport))

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002
        self._session.received(data)

    def error_received(self, exc: Exception) -> None:
        if isinstance(exc, OSError):
            self._session.unreachable(exc)


@asynccontextmanager
async def open_session(target: Target) -> AsyncIterator[IpmiSession]:
    """Log in; the session is closed whatever happens inside. Raises a kind of BmcError."""
    session = IpmiSession(target)
    try:
        await session.open()
        yield session
    finally:
        await session.close()
