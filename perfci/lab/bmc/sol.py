"""Serial over LAN: the machine's console inside an IPMI session (IPMI v2.0 rev. 1.1, chapters 15 and 26).

Both sides wait for the acknowledgement of one packet before they send the next.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from pyghmi.ipmi.private import constants

from perfci.lab.bmc.errors import BmcError, BmcSilent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from perfci.lab.bmc.base import Target
    from perfci.lab.bmc.session import IpmiSession

KEEPALIVE_SECONDS = 15.0
"""BMCs end a session after a minute without a word."""
ACKNOWLEDGE_SECONDS = (0.5, 1.0, 2.0, 4.0)
NACK_SECONDS = 0.2
"""How long to wait before typing on into a machine whose buffer is full."""
MOST_BYTES = 128
_APPLICATION = 6
_GET_DEVICE_ID, _ACTIVATE, _DEACTIVATE = 0x01, 0x48, 0x49
_SOL, _FIRST_INSTANCE, _ENCRYPT_AND_SIGN = 1, 1, 0xC0
_IN_USE = 0x80
_HEADER_BYTES = 4
_NACK, _DEACTIVATED = 0x40, 0x10
_INBOUND_SIZE = slice(4, 6)


class SolConsole:
    """An open console. Use it through `open_console`."""

    def __init__(self, target: Target, session: IpmiSession, most_bytes: int) -> None:
        self._target = target
        self._session = session
        self._most_bytes = most_bytes
        self._printed: asyncio.Queue[bytes] = asyncio.Queue()
        self._typing = asyncio.Lock()
        self._sequence = 0
        self._acknowledged: asyncio.Future[int] | None = None
        self._seen, self._seen_bytes = 0, 0
        self.over = False

    async def read(self) -> bytes:
        """Return what the machine printed; empty once the console is over."""
        if self.over and self._printed.empty():
            return b""
        return await self._printed.get()

    async def write(self, data: bytes) -> None:
        """Type. Raises BmcSilent where the BMC does not take it."""
        async with self._typing:
            while data and not self.over:
                data = data[await self._send(data[: self._most_bytes]) :]

    def received(self, payload: bytearray) -> None:
        """Take one SOL packet; pyghmi has checked that it is the BMC's."""
        if len(payload) < _HEADER_BYTES:
            return
        sequence, acknowledged, accepted, status = payload[0] & 15, payload[1] & 15, payload[2], payload[3]
        data = bytes(payload[_HEADER_BYTES:])
        if sequence:
            self._take(sequence, data)
            self._transmit(bytes((0, sequence, len(data) & 0xFF, 0)))
        waiting = self._acknowledged
        if acknowledged and acknowledged == self._sequence and waiting is not None and not waiting.done():
            waiting.set_result(accepted if status & _NACK else self._most_bytes)
        if status & _DEACTIVATED:
            self.end()

    def end(self) -> None:
        """Let readers know that nothing will come any more."""
        if not self.over:
            self.over = True
            self._printed.put_nowait(b"")

    async def keep_alive(self) -> None:
        """Keep the session from being forgotten, until the BMC is silent."""
        with suppress(BmcError):
            while True:
                await asyncio.sleep(KEEPALIVE_SECONDS)
                await self._session.exchange(_APPLICATION, _GET_DEVICE_ID)
        self.end()

    def _take(self, sequence: int, data: bytes) -> None:
        """Keep what is new: a packet that was sent again may have grown at its end."""
        known = self._seen_bytes if sequence == self._seen else 0
        if data[known:]:
            self._printed.put_nowait(data[known:])
        self._seen, self._seen_bytes = sequence, max(known, len(data))

    async def _send(self, chunk: bytes) -> int:
        """Send one packet until it is acknowledged; return how many of its bytes were taken."""
        self._sequence = self._sequence % 15 + 1
        for seconds in ACKNOWLEDGE_SECONDS:
            self._acknowledged = asyncio.get_running_loop().create_future()
            self._transmit(bytes((self._sequence, 0, 0, 0)) + chunk)
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    taken = min(await self._acknowledged, len(chunk))
                if taken < len(chunk):
                    await asyncio.sleep(NACK_SECONDS)
                return taken
            if self.over:
                return len(chunk)
        self.end()
        raise BmcSilent(
            node=self._target.node,
            address=self._target.address,
            reason="it does not accept input",
            deaf=False,
        )

    def _transmit(self, packet: bytes) -> None:
        self._session.send_payload(bytearray(packet), constants.payload_types["sol"], retry=False)


@asynccontextmanager
async def open_console(target: Target, session: IpmiSession, *, take_over: bool) -> AsyncIterator[SolConsole]:
    """Open the console in a session; it is closed whatever happens inside. Raises a kind of BmcError."""
    activate = (_SOL, _FIRST_INSTANCE, _ENCRYPT_AND_SIGN, 0, 0, 0)
    deactivate = (_SOL, _FIRST_INSTANCE, 0, 0, 0, 0)
    answer = await session.exchange(_APPLICATION, _ACTIVATE, activate)
    if answer["code"] == _IN_USE and take_over:
        await session.exchange(_APPLICATION, _DEACTIVATE, deactivate)
        answer = await session.exchange(_APPLICATION, _ACTIVATE, activate)
    if answer["code"]:
        raise session.refused("open the console", answer)
    inbound = int.from_bytes(bytes(answer["data"])[_INBOUND_SIZE], "little")
    console = SolConsole(target, session, max(1, min(inbound - _HEADER_BYTES, MOST_BYTES)))
    session.sol_handler = console.received
    beat = asyncio.create_task(console.keep_alive())
    try:
        yield console
    finally:
        beat.cancel()
        with suppress(asyncio.CancelledError):
            await beat
        session.sol_handler = None
        with suppress(BmcError):
            await session.exchange(_APPLICATION, _DEACTIVATE, deactivate)
