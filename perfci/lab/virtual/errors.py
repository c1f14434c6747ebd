"""What can be in the way of having a virtual lab."""

from __future__ import annotations

from perfci.errors import LabError, UsageError


class RootNeeded(LabError):
    """Only root may make and enter the network namespaces and control groups of a virtual lab."""

    template = "{what} needs root: it works on network namespaces and control groups"
    help = "Run it with sudo."


class ProgramsMissing(LabError):
    """The virtual lab runs Debian's programs, and some are not installed."""

    template = "the virtual lab needs programs that are not here: {programs}"
    help = "Install them: sudo .venv/bin/ansible-playbook playbooks/virtual.yml"


class HostCommandFailed(LabError):
    """A program that makes or removes a part of the virtual lab failed."""

    template = "{command}: {reason}"
    help = "`perfci virtual down` removes what is half made. The kernel may lack what the command needs."


class VirtualLabDiffers(UsageError):
    """Another virtual lab is up than the wanted one."""

    template = "another virtual lab is up: {found}; wanted: {wanted}"
    help = "Take it down first: perfci virtual down"


class VirtualLabDown(UsageError):
    """No virtual lab is up."""

    template = "no virtual lab is up for {state_dir}"
    help = "Make one: perfci virtual up"


class VirtualLabBroken(LabError):
    """The process of the virtual lab does not start or does not answer."""

    template = "the process of the virtual lab {what}: {reason}"
    help = (
        "`perfci virtual up` removes what is left and makes the lab again; `perfci virtual down` only "
        "removes it. Until then its log is {log}"
    )


class VirtualLabTooLarge(UsageError):
    """More nodes are wanted than there are addresses."""

    template = "{network} has addresses for {room} nodes; wanted: {wanted}"
    help = "Give a larger network, such as --network 10.240.0.0/16."


class VirtualInventoryTaken(UsageError):
    """The project's inventory belongs to a virtual lab of another state folder."""

    template = "{file} belongs to the virtual lab in {folder}"
    help = "Take that lab down first (with its PERFCI_STATE_DIR), or use another checkout."


class VirtualPathTooLong(UsageError):
    """Sockets below the state folder would have a longer path than Linux allows."""

    template = "the path {path} is longer than the {limit} bytes that Linux allows for a socket"
    help = "Set PERFCI_STATE_DIR to a folder with a shorter path."


class VirtualNodeUnknown(UsageError):
    """No node of the virtual lab has this name."""

    template = "the virtual lab has no node {name!r}; there are: {known}"
    help = "`perfci virtual status` shows them."


class FaultInvalid(UsageError):
    """A fault does not exist, or its value has the wrong form."""

    template = "fault {text!r}: {reason}"
    help = "`perfci virtual fault --help` explains every fault."
