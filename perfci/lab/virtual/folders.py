"""Where a virtual lab keeps its things: every place below the state folder, named once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class LabFolder:
    """`<state>/virtual`. Nothing is created by asking for a name."""

    root: Path

    @classmethod
    def of(cls, state_dir: Path) -> LabFolder:
        """Return the folder of a state folder's lab."""
        return cls(state_dir / "virtual")

    @property
    def plan(self) -> Path:
        """The plan that the lab was made by, as JSON."""
        return self.root / "lab.json"

    @property
    def control(self) -> Path:
        """The socket of the lab's process."""
        return self.root / "control.sock"

    @property
    def log(self) -> Path:
        """The log of the lab's process."""
        return self.root / "daemon.log"

    @property
    def bmc_password(self) -> Path:
        """The password of all BMCs of this lab, for root's eyes."""
        return self.root / "bmc-password"

    def node(self, node: str) -> NodeFolder:
        """Return the folder of one node."""
        return NodeFolder(self.root / "nodes" / node)


@dataclass(frozen=True, slots=True)
class NodeFolder:
    """What one machine consists of."""

    root: Path

    @property
    def console(self) -> Path:
        """All that came over its console since the lab was made."""
        return self.root / "console.log"

    @property
    def disk(self) -> Path:
        """The disk of an nspawn node: a root file system."""
        return self.root / "disk"

    @property
    def scratch(self) -> Path:
        """Temporary files of an nspawn node's deployment: what a machine has in its ramdisk."""
        return self.root / "scratch"

    @property
    def lease(self) -> Path:
        """What DHCP told the firmware of an nspawn node."""
        return self.root / "lease"

    @property
    def boot_script(self) -> Path:
        """The iPXE script that the firmware of an nspawn node has read."""
        return self.root / "boot.ipxe"

    @property
    def image(self) -> Path:
        """The disk of a qemu node."""
        return self.root / "disk.qcow2"

    @property
    def small_image(self) -> Path:
        """The disk that a qemu node has while it suffers from `disk_full`."""
        return self.root / "small.qcow2"

    @property
    def qemu_log(self) -> Path:
        """What QEMU itself had to say."""
        return self.root / "qemu.log"

    @property
    def efi_variables(self) -> Path:
        """What the UEFI firmware of a qemu node keeps over a power cycle."""
        return self.root / "efi-variables.fd"
