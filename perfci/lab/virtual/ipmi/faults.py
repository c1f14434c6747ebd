"""What can be wrong with a simulated BMC, as seen on real ones."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from perfci.errors import UsageError
from perfci.validation import faults as mistakes

if TYPE_CHECKING:
    from collections.abc import Mapping


class FaultsInvalid(UsageError):
    """A fault is unknown or has an invalid value."""

    template = "these faults can't be set:\n{mistakes}"
    help = "`perfci virtual fault --help` lists the faults and their values."


class Remedy(StrEnum):
    """What heals a sick BMC; a stronger remedy heals it as well. In order of strength."""

    WARM = "warm"
    """`mc reset warm`."""
    COLD = "cold"
    """`mc reset cold`."""
    POWER = "power"
    """Its mains cut, as by an outlet of a PDU."""
    NONE = "none"
    """Nothing: the machine is for quarantine."""

    def heals(self, needed: Remedy) -> bool:
        """Tell whether this remedy is strong enough where `needed` is."""
        order = list(Remedy)
        return needed is not Remedy.NONE and order.index(self) >= order.index(needed)


class Faults(BaseModel):
    """The faults of one BMC. They may be changed at any time and count from the next packet on.

    Sicknesses of the firmware (`hang`, `half_hung`, `sessions_full`, `ok_without_effect`) end when
    the BMC is given the remedy in `recovers_by` or a stronger one. The others last until they are changed,
    since they are not in the firmware: the network, the password, the machine.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    hang: bool = False
    """Nothing is answered at all; so no reset is heard, and only the mains are left as a remedy."""
    half_hung: bool = False
    """Sessions open and the BMC can be reset, but the chassis commands are never answered."""
    sessions_full: bool = False
    """Every Open Session is refused for lack of resources; sessions that are open go on."""
    stale_sessions: int = Field(default=0, ge=0, le=255)
    """So many slots of the table (at most all) are held by sessions that nobody uses, and that never time
    out. Closing one frees its slot; losing all sessions (a reset, the mains) frees all."""
    ok_without_effect: bool = False
    """Chassis Control and Set Boot Options are answered with 00h and do nothing."""
    recovers_by: Remedy = Remedy.POWER
    """The weakest remedy that ends the sicknesses above."""

    drop: float = Field(default=0.0, ge=0, le=1)
    """Part of the packets that is lost, in each direction."""
    delay_seconds: float = Field(default=0.0, ge=0, le=60)
    """How late each answer is sent."""
    wrong_credentials: bool = False
    """No password is right any more, as after somebody changed it."""
    privilege: int = Field(default=4, ge=2, le=4)
    """What the user may do at most: 2 user, 3 operator, 4 administrator."""
    switch_seconds: float = Field(default=0.0, ge=0, le=600)
    """How long after the BMC's ok the machine switches on or off, as large machines do."""
    power_on_never: bool = False
    """Power-on is answered with 00h, but the machine stays off (also after a cycle)."""

    def change(self, changes: Mapping[str, Any]) -> None:
        """Set some faults from JSON, all or none of them. Raises `FaultsInvalid`."""
        try:
            changed = Faults.model_validate({**self.model_dump(), **changes})
        except ValidationError as error:
            found = "\n".join(f"  {one.place}: {one.message}" for one in mistakes(error, Faults))
            raise FaultsInvalid(mistakes=found) from None
        for name in changes:
            setattr(self, name, getattr(changed, name))

    def as_dict(self) -> dict[str, Any]:
        """Return all faults as JSON."""
        return self.model_dump(mode="json")

    def treat(self, remedy: Remedy) -> None:
        """Apply a remedy, which ends all sessions in any case."""
        self.stale_sessions = 0
        if remedy.heals(self.recovers_by):
            self.hang = self.half_hung = self.sessions_full = self.ok_without_effect = False
