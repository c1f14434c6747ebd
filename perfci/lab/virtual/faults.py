"""What can be wrong with a simulated machine itself, beside the faults of its BMC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from perfci.lab.virtual.errors import FaultInvalid
from perfci.lab.virtual.ipmi import Faults
from perfci.validation import faults as mistakes
from perfci.validation import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class MachineFaults(BaseModel):
    """The faults of one machine. Each holds from the machine's next POST on."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    reboot_loop: bool = False
    """It resets itself a few seconds after each POST."""
    pxe_nak: bool = False
    """Its network card has another MAC address while it boots from the network: DHCP does not know it."""
    disk_full: bool = False
    """While it boots from the network, its disk is too small for any image."""
    dies_in_deploy: bool = False
    """It loses power while the image is being written."""


KNOWN = (*Faults.model_fields, *MachineFaults.model_fields)


def parsed(words: Sequence[str]) -> dict[str, Any]:
    """Return faults as typed: `hang` is true, `drop=0.3` is a text yet. Raises FaultInvalid."""
    found: dict[str, Any] = {}
    for word in words:
        name, sign, value = word.partition("=")
        if name not in KNOWN:
            raise FaultInvalid(text=word, reason=f"not known; {nearest(name, KNOWN)}")
        if name in found:
            raise FaultInvalid(text=word, reason="given twice")
        found[name] = value if sign else True
    return found


def change(bmc: Faults, machine: MachineFaults, changes: Mapping[str, Any]) -> None:
    """Set some faults of a node, all or none of them. Raises FaultInvalid, or FaultsInvalid of the BMC's."""
    of_machine = {name: value for name, value in changes.items() if name in MachineFaults.model_fields}
    try:
        wanted = MachineFaults.model_validate({**machine.model_dump(), **of_machine})
    except ValidationError as error:
        first = mistakes(error, MachineFaults)[0]
        name = str(first.path[0])
        raise FaultInvalid(text=f"{name}={of_machine[name]}", reason=first.message) from error
    bmc.change({name: value for name, value in changes.items() if name not in of_machine})
    for name in of_machine:
        setattr(machine, name, getattr(wanted, name))


def clear(bmc: Faults, machine: MachineFaults) -> None:
    """End all faults of a node."""
    change(bmc, machine, {**Faults().model_dump(), **MachineFaults().model_dump()})


def shown(bmc: Faults, machine: MachineFaults) -> dict[str, Any]:
    """Return the faults that are not as in a sound node, as JSON can hold them."""
    now = {**bmc.model_dump(mode="json"), **machine.model_dump()}
    sound = {**Faults().model_dump(mode="json"), **MachineFaults().model_dump()}
    return {name: value for name, value in now.items() if value != sound[name]}
