"""What a command is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfci.lab.virtual.ipmi.completion import CommandRefused, Completion

if TYPE_CHECKING:
    from perfci.lab.virtual.ipmi.controller import SimulatedBmc
    from perfci.lab.virtual.ipmi.sessions import Session

LAN_CHANNEL, THIS_CHANNEL = 0x01, 0x0E


@dataclass(frozen=True, slots=True)
class Call:
    """One command on its way: the BMC, the session it came in, its data."""

    bmc: SimulatedBmc
    session: Session | None
    data: bytes

    @property
    def owner(self) -> Session:
        """The session; raises `CommandRefused` where there is none."""
        if self.session is None:
            raise CommandRefused(Completion.INSUFFICIENT_PRIVILEGE)
        return self.session

    def check_channel(self, number: int) -> None:
        """Raise `CommandRefused` unless a channel number (its lowest four bits) is that of the LAN."""
        if number & 0x0F not in {LAN_CHANNEL, THIS_CHANNEL}:
            raise CommandRefused(Completion.INVALID_FIELD)
