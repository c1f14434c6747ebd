"""What can be wrong with a BMC, in words for people."""

from __future__ import annotations

from typing import Any, ClassVar

from perfci.errors import LabError, UsageError


class BmcError(LabError):
    """A BMC did not do what it was told; every error of one BMC is a kind of this one."""

    template = "{node}: {reason}"
    help = "docs/errors.md tells the kinds apart."
    mendable: ClassVar[bool] = True
    """Whether waiting for the BMC, restarting it or cutting its power can help."""

    @property
    def curable(self) -> bool:
        """Tell whether climbing the ladder can help with this one; it counts as a lock-up then."""
        return self.mendable


class BmcSilent(BmcError):
    """No answer, or none any more. One that is `deaf` does not even let us in, to be told to restart."""

    template = "{node}: the BMC at {address} does not answer: {reason}"
    help = (
        "Is the address right, its cable plugged in, IPMI over LAN switched on? A BMC that hangs comes back "
        "when its power is cut; `perfci lab power on {node} --recover` does that where the inventory has "
        "`pdu_outlet`."
    )

    def __init__(self, *, deaf: bool = True, **fields: Any) -> None:
        self.deaf = deaf
        super().__init__(**fields)


class BmcCredentialsWrong(BmcError):
    """The BMC knows neither this user nor this password, or gives the user too few rights."""

    template = "{node}: the BMC at {address} refuses user {username!r}: {reason}"
    help = "Correct bmc_username and bmc_password (or bmc_password_file) of {node} in the inventory."
    mendable = False


class BmcSessionsFull(BmcError):
    """All its sessions are taken, mostly by clients that never closed theirs."""

    template = "{node}: the BMC at {address} has no session left: {reason}"
    help = "It forgets stale sessions after a minute or so. `--recover` closes them, or restarts the BMC."


class BmcUnsupported(BmcError):
    """The BMC does not speak what perfci speaks."""

    template = "{node}: the BMC at {address} can't be used: {reason}"
    help = "perfci needs IPMI 2.0 with cipher suite 17 or 3; set bmc_cipher_suite: 3 where 17 is missing."
    mendable = False


class BmcRefused(BmcError):
    """The BMC answered no; `code` is its completion code."""

    template = "{node}: the BMC refuses to {order}: {reason} (code 0x{code:02x})"
    help = "A code such as 0xc0 (busy) passes; others mean that this BMC can't do it."

    def __init__(self, *, passing: bool, **fields: Any) -> None:
        self.passing = passing
        super().__init__(**fields)

    @property
    def curable(self) -> bool:
        """Tell whether the BMC may think better of it."""
        return self.passing


class BmcIneffective(BmcError):
    """The BMC said ok, and nothing happened."""

    template = "{node}: the BMC said ok to {order!r}, but after {seconds:.0f} s it still says {found!r}"
    help = "Firmwares do that when they are sick; `--recover` restarts the BMC and tries again."


class ShutdownIgnored(BmcError):
    """The BMC pressed the power button, and the system went on."""

    template = "{node}: the system did not shut down within {seconds:.0f} s"
    help = "It hangs, or does not listen to the power button; `perfci lab power off {node}` cuts the power."
    mendable = False


class BmcGarbled(BmcError):
    """Its answers make no sense."""

    template = "{node}: the BMC at {address} answers what makes no sense: {reason}"
    help = "Restart the BMC with `--recover`, and look for newer firmware."


class BmcDeadline(BmcError):
    """It was not done in time."""

    template = "{node}: not done within {seconds:.0f} s: {reason}"
    help = "Give more time with --deadline, or look at this BMC alone."


class BmcUnknown(UsageError):
    """The inventory does not say how the BMC of a node is reached."""

    template = "{node}: {reason}"
    help = "Set bmc_address, bmc_username and bmc_password of {node}; inventory/example shows all variables."


class OutletFailed(LabError):
    """The command that switches a node's outlet failed."""

    template = "{node}: outlet {outlet!r} could not be switched: {program}: {reason}"
    help = "Try pdu_command of the inventory by hand; the node's power was not cut."


class OutletCommandInvalid(UsageError):
    """The inventory's pdu_command is not of the form needed."""

    template = "{node}: pdu_command {command!r}: {reason}"
    help = "Write a program and its arguments; {{outlet}} and {{node}} are filled in, no shell reads it."


class ConsoleNeedsTerminal(UsageError):
    """A console was asked for where there is no terminal."""

    template = "perfci lab console needs a terminal on both input and output; this is a pipe or a file"
    help = "Run it in a terminal; over SSH say `ssh -t HOST perfci lab console NODE`."
