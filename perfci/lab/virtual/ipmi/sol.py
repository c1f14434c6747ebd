"""Serial over LAN (sections 15 and 26): a machine's console inside a session."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from perfci.lab.virtual.ipmi.packets import Malformed

if TYPE_CHECKING:
    from collections.abc import Callable

    from perfci.lab.virtual.ipmi.sessions import Session

HEAD_BYTES = 4
CHARACTERS = 200
"""In one packet; its length must fit a byte (table 15-2)."""
LONGEST_BACKLOG = 65536
RETRIES = 7
RETRY_SECONDS = 0.5
_HIGHEST_SEQUENCE = 15
_NACK = 0x40


class SolConsole(Protocol):
    """The serial port of a machine, as a BMC sees it."""

    def attach(self, receive: Callable[[bytes], None]) -> None:
        """Hand what the machine writes from now on to `receive`: later, from the event loop."""

    def detach(self) -> None:
        """Stop that; output is no longer wanted."""

    def write(self, data: bytes) -> None:
        """Give keys to the machine; what it can't take is lost, as on a serial line."""


@dataclass(slots=True)
class _Line:
    """The state of an active payload. One packet of ours at a time is under way."""

    session: Session
    backlog: bytearray
    sequence: int = 0
    unacknowledged: bytes = b""
    tries: int = 0
    timer: asyncio.TimerHandle | None = None
    heard: int = 0
    """Sequence number of the last packet with keys: it is repeated if our acknowledge was lost."""


class SerialOverLan:
    """The one SOL payload of a BMC. `send` sends a payload to a session's peer.

    Output that the client does not acknowledge is repeated, and after that the payload is deactivated.
    Of output that comes faster than the client takes it, the last 64 KiB are kept.
    """

    def __init__(self, console: SolConsole | None, send: Callable[[Session, bytes], None]) -> None:
        self.console = console
        self._send = send
        self._line: _Line | None = None

    @property
    def session(self) -> Session | None:
        """The session on which the payload is active."""
        return self._line.session if self._line else None

    def activate(self, session: Session, console: SolConsole) -> None:
        """Connect the console to a session; output from before is not kept."""
        self.deactivate()
        self._line = _Line(session, bytearray())
        console.attach(self._output)

    def deactivate(self) -> None:
        """Disconnect; if nothing is connected, nothing happens."""
        line, self._line = self._line, None
        if line is None:
            return
        if line.timer:
            line.timer.cancel()
        if self.console:
            self.console.detach()

    def receive(self, session: Session, payload: bytes) -> None:
        """Take a packet of the client (table 15-2). Raises `Malformed`."""
        line = self._line
        if len(payload) < HEAD_BYTES or line is None or line.session is not session or not self.console:
            raise Malformed
        sequence, acknowledged, accepted, operation = payload[:HEAD_BYTES]
        if line.unacknowledged and acknowledged == line.sequence:
            self._acknowledged(line, accepted, refused=bool(operation & _NACK))
        if not sequence:
            return
        keys = payload[HEAD_BYTES:]
        if sequence != line.heard:
            line.heard = sequence
            self.console.write(keys)
        self._send(session, bytes([0, sequence, len(keys) & 0xFF, 0]))

    def _output(self, data: bytes) -> None:
        line = self._line
        if line is None:
            return
        line.backlog += data
        del line.backlog[:-LONGEST_BACKLOG]
        self._next(line)

    def _acknowledged(self, line: _Line, accepted: int, *, refused: bool) -> None:
        """Go on; what was not accepted is sent again in a packet of its own, later if it was all refused."""
        line.backlog[:0] = line.unacknowledged[accepted:]
        line.unacknowledged = b""
        if line.timer:
            line.timer.cancel()
        if refused or not accepted:
            line.timer = asyncio.get_running_loop().call_later(RETRY_SECONDS, self._next, line)
        else:
            self._next(line)

    def _next(self, line: _Line) -> None:
        if line.unacknowledged or not line.backlog:
            return
        line.unacknowledged = bytes(line.backlog[:CHARACTERS])
        del line.backlog[:CHARACTERS]
        line.sequence = line.sequence % _HIGHEST_SEQUENCE + 1
        line.tries = 0
        self._transmit(line)

    def _transmit(self, line: _Line) -> None:
        if line.tries > RETRIES:
            self.deactivate()
            return
        line.tries += 1
        self._send(line.session, bytes([line.sequence, 0, 0, 0]) + line.unacknowledged)
        line.timer = asyncio.get_running_loop().call_later(RETRY_SECONDS, self._transmit, line)
