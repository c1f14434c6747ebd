"""The management controller itself: everything a command can ask for or change."""

from __future__ import annotations

import math
import uuid
from typing import TYPE_CHECKING

from perfci.lab.virtual.ipmi.events import EventLog, RepositoryReservation
from perfci.lab.virtual.ipmi.power import PowerSwitch
from perfci.lab.virtual.ipmi.sessions import SessionTable
from perfci.lab.virtual.ipmi.sol import SerialOverLan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from perfci.lab.virtual.ipmi.boot import BootFlags
    from perfci.lab.virtual.ipmi.faults import Faults, Remedy
    from perfci.lab.virtual.ipmi.sessions import Session, SessionLimits
    from perfci.lab.virtual.ipmi.sol import SolConsole
    from perfci.lab.virtual.machine import Machine


class SimulatedBmc:
    """One BMC without its network. Its GUID is made from its name.

    `send_sol` sends a SOL payload, `clock` returns seconds that never go back.
    """

    def __init__(
        self,
        name: str,
        credentials: Mapping[str, bytes],
        machine: Machine,
        *,
        boot: BootFlags,
        faults: Faults,
        limits: SessionLimits,
        console: SolConsole | None,
        send_sol: Callable[[Session, bytes], None],
        clock: Callable[[], float],
    ) -> None:
        self.users = tuple(name.encode() for name in credentials)
        self.guid = uuid.uuid5(uuid.NAMESPACE_DNS, name).bytes
        self.boot = boot
        self.faults = faults
        self.events = EventLog()
        self.sdr_reservation = RepositoryReservation()
        self.power = PowerSwitch(machine, faults, self.events, limits.cycle_seconds)
        self.sol = SerialOverLan(console, send_sol)
        self.sessions = SessionTable(limits, faults, clock, self._session_ended)
        self.port = 0
        """Where the BMC listens, which SOL tells its clients."""
        self._clock = clock
        self._reset_seconds = limits.reset_seconds
        self._silent_until = -math.inf
        self._identify_until = -math.inf

    @property
    def silent(self) -> bool:
        """Whether the BMC is starting, and hears nothing."""
        return self._clock() < self._silent_until

    @property
    def identify_seconds(self) -> float:
        """How long the identify light will still be on; infinite, or 0 while it is off."""
        return max(0.0, self._identify_until - self._clock())

    def identify(self, seconds: float) -> None:
        """Turn the identify light on for so long; 0 turns it off."""
        self._identify_until = self._clock() + seconds

    def restart(self, remedy: Remedy) -> None:
        """Start the BMC anew: sessions are gone, and nothing is heard for a while."""
        self.faults.treat(remedy)
        self.sessions.clear()
        self.boot.reset()
        self._silent_until = self._clock() + self._reset_seconds

    def _session_ended(self, session: Session) -> None:
        if self.sol.session is session:
            self.sol.deactivate()
