"""A person's terminal as the keyboard and screen of a machine far away."""

from __future__ import annotations

import asyncio
import os
import sys
import termios
import tty
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from perfci.lab.bmc.errors import ConsoleNeedsTerminal

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from perfci.lab.bmc.base import Console

_TILDE, _DOT = ord("~"), ord(".")
_READ_BYTES = 1024


class Escape:
    """Finds `~.` at the begin of a line, as in ssh; `~~` there types one `~`."""

    def __init__(self) -> None:
        self.over = False
        self._line_begins = True
        self._tilde = False

    def typed(self, data: bytes) -> bytes:
        """Return what of this is for the machine; nothing after the escape."""
        passed = bytearray()
        for byte in data:
            if not self._tilde and self._line_begins and byte == _TILDE:
                self._tilde = True
                continue
            if self._tilde and byte == _DOT:
                self.over = True
                break
            if self._tilde and byte != _TILDE:
                passed.append(_TILDE)
            passed.append(byte)
            self._tilde, self._line_begins = False, byte in b"\r\n"
        return bytes(passed)


def need_terminal() -> None:
    """Raise ConsoleNeedsTerminal where there is none."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConsoleNeedsTerminal


async def attach(
    console: Console, keyboard: int, screen: int, over: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Connect two file descriptors of a terminal with a console, until `~.`, its end, or the end of `over`.

    Raises BmcSilent where the BMC does not take what is typed, and what `over` raises.
    """
    with _raw(keyboard):
        tasks = {
            asyncio.create_task(one) for one in (_show(console, screen), _type(console, keyboard), over())
        }
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def _show(console: Console, screen: int) -> None:
    while data := await console.read():
        while data:
            data = data[os.write(screen, data) :]


async def _type(console: Console, keyboard: int) -> None:
    keys: asyncio.Queue[bytes] = asyncio.Queue()
    loop, escape = asyncio.get_running_loop(), Escape()
    loop.add_reader(keyboard, lambda: keys.put_nowait(_read(keyboard)))
    try:
        while not escape.over and (data := await keys.get()):
            await console.write(escape.typed(data))
    finally:
        loop.remove_reader(keyboard)


def _read(keyboard: int) -> bytes:
    try:
        return os.read(keyboard, _READ_BYTES)
    except OSError:
        return b""  # the terminal is gone


@contextmanager
def _raw(keyboard: int) -> Iterator[None]:
    """Give every key to us as it is pressed, Ctrl-C as well; the terminal is put back as it was."""
    before = termios.tcgetattr(keyboard)
    tty.setraw(keyboard)
    try:
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
