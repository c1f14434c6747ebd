"""What a virtual lab consists of: pure names and numbers, all derived from a few."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from perfci.lab.virtual.errors import VirtualLabTooLarge

BRIDGE = "br-prov"
BMC_PORT = 623
BMC_USERNAME = "perfci"
BMC_NETWORK = IPv4Network("127.90.0.0/16")
"""The out-of-band network: all of 127.0.0.0/8 is local to the namespace's loopback interface."""
TUNNEL_BRIDGE = "br-data"
TUNNEL_INTERFACE = "data0"
"""The second network card of an nspawn node: user-space Open vSwitch takes it over for tunnels."""
TUNNEL_MTU = 9000
TUNNEL_NETWORK = IPv4Network("198.18.0.0/16")
"""For tests of networks; see RFC 2544, C.2.2. Labs don't meet: each has a namespace of its own."""
FIRST_NODE = 10
"""The first node has the number 1 and the address 11 of the provisioning network; .1 is the controller."""
MOST_NODES = 65_000
"""As many as the out-of-band network has addresses, about."""


class MachineKind(StrEnum):
    """What stands behind the simulated BMCs."""

    NULL = "null"
    """State only; thousands of them."""
    NSPAWN = "nspawn"
    """A systemd and an SSH server of its own in a folder, for each node."""
    QEMU = "qemu"
    """A virtual machine with real firmware."""


class Firmware(StrEnum):
    """The firmware of a qemu node."""

    BIOS = "bios"
    UEFI = "uefi"


@dataclass(frozen=True, slots=True)
class PlannedNode:
    """One node: where its BMC is, and its network card on the provisioning bridge."""

    number: int
    name: str
    bmc_address: str
    mac: str
    address: str
    """Its fixed address in the provisioning network; empty for a `null` node, which has no network."""
    tunnel_address: str = ""
    """Its address in the network for tunnels, with a card of its own; empty where it has none."""
    firmware: Firmware = Firmware.BIOS


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole virtual lab. Two labs are the same where their plans are equal."""

    project: Path
    """Folder with roles/ and inventory/."""
    state_dir: Path
    kind: MachineKind
    size: int
    network: IPv4Network
    firmwares: tuple[Firmware, ...] = (Firmware.BIOS,)
    """Of qemu nodes, in turn: with two of them, every second node has the second."""

    @property
    def site(self) -> str:
        """Name of the namespace, the control group, and the beginning of all other names on this machine."""
        return site_name(self.state_dir)

    @property
    def controller_address(self) -> str:
        """The controller's address on the provisioning bridge."""
        return str(self.network[1])

    @property
    def nodes(self) -> tuple[PlannedNode, ...]:
        """All nodes, by number. Raises VirtualLabTooLarge."""
        room = (
            MOST_NODES
            if self.kind is MachineKind.NULL
            else max(0, self.network.num_addresses - FIRST_NODE - 2)
        )
        if self.size > room:
            network = BMC_NETWORK if self.kind is MachineKind.NULL else self.network
            raise VirtualLabTooLarge(network=network, room=room, wanted=self.size)
        return tuple(self._node(number) for number in range(1, self.size + 1))

    def _node(self, number: int) -> PlannedNode:
        return PlannedNode(
            number=number,
            name=f"node-{number}",
            bmc_address=str(BMC_NETWORK[number]),
            mac=mac_of(number),
            address="" if self.kind is MachineKind.NULL else str(self.network[FIRST_NODE + number]),
            tunnel_address=str(TUNNEL_NETWORK[FIRST_NODE + number])
            if self.kind is MachineKind.NSPAWN
            else "",
            firmware=self.firmwares[(number - 1) % len(self.firmwares)],
        )

    def describe(self) -> str:
        """Return the lab in a few words."""
        words = f"{self.size} {self.kind} node{'s' if self.size != 1 else ''} in {self.network}"
        return (
            f"{words} with {' and '.join(self.firmwares)} firmware"
            if self.kind is MachineKind.QEMU
            else words
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as JSON can hold it."""
        return {
            "project": str(self.project),
            "state_dir": str(self.state_dir),
            "kind": str(self.kind),
            "size": self.size,
            "network": str(self.network),
            "firmware": ",".join(self.firmwares),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Plan:
        """Return the plan that `as_dict` wrote. Raises KeyError, TypeError or ValueError for others."""
        return cls(
            project=Path(data["project"]),
            state_dir=Path(data["state_dir"]),
            kind=MachineKind(data["kind"]),
            size=int(data["size"]),
            network=IPv4Network(data["network"]),
            firmwares=tuple(Firmware(word) for word in data["firmware"].split(",")),
        )


def site_name(state_dir: Path) -> str:
    """Return the name of the lab of a state folder: every checkout has one of its own."""
    digest = hashlib.sha256(os.fsencode(os.path.realpath(state_dir))).hexdigest()
    return f"pci-{digest[:6]}"


def mac_of(number: int) -> str:
    """Return a node's MAC address, in the range that QEMU and others use for virtual machines."""
    return ":".join(f"{byte:02x}" for byte in (0x52, 0x54, 0x00, *number.to_bytes(3, "big")))


def unknown_mac(mac: str) -> str:
    """Return a MAC address that no DHCP server was told of: the same with the locally administered 5e:."""
    return f"5e{mac[2:]}"
