"""A machine with real firmware, a network card that boots by PXE, a disk and a serial port: QEMU.

QEMU ends at every reset (`-no-reboot`) and is started anew, so that the boot orders of the BMC are read at
each POST, as a real machine does. It uses KVM where the processor has virtualisation, else emulation.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perfci.lab.virtual import cgroups, site
from perfci.lab.virtual.commands import run_async, started
from perfci.lab.virtual.machine import Boot, BootFrom
from perfci.lab.virtual.plan import Firmware, unknown_mac
from perfci.lab.virtual.powered import Ending, unless
from perfci.lab.virtual.qmp import GUEST_RESET, Monitor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfci.lab.virtual.console import SerialConsole
    from perfci.lab.virtual.faults import MachineFaults
    from perfci.lab.virtual.folders import NodeFolder
    from perfci.lab.virtual.plan import Plan, PlannedNode

PROGRAM = "qemu-system-x86_64"
MEMORY_MIB = 1024
DISK_SIZE = "8G"
"""Only what is written takes space."""
SMALL_DISK_SIZE = "64M"
EFI_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
EFI_VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
"""Debian's package ovmf."""
WRITTEN_BYTES = 16 << 20
"""A machine with the fault `dies_in_deploy` dies after it has written so much."""
BLOCK_BYTES = 512
"""The unit of st_blocks; see inode(7)."""
CPU_INFO = Path("/proc/cpuinfo")
EMULATION, VIRTUALISATION = "tcg", "kvm:tcg"
"""QEMU's accelerators: the second takes KVM where it can be had."""
ORDERS = {
    BootFrom.NETWORK: (BootFrom.NETWORK, BootFrom.DISK),
    BootFrom.DISK: (BootFrom.DISK,),
    BootFrom.DEFAULT: (BootFrom.DISK, BootFrom.NETWORK),
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Machinery:
    """What one start of QEMU is made of."""

    name: str
    disk: Path
    mac: str
    tap: str
    order: tuple[BootFrom, ...]
    efi_variables: Path | None
    """Where UEFI keeps its variables; None for a BIOS."""
    monitor: int
    console: int
    """File descriptors of connected sockets."""
    accelerator: str = EMULATION


def arguments(machine: Machinery) -> list[str]:
    """Return the command that starts QEMU; its processor stands still until the monitor says `cont`."""
    return [
        PROGRAM,
        *("-name", machine.name),
        *("-machine", f"pc,accel={machine.accelerator},graphics=off"),
        *("-cpu", "max"),
        *("-m", str(MEMORY_MIB)),
        *("-no-user-config", "-nodefaults", "-no-reboot", "-S"),
        *("-display", "none", "-vga", "none"),
        *("-chardev", f"socket,id=monitor,fd={machine.monitor}", "-mon", "chardev=monitor,mode=control"),
        *("-chardev", f"socket,id=console,fd={machine.console}", "-serial", "chardev:console"),
        *("-device", "virtio-rng-pci"),
        *_firmware(machine.efi_variables),
        *_disk(machine),
        *_network(machine),
        *("-boot", "strict=on"),
    ]


def boot_order(device: BootFrom, firmware: Firmware) -> tuple[BootFrom, ...]:
    """Return what QEMU tells the firmware; nothing where UEFI goes by the boot order in its own variables."""
    return () if (device, firmware) == (BootFrom.DEFAULT, Firmware.UEFI) else ORDERS[device]


def accelerator(cpu_info: str) -> str:
    """Return what to run a machine with, by /proc/cpuinfo.

    A KVM without the processor's own virtualisation, as some clouds have it, does not get through real
    mode: the firmware hangs.
    """
    flags = {word for line in cpu_info.splitlines() if line.startswith("flags") for word in line.split()}
    return VIRTUALISATION if flags & {"vmx", "svm"} else EMULATION


def _firmware(variables: Path | None) -> Iterator[str]:
    if variables is None:
        return
    yield from ("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={EFI_CODE}")
    yield from ("-drive", f"if=pflash,unit=1,format=raw,file={_escaped(variables)}")


def _disk(machine: Machinery) -> Iterator[str]:
    # What the host loses with its power, the lab may lose as well.
    yield from ("-drive", f"if=none,id=disk,format=qcow2,cache=unsafe,file={_escaped(machine.disk)}")
    yield from ("-device", f"virtio-blk-pci,drive=disk,serial={machine.name}{_index(machine, BootFrom.DISK)}")


def _network(machine: Machinery) -> Iterator[str]:
    yield from ("-netdev", f"tap,id=network,ifname={machine.tap},script=no,downscript=no")
    index = _index(machine, BootFrom.NETWORK)
    # UEFI boots by PXE of its own, as servers do; the card's ROM, which has iPXE, would come before it.
    rom = ",romfile=" if machine.efi_variables else ""
    yield from ("-device", f"virtio-net-pci,netdev=network,mac={machine.mac}{rom}{index}")


def _index(machine: Machinery, device: BootFrom) -> str:
    return f",bootindex={machine.order.index(device) + 1}" if device in machine.order else ""


def _escaped(path: Path) -> str:
    """Return a path within an option of QEMU, where a comma is doubled."""
    return str(path).replace(",", ",,")


class QemuHardware:
    """One node: its disk, its tap interface and its control group."""

    def __init__(
        self,
        plan: Plan,
        node: PlannedNode,
        folder: NodeFolder,
        faults: MachineFaults,
        console: SerialConsole,
    ) -> None:
        self._plan = plan
        self._node = node
        self._folder = folder
        self._faults = faults
        self._console = console
        self._group = f"{plan.site}/{node.name}"
        self._folders: tuple[Path, ...] = ()
        self._tap = ""
        self._monitor: Monitor | None = None
        self._accelerator = accelerator(CPU_INFO.read_text(encoding="ascii", errors="replace"))
        self.stage = ""

    async def plug(self) -> None:
        """Make the control group, the tap interface, and the disk where there is none yet."""
        self.stage = ""
        self._folders = cgroups.make(self._group)
        self._tap = await site.plug_tap(self._plan, self._node)
        await self._make_disk(self._folder.image, DISK_SIZE)

    async def run(self, boot: Boot) -> Ending:
        """Run QEMU until the system ends by itself."""
        self.stage = f"runs, booted from {boot.device}"
        if boot.device is BootFrom.SETUP:
            self.stage = "in setup"
            await asyncio.Event().wait()
        from_network = boot.device is BootFrom.NETWORK
        disk = self._folder.image
        if from_network and self._faults.disk_full:
            disk = self._folder.small_image
            await self._make_disk(disk, SMALL_DISK_SIZE)
        mac = unknown_mac(self._node.mac) if from_network and self._faults.pxe_nak else self._node.mac
        running = self._run_qemu(disk, mac, boot_order(boot.device, self._node.firmware))
        if not self._faults.dies_in_deploy:
            return await running
        before = written(disk)
        return await unless(lambda: written(disk) - before > WRITTEN_BYTES, running)

    async def press(self) -> bool:
        """Press the power button, by ACPI."""
        if self._monitor is None:
            return False
        self._monitor.order("system_powerdown")
        return True

    async def unplug(self) -> None:
        """End QEMU, take away the tap interface and the control group."""
        await asyncio.to_thread(cgroups.clear, self._group)
        await site.unplug(self._plan, self._node)

    async def scrap(self) -> None:
        """Remove the node's folder."""
        await run_async("rm", "--recursive", "--force", "--one-file-system", str(self._folder.root))

    async def _run_qemu(self, disk: Path, mac: str, order: tuple[BootFrom, ...]) -> Ending:
        monitor, its_monitor = socket.socketpair()
        console, its_console = socket.socketpair()
        machinery = Machinery(
            name=self._node.name,
            disk=disk,
            mac=mac,
            tap=self._tap,
            order=order,
            efi_variables=self._efi_variables(),
            monitor=its_monitor.fileno(),
            console=its_console.fileno(),
            accelerator=self._accelerator,
        )
        self._console.connect(console.detach())
        self._monitor = await Monitor.over(monitor)
        try:
            with its_monitor, its_console, self._folder.qemu_log.open("ab") as output:
                command = cgroups.entering(self._folders, arguments(machinery))
                ends = (machinery.monitor, machinery.console)
                async with started(command, output=output.fileno(), pass_fds=ends) as process:
                    # Only QEMU has its ends now: they close when it ends.
                    its_monitor.close()
                    its_console.close()
                    self._monitor.order("qmp_capabilities", "cont")
                    reason = await self._monitor.reason_of_end()
                    status = await process.wait()
        finally:
            self._monitor.close()
            self._monitor = None
            self._console.disconnect()
        if status:
            log.error("%s: QEMU left with %d; see %s", self._node.name, status, self._folder.qemu_log)
        return Ending.RESET if reason == GUEST_RESET else Ending.OFF

    def _efi_variables(self) -> Path | None:
        """Return where UEFI keeps its variables, made at its first use; None where the machine has a BIOS."""
        if self._node.firmware is not Firmware.UEFI:
            return None
        if not self._folder.efi_variables.exists():
            shutil.copyfile(EFI_VARIABLES, self._folder.efi_variables)
        return self._folder.efi_variables

    async def _make_disk(self, file: Path, size: str) -> None:
        if not await asyncio.to_thread(file.exists):
            await run_async("qemu-img", "create", "-q", "-f", "qcow2", str(file), size)


def written(disk: Path) -> int:
    """Return how many bytes a disk takes on the host."""
    return disk.stat().st_blocks * BLOCK_BYTES
