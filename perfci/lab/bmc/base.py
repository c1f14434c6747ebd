"""What a BMC can be asked, whatever it speaks: `ipmi`, `redfish` and `memory` are the forms there are.

Orders are only *given* here; `operations` gives them and looks whether they had their effect.
Every method raises a kind of `BmcError`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from datetime import datetime

DEFAULT_PORT = 623
DEFAULT_CIPHER_SUITE: Final = 17
DEFAULT_POWER_SECONDS = 120.0
"""How long a machine may take from an order until its BMC sees it on, or off; most need 5 s, some 90."""


class BmcProtocol(StrEnum):
    """What a BMC is spoken to with."""

    IPMI = "ipmi"
    REDFISH = "redfish"
    AUTO = "auto"
    """Redfish where the BMC has it, else IPMI."""


class Power(StrEnum):
    """What the BMC says of the machine's power."""

    ON = "on"
    OFF = "off"


class PowerOrder(StrEnum):
    """What can be done to the machine's power."""

    ON = "on"
    OFF = "off"
    """At once."""
    CYCLE = "cycle"
    """Off, and on again; from off just on."""
    SOFT = "soft"
    """Press the power button: the system is asked to shut down."""


class BootDevice(StrEnum):
    """Where the machine looks for its system."""

    DEFAULT = "default"
    """As its firmware is set."""
    NETWORK = "network"
    DISK = "disk"
    SETUP = "setup"


class Rung(StrEnum):
    """What can be done about a BMC that fails, the mildest first."""

    RETRY = "retry"
    CLOSE_SESSIONS = "close stale sessions"
    WARM_RESET = "warm reset"
    COLD_RESET = "cold reset"
    OUTLET = "outlet"
    QUARANTINE = "quarantine"


class Restart(StrEnum):
    """How the BMC itself is restarted; the machine behind it runs on."""

    WARM = "warm"
    COLD = "cold"


@dataclass(frozen=True, slots=True)
class BootOrder:
    """From where the machine boots: at its next start only, or from then on."""

    device: BootDevice = BootDevice.DEFAULT
    persistent: bool = False
    uefi: bool = False

    def __post_init__(self) -> None:
        """Give "as the firmware is set" one form: it is neither once nor for ever."""
        if self.device is BootDevice.DEFAULT:
            object.__setattr__(self, "persistent", False)
            object.__setattr__(self, "uefi", False)

    def __str__(self) -> str:
        """Return it in words: `network once`, `disk always, UEFI`."""
        if self.device is BootDevice.DEFAULT:
            return str(self.device)
        return f"{self.device} {'always' if self.persistent else 'once'}{', UEFI' if self.uefi else ''}"


@dataclass(frozen=True, slots=True)
class Reading:
    """What one sensor says; `value` is None for one that has states only, or can't be read now."""

    sensor: str
    kind: str
    value: float | None
    units: str
    states: tuple[str, ...]
    health: str
    """`ok`, `warning`, `critical` or `failed`."""


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of the event log, the oldest first; `at` is None where the BMC knew no time."""

    at: datetime | None
    component: str
    text: str
    health: str


def plain_address(text: str) -> str:
    """Return an address as sockets take it: IPv6 without the brackets that URLs have."""
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text


@dataclass(frozen=True, slots=True)
class Target:
    """How the BMC of one node is reached."""

    node: str
    address: str
    username: str
    password: str = field(repr=False)
    port: int = DEFAULT_PORT
    cipher_suite: int = DEFAULT_CIPHER_SUITE
    power_seconds: float = DEFAULT_POWER_SECONDS
    """How long the machine may take to switch; a slow one is not sick."""
    outlet: str | None = None
    """Name of the node's outlet, for `outlet_command`."""
    outlet_command: str | None = None
    protocol: BmcProtocol = BmcProtocol.IPMI
    redfish_url: str | None = None
    """Where its Redfish service is; None means HTTPS at `address`."""
    redfish_system: str | None = None
    """Id of the node in a service that has several systems."""
    redfish_verify: bool | str = True
    """Whether the certificate is checked; a text is the file with the certificate authority."""

    @property
    def has_outlet(self) -> bool:
        """Whether the node's mains can be switched."""
        return self.outlet is not None and self.outlet_command is not None


class Console(Protocol):
    """The machine's serial port."""

    async def read(self) -> bytes:
        """Return what the machine printed, as soon as there is something; empty once it is over."""

    async def write(self, data: bytes) -> None:
        """Type; returns once the BMC has taken it."""


class Bmc(Protocol):
    """A BMC that somebody has logged in to."""

    async def power(self) -> Power:
        """Say whether the machine is on."""

    async def press(self, order: PowerOrder) -> None:
        """Give the order on, off or soft; the answer only means that it was understood."""

    async def boot(self) -> BootOrder:
        """Say what was ordered for the next start."""

    async def set_boot(self, order: BootOrder) -> None:
        """Order it; the answer only means that it was understood."""

    async def identify(self, seconds: int | None) -> bool:
        """Light the lamp for 1 to 255 seconds; 0 puts it out, None leaves it on.

        Returns whether the BMC puts it out by itself in time; Redfish has no such timer.
        """

    async def sensors(self) -> tuple[Reading, ...]:
        """Read all sensors."""

    async def events(self) -> tuple[Event, ...]:
        """Read the event log."""

    def console(self, *, take_over: bool = False) -> AbstractAsyncContextManager[Console]:
        """Open the machine's console; with `take_over` also where somebody else has it."""

    async def close_other_sessions(self) -> int:
        """End everybody else's sessions; return how many there were."""

    async def restart(self, how: Restart) -> None:
        """Restart the BMC itself. This session is over then."""


Connect = Callable[[Target], AbstractAsyncContextManager[Bmc]]
"""Logs in; whatever happens inside, the session is closed at the end."""
