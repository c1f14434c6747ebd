"""The serial port of a machine: what comes out is kept in a file, and seen by whoever watches."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHUNK_BYTES = 65536


class SerialConsole:
    """Stands between a machine and its BMC, which sees it as `perfci.lab.virtual.ipmi.Console`.

    The machine's end is a file descriptor that is given for as long as the system runs. It is read at
    once, watched or not: a system would stop at a full line.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        log.touch(mode=0o600)
        self._receive: Callable[[bytes], None] | None = None
        self._line: int | None = None

    def attach(self, receive: Callable[[bytes], None]) -> None:
        """Hand what the machine writes to `receive` from now on."""
        self._receive = receive

    def detach(self) -> None:
        """Stop that."""
        self._receive = None

    def write(self, data: bytes) -> None:
        """Give keys to the machine; what it can't take is lost."""
        if self._line is None:
            return
        try:
            os.write(self._line, data)
        except OSError:
            return  # full, or its end was closed a moment ago

    def say(self, text: str) -> None:
        """Write a line as the machine's firmware does."""
        self._came(f"{text}\r\n".encode())

    def connect(self, line: int) -> None:
        """Read from and write to this descriptor, which is ours from now on."""
        self.disconnect()
        os.set_blocking(line, False)
        self._line = line
        asyncio.get_running_loop().add_reader(line, self._readable, line)

    def disconnect(self) -> None:
        """Close it, if there is one, after what is in it was read."""
        if self._line is None:
            return
        while self._readable(self._line):
            pass
        if self._line is not None:
            self._drop()

    def _readable(self, line: int) -> bool:
        """Read what is there; return whether there was something."""
        try:
            data = os.read(line, CHUNK_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # a pseudo-terminal says EIO where the last process has closed its end
        if not data:
            self._drop()
            return False
        self._came(data)
        return True

    def _drop(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            asyncio.get_running_loop().remove_reader(line)
            os.close(line)

    def _came(self, data: bytes) -> None:
        with self._log.open("ab") as log:
            log.write(data)
        if self._receive is not None:
            self._receive(data)
