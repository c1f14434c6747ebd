"""QEMU's monitor, as far as it is needed: orders in, and why it ended out.

The protocol is QMP, lines of JSON; see https://www.qemu.org/docs/master/interop/qmp-spec.html.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

from perfci.parsing import json_value

if TYPE_CHECKING:
    import socket

GUEST_RESET = "guest-reset"
"""What SHUTDOWN gives as its reason where the system asked for a reset and QEMU runs with -no-reboot."""
LINE_BYTES = 1 << 20

log = logging.getLogger(__name__)


class Monitor:
    """One connection. Orders are sent without waiting for an answer; errors are logged."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, line: socket.socket) -> Monitor:
        """Take over a connected socket, of which QEMU has the other end."""
        return cls(*await asyncio.open_unix_connection(sock=line, limit=LINE_BYTES))

    def order(self, *commands: str) -> None:
        """Send commands that have no arguments."""
        for command in commands:
            self._writer.write(json.dumps({"execute": command}).encode() + b"\n")

    async def reason_of_end(self) -> str:
        """Read until QEMU closes the connection; return why it ended, empty where it did not say."""
        reason = ""
        async for line in self._reader:
            message = parse(line)
            if message.get("event") == "SHUTDOWN":
                reason = str(message.get("data", {}).get("reason", ""))
            if "error" in message:
                log.error("QEMU refuses an order: %s", message["error"])
        return reason

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


def parse(line: bytes) -> dict[str, Any]:
    """Return one message; empty for what is none."""
    try:
        message = json_value(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}
