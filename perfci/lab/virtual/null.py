"""A machine that is nothing but its state; a process holds thousands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfci.lab.virtual.machine import Boot

if TYPE_CHECKING:
    from perfci.lab.virtual.machine import NextBoot


class NullMachine:
    """Obeys every order at once. `booted` is the order by which it was booted last."""

    def __init__(self, next_boot: NextBoot) -> None:
        self._next_boot = next_boot
        self.is_on = False
        self.booted = Boot()

    @property
    def stage(self) -> str:
        """Say what it does, for the lab's status."""
        return f"boots from {self.booted.device}" if self.is_on else "off"

    async def power_on(self) -> None:
        """Switch on."""
        if not self.is_on:
            self.is_on = True
            self.booted = self._next_boot()

    async def power_off(self) -> None:
        """Cut the power."""
        self.is_on = False

    async def shut_down(self) -> None:
        """Press the power button; nothing is in the way of obeying."""
        self.is_on = False

    async def reset(self) -> None:
        """Reset, if it is on."""
        if self.is_on:
            self.booted = self._next_boot()

    async def close(self) -> None:
        """Cut the power; nothing else was made."""
        self.is_on = False
