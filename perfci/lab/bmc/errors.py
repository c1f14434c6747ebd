"""What can be wrong with a BMC, in words for people."""

from __future__ import annotations

from typing import Any, ClassVar

from perfci.errors import LabError, UsageError
from perfci.lab.bmc.base import Rung

_ALL_BUT_SESSIONS = frozenset({Rung.RETRY, Rung.WARM_RESET, Rung.COLD_RESET, Rung.OUTLET})


class BmcError(LabError):
    """A BMC did not do what perfci ordered. Every error of one BMC is a kind of this error."""

    template = "{node}: {reason}"
    help = "docs/errors.md explains the kinds."
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
    """No answer, or no more answers. A `deaf` BMC lets nobody log in, so perfci can't order it to restart."""

    template = "{node}: the BMC at {address} does not answer: {reason}"
    help = (
        "Check the address, the cable, and whether IPMI over LAN or Redfish is switched on. Cutting the "
        "mains brings a hung BMC back; `perfci lab power cycle {node} --recover` does that if the "
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
    """The network says that there is no such BMC: a closed port, an unknown name, no route.

    That is how things are set up, here or there. No BMC is sick because of it.
    """

    template = "{node}: there is no BMC at {address}, {port}: {reason}"
    help = (
        "Correct bmc_address, bmc_port and bmc_protocol of {node} in the inventory, check this machine's "
        "name servers and routes, or switch on IPMI over LAN or Redfish in the BMC."
    )
    cures = frozenset({Rung.RETRY})


class BmcCredentialsWrong(BmcError):
    """The BMC does not know this user, or the password is wrong."""

    template = "{node}: the BMC at {address} refuses user {username!r}: {reason}"
    help = "Correct bmc_username and bmc_password (or bmc_password_file) of {node} in the inventory."
    cures = frozenset()


class BmcRightsMissing(BmcError):
    """The user and the password are right, but the user lacks the privilege."""

    template = "{node}: user {username!r} of the BMC at {address} may not {order}: {reason}"
    help = (
        "The password is right. Give this user the privilege Operator on the BMC's LAN channel, or "
        "Administrator if perfci is to restart the BMC."
    )
    cures = frozenset()


class BmcCertificateUntrusted(BmcError):
    """No trusted authority signed the BMC's certificate, or it is for another name."""

    template = "{node}: perfci does not trust the certificate of {address}: {reason}"
    help = (
        "Set bmc_redfish_verify of {node} to the file of the certificate authority that signed it. If "
        "nobody else can reach the BMCs' network, `bmc_redfish_verify: false` switches the check off."
    )
    cures = frozenset()


class BmcSessionsFull(BmcError):
    """All sessions of the BMC are taken, usually by clients that never closed theirs."""

    template = "{node}: the BMC at {address} has no free session: {reason}"
    help = (
        "The BMC drops stale sessions after a minute or so. `--recover` waits for that and closes the others."
    )
    cures = frozenset({Rung.RETRY, Rung.CLOSE_SESSIONS, Rung.OUTLET})


class BmcUnsupported(BmcError):
    """perfci and the BMC have no protocol in common."""

    template = "{node}: the BMC at {address} can't be used: {reason}"
    help = (
        "perfci needs Redfish, or IPMI 2.0 with cipher suite 17 or 3. Set bmc_protocol to what the BMC "
        "speaks, and bmc_cipher_suite: 3 if it lacks suite 17."
    )
    cures = frozenset()


class BmcRefused(BmcError):
    """The BMC refused the order; `code` is IPMI's completion code or HTTP's status, as text."""

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
        "A slow machine needs a longer bmc_power_seconds. If the firmware ignores orders, `--recover` "
        "restarts the BMC and tries again."
    )


class ShutdownIgnored(BmcError):
    """The BMC pressed the power button, and the system kept running."""

    template = "{node}: the system did not shut down within {seconds:.0f} s"
    help = "The system hangs, or ignores the power button. `perfci lab power off {node}` cuts the power."
    cures = frozenset()


class BmcGarbled(BmcError):
    """The BMC's answers make no sense."""

    template = "{node}: the BMC at {address} gives an answer that makes no sense: {reason}"
    help = "Restart the BMC with `--recover`, and look for newer firmware."


class BmcDeadline(BmcError):
    """The time limit passed before the order was done."""

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
    help = "The node's power was not cut. Try the inventory's pdu_command by hand."


class OutletCommandInvalid(UsageError):
    """The inventory's pdu_command has the wrong form."""

    template = "{node}: pdu_command {command!r}: {reason}"
    help = "Write a program and its arguments. perfci fills in {{outlet}} and {{node}}; no shell is involved."


class ConsoleNeedsTerminal(UsageError):
    """`perfci lab console` was started without a terminal."""

    template = "perfci lab console needs a terminal on both input and output; this is a pipe or a file"
    help = "Run it in a terminal; over SSH, use `ssh -t HOST perfci lab console NODE`."
