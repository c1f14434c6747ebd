"""What can be wrong with a BMC, in words for people."""

from __future__ import annotations

from typing import Any, ClassVar

from perfci.errors import LabError, UsageError
from perfci.lab.bmc.base import Rung

_ALL_BUT_SESSIONS = frozenset({Rung.RETRY, Rung.WARM_RESET, Rung.COLD_RESET, Rung.OUTLET})


class BmcError(LabError):
    """A BMC did not do what it was told; every error of one BMC is a kind of this one."""

    template = "{node}: {reason}"
    help = "docs/errors.md tells the kinds apart."
    cures: ClassVar[frozenset[Rung]] = _ALL_BUT_SESSIONS

    @property
    def remedies(self) -> frozenset[Rung]:
        """Return which rungs can help with this error. None of them is stronger than the complaint."""
        return self.cures

    @property
    def sick(self) -> bool:
        """Tell whether the BMC is sick: more than another try is needed. That counts as a lock-up."""
        return bool(self.remedies - {Rung.RETRY})


class BmcSilent(BmcError):
    """No answer, or no more answers. A `deaf` one does not let us log in, so it can't be told to restart."""

    template = "{node}: the BMC at {address} does not answer: {reason}"
    help = (
        "Check the address, the cable, and that IPMI over LAN or Redfish is switched on. A BMC that hangs "
        "comes back when its mains are cut; `perfci lab power cycle {node} --recover` does that where the "
        "inventory has `pdu_outlet`."
    )

    def __init__(self, *, deaf: bool = True, **fields: Any) -> None:
        self.deaf = deaf
        super().__init__(**fields)

    @property
    def remedies(self) -> frozenset[Rung]:
        """Return what can help: a deaf BMC can't be told to restart."""
        return frozenset({Rung.RETRY, Rung.OUTLET}) if self.deaf else self.cures


class BmcUnreachable(BmcError):
    """The network says that there is no such BMC: a closed port, a name without address, no way there.

    That is how things are set up, here or there. No BMC is sick because of it.
    """

    template = "{node}: there is no BMC at {address}, {port}: {reason}"
    help = (
        "Correct bmc_address, bmc_port and bmc_protocol of {node} in the inventory, look at this machine's "
        "name servers and routes, or switch on IPMI over LAN or Redfish in the BMC."
    )
    cures = frozenset({Rung.RETRY})


class BmcCredentialsWrong(BmcError):
    """The BMC does not know this user, or the password is wrong."""

    template = "{node}: the BMC at {address} refuses user {username!r}: {reason}"
    help = "Correct bmc_username and bmc_password (or bmc_password_file) of {node} in the inventory."
    cures = frozenset()


class BmcRightsMissing(BmcError):
    """The user and the password are right, but the user may not do this."""

    template = "{node}: user {username!r} of the BMC at {address} may not {order}: {reason}"
    help = (
        "Give this user the privilege Operator on the BMC's LAN channel, or Administrator where perfci shall "
        "restart the BMC; the password is right."
    )
    cures = frozenset()


class BmcCertificateUntrusted(BmcError):
    """The BMC's certificate is not signed by anybody we trust, or is for another name."""

    template = "{node}: the certificate of {address} can't be trusted: {reason}"
    help = (
        "Set bmc_redfish_verify of {node} to the file with the certificate authority that signed it. Where "
        "nobody else can reach the BMCs' network, `bmc_redfish_verify: false` leaves it unchecked."
    )
    cures = frozenset()


class BmcSessionsFull(BmcError):
    """All its sessions are taken, mostly by clients that never closed theirs."""

    template = "{node}: the BMC at {address} has no session left: {reason}"
    help = "It forgets stale sessions after a minute or so. `--recover` waits for that and closes the others."
    cures = frozenset({Rung.RETRY, Rung.CLOSE_SESSIONS, Rung.OUTLET})


class BmcUnsupported(BmcError):
    """The BMC does not speak what perfci speaks."""

    template = "{node}: the BMC at {address} can't be used: {reason}"
    help = (
        "perfci needs Redfish, or IPMI 2.0 with cipher suite 17 or 3; set bmc_cipher_suite: 3 where 17 is "
        "missing, and bmc_protocol to what the BMC speaks."
    )
    cures = frozenset()


class BmcRefused(BmcError):
    """The BMC answered no; `code` is IPMI's completion code or HTTP's status, as text."""

    template = "{node}: the BMC refuses to {order}: {reason} ({code})"
    help = "A busy BMC (code 0xc0, HTTP 409 or 503) recovers; other codes mean that this BMC can't do it."

    def __init__(self, *, passing: bool, **fields: Any) -> None:
        self.passing = passing
        super().__init__(**fields)

    @property
    def remedies(self) -> frozenset[Rung]:
        """Return what can help where the BMC is only busy; else no is no."""
        return self.cures if self.passing else frozenset()


class BmcIneffective(BmcError):
    """The BMC said ok, and nothing happened."""

    template = "{node}: the BMC said ok to {order!r}, but after {seconds:.0f} s it still says {found!r}"
    help = (
        "A machine that is only slow needs a longer bmc_power_seconds. A firmware that ignores orders is "
        "sick; `--recover` restarts the BMC and tries again."
    )


class ShutdownIgnored(BmcError):
    """The BMC pressed the power button, and the system went on."""

    template = "{node}: the system did not shut down within {seconds:.0f} s"
    help = "It hangs, or does not listen to the power button; `perfci lab power off {node}` cuts the power."
    cures = frozenset()


class BmcGarbled(BmcError):
    """Its answers make no sense."""

    template = "{node}: the BMC at {address} answers what makes no sense: {reason}"
    help = "Restart the BMC with `--recover`, and look for newer firmware."


class BmcDeadline(BmcError):
    """It was not done in time."""

    template = "{node}: not done within {seconds:.0f} s: {reason}"
    help = "Give more time with --deadline, or look at this BMC alone."

    def __init__(self, *, waiting: bool = False, **fields: Any) -> None:
        """Tell whether the machine was only waited for, within its `bmc_power_seconds`."""
        self.waiting = waiting
        super().__init__(**fields)

    @property
    def remedies(self) -> frozenset[Rung]:
        """Return what can help: nothing is wrong with a machine that still had time to switch."""
        return frozenset() if self.waiting else self.cures


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
