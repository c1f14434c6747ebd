"""What stands behind a simulated BMC: the seam between the IPMI simulator and the machines it switches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from perfci.errors import LabError


class BootFrom(StrEnum):
    """Where a machine looks for its system."""

    DEFAULT = "default"
    NETWORK = "network"
    DISK = "disk"
    SETUP = "setup"


@dataclass(frozen=True, slots=True)
class Boot:
    """One order of the BMC's boot flags."""

    device: BootFrom = BootFrom.DEFAULT
    uefi: bool = False


NextBoot = Callable[[], Boot]
"""Asked at every POST (power-on, reset, a reboot by the system itself); it uses up a one-shot order."""


class MachineBroken(LabError):
    """A simulated machine can't carry out an order."""

    template = "the virtual machine {name} can't {order}: {reason}"
    help = "See {log}. `perfci virtual down` and then `perfci virtual up` make a new lab."


class Machine(Protocol):
    """One machine. Its methods return once the order is given; `is_on` says what came of it.

    An order that fits the state already (on while on) changes nothing. They raise `MachineBroken` where
    the machine can't obey; the BMC then answers with a completion code, as a real one does.
    """

    @property
    def is_on(self) -> bool:
        """Tell whether it has power now; a system that shut itself down turns it off."""

    async def power_on(self) -> None:
        """Switch on: POST, then the boot device."""

    async def power_off(self) -> None:
        """Cut the power at once."""

    async def shut_down(self) -> None:
        """Press the power button: the system is asked to shut down, and may not."""

    async def reset(self) -> None:
        """Reset a machine that is on: POST again."""

    async def close(self) -> None:
        """Cut the power and remove everything that was made for it: processes, files, namespaces."""
