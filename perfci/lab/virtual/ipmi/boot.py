"""The boot options of a BMC: what the firmware of the machine is told to boot from."""

from __future__ import annotations

import time
from enum import IntEnum
from typing import TYPE_CHECKING

from perfci.lab.virtual.ipmi.completion import CommandRefused
from perfci.lab.virtual.machine import Boot, BootFrom

if TYPE_CHECKING:
    from collections.abc import Callable

WITHOUT_CONTROL_SECONDS = 60
"""How long a one-shot order stands if no Chassis Control command follows it (table 28-14, parameter 3)."""
KEEP_WITHOUT_CONTROL = 0x08
"""Bit of parameter 3: the order stands for ever."""
VALID, PERSISTENT, UEFI = 0x80, 0x40, 0x20
"""Bits of the first byte of the boot flags."""
DEVICES = {1: BootFrom.NETWORK, 2: BootFrom.DISK, 3: BootFrom.DISK, 6: BootFrom.SETUP}
"""Boot device selectors of the second byte; the simulated machines have no other devices."""

PARAMETER_UNSUPPORTED = 0x80
SET_IN_PROGRESS = 0x81


class Parameter(IntEnum):
    """The parameters that are kept, by their selector."""

    PROGRESS = 0
    VALID_BIT_CLEARING = 3
    ACKNOWLEDGE = 4
    FLAGS = 5


LENGTHS = {
    Parameter.PROGRESS: 1,
    Parameter.VALID_BIT_CLEARING: 1,
    Parameter.ACKNOWLEDGE: 2,
    Parameter.FLAGS: 5,
}


class BootFlags:
    """The system boot options of one BMC (28.12 to 28.14).

    As in a real BMC there is one order at a time: a one-shot order replaces a persistent one, and
    nothing stands after it was used. A persistent order stands until it is replaced.
    `clock` returns seconds that never go back.
    """

    __slots__ = ("_clock", "_until", "_values")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._values = {parameter: bytes(length) for parameter, length in LENGTHS.items()}
        self._until = 0.0

    @property
    def order(self) -> Boot:
        """What the machine would boot from now; nothing is used up."""
        first, second = self.get(Parameter.FLAGS)[:2]
        if not first & VALID:
            return Boot()
        return Boot(DEVICES.get(second >> 2 & 0x0F, BootFrom.DEFAULT), uefi=bool(first & UEFI))

    def next_boot(self) -> Boot:
        """Return what to boot from, at POST; a one-shot order is used up by it."""
        order = self.order
        if not self._values[Parameter.FLAGS][0] & PERSISTENT:
            self._clear()
        return order

    def get(self, selector: int) -> bytes:
        """Return a parameter's data. Raises `CommandRefused` for one that is not kept."""
        parameter = _parameter(selector)
        if parameter is Parameter.FLAGS:
            self._expire()
        return self._values[parameter]

    def set(self, selector: int, data: bytes) -> None:
        """Set a parameter. Raises `CommandRefused` for an unknown one and for data of another length."""
        parameter = _parameter(selector)
        if len(data) != LENGTHS[parameter]:
            raise CommandRefused(0xC7)
        if parameter is Parameter.PROGRESS:
            self._progress(data[0])
            return
        self._values[parameter] = data
        if parameter is Parameter.FLAGS:
            self.commanded()

    def commanded(self) -> None:
        """Count anew to the end of a one-shot order: a Chassis Control command has come."""
        self._until = self._clock() + WITHOUT_CONTROL_SECONDS

    def reset(self) -> None:
        """Forget a half-done change; the order itself outlives a reset of the BMC."""
        self._values[Parameter.PROGRESS] = b"\0"

    def _progress(self, state: int) -> None:
        """Keep the lock of parameter 0; it binds only those who ask for it, as in the specification."""
        if state == 1 and self._values[Parameter.PROGRESS] == b"\1":
            raise CommandRefused(SET_IN_PROGRESS)
        self._values[Parameter.PROGRESS] = bytes([state & 1])

    def _expire(self) -> None:
        flags = self._values[Parameter.FLAGS][0]
        kept = flags & PERSISTENT or self._values[Parameter.VALID_BIT_CLEARING][0] & KEEP_WITHOUT_CONTROL
        if flags & VALID and not kept and self._clock() >= self._until:
            self._clear()

    def _clear(self) -> None:
        self._values[Parameter.FLAGS] = bytes(LENGTHS[Parameter.FLAGS])


def _parameter(selector: int) -> Parameter:
    try:
        return Parameter(selector)
    except ValueError:
        raise CommandRefused(PARAMETER_UNSUPPORTED) from None
