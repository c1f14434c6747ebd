"""A machine whose system runs in systemd-nspawn: a real systemd and sshd, without a kernel of its own.

Its disk is a folder. From the network it is deployed as a machine is, over DHCP and HTTP, by the script
that the deploy ramdisk runs; see `pxe`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from perfci.lab.virtual import cgroups, pxe, site
from perfci.lab.virtual.commands import attend, run_async
from perfci.lab.virtual.machine import Boot, BootFrom
from perfci.lab.virtual.plan import unknown_mac
from perfci.lab.virtual.powered import Ending, unless

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfci.lab.virtual.console import SerialConsole
    from perfci.lab.virtual.faults import MachineFaults
    from perfci.lab.virtual.folders import NodeFolder
    from perfci.lab.virtual.plan import Plan, PlannedNode

REBOOT_STATUS = 133
"""How `systemd-nspawn --keep-unit` leaves when the system rebooted: whoever started it, starts it again."""
POWER_OFF_SIGNAL = signal.SIGRTMIN + 4
"""What systemd as PID 1 takes for a pressed power button; see systemd(1), SIGNALS."""
ROOT = Path("/mnt")
"""Where the disk is seen by systemd-nspawn, in a mount namespace of its own."""
CAPABILITIES = "CAP_NET_ADMIN,CAP_NET_RAW"
SMALL_DISK = "size=8m"
DEPLOYED = 0
"""Exit status of the deploy script where the machine shall be reset; after any other it is switched off."""
ORDERS = {
    BootFrom.NETWORK: (BootFrom.NETWORK, BootFrom.DISK),
    BootFrom.DISK: (BootFrom.DISK,),
    BootFrom.DEFAULT: (BootFrom.DISK, BootFrom.NETWORK),
    BootFrom.SETUP: (),
}
"""Where the firmware looks, in turn; what the network has no answer for is booted from disk."""

_PRIVATE_MOUNTS = """\
set -e
mount --bind "$1" /mnt
mount -t tmpfs -o mode=1777 tmpfs /tmp
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn
shift
exec "$@"
"""
"""systemd-nspawn leaves folders in /tmp and /run when it is killed: here they vanish with it."""

_SMALL_DISK = 'mount -t tmpfs -o "$1" tmpfs "$2" && shift 2 && exec "$@"'

log = logging.getLogger(__name__)


class NspawnHardware:
    """One node: its folder, its network namespace and its control group."""

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
        self._namespace = site.node_namespace(plan.site, node)
        self._folders: tuple[Path, ...] = ()
        self.stage = ""

    async def plug(self) -> None:
        """Make the control group and the network card."""
        self.stage = ""
        self._folders = cgroups.make(self._group)
        await self._plug_network(self._node.mac)

    async def run(self, boot: Boot) -> Ending:
        """Boot from where it is told, and run until the system ends by itself."""
        for device in ORDERS[boot.device]:
            if device is BootFrom.NETWORK:
                ending = await self._boot_from_network()
            elif bootable(self._folder.disk):
                ending = await self._boot_from_disk()
            else:
                ending = None
            if ending is not None:
                return ending
        self._say("in setup" if boot.device is BootFrom.SETUP else "no boot device")
        await asyncio.Event().wait()
        return Ending.OFF

    async def press(self) -> bool:
        """Ask the system's PID 1 to power off."""
        for pid in cgroups.members(self._group):
            if is_init(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, POWER_OFF_SIGNAL)
                return True
        return False

    async def unplug(self) -> None:
        """End all that runs, take away the network card and the control group."""
        await asyncio.to_thread(cgroups.clear, self._group)
        await site.unplug(self._plan, self._node)

    async def scrap(self) -> None:
        """Remove the node's folder."""
        await run_async("rm", "--recursive", "--force", "--one-file-system", str(self._folder.root))

    # --- firmware ---------------------------------------------------------------------------------------

    async def _boot_from_network(self) -> Ending | None:
        """Do what the controller says; None where it says nothing, for the next boot device."""
        if self._faults.pxe_nak:
            await self._plug_network(unknown_mac(self._node.mac))
        url = await self._ask_controller()
        if not url:
            await self._plug_network(self._node.mac)  # the system shall find a card that nobody used
            return None
        if not self._faults.dies_in_deploy:
            return await self._deploy(url)
        partial = self._folder.disk.with_name(f"{self._folder.disk.name}.new")
        return await unless(lambda: partial.is_dir() and any(partial.iterdir()), self._deploy(url))

    async def _ask_controller(self) -> str:
        """Return the address from which a deployment is directed; empty where there is none."""
        self._say("DHCP")
        answer = self._folder.lease
        answer.unlink(missing_ok=True)
        await self._in_node(pxe.dhcp(site.NODE_INTERFACE))
        if not answer.exists():
            self._say("no answer to DHCP")
            return ""
        lease = pxe.Lease.parse(answer.read_text(encoding="utf-8", errors="replace"))
        chain = lease.boot_file
        for _ in range(pxe.MAX_CHAIN):
            if not chain.startswith("http://"):
                break
            found = await self._fetch_script(chain)
            if found.url:
                return found.url
            chain = found.chain
        self._say(f"nothing to boot, from {lease.boot_file or 'no boot file'}")
        return ""

    async def _fetch_script(self, url: str) -> pxe.Script:
        url = pxe.expand(url, self._node.mac)
        self._say(f"fetches {url}")
        file = self._folder.boot_script
        if await self._in_node(pxe.fetch(url, file)):
            return pxe.Script()
        text = file.read_text(encoding="utf-8", errors="replace")
        return pxe.read_script(text.splitlines(), self._node.mac)

    async def _deploy(self, url: str) -> Ending:
        """Run the script of the ramdisk, with a folder for a disk."""
        self._say("deploys")
        script = self._plan.project / pxe.RAMDISK / "deploy.sh"
        scratch = self._folder.scratch
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        if self._faults.disk_full:
            small = scratch / "small"
            small.mkdir()
            disk = small / "disk"
            command = ["unshare", "--mount", "sh", "-c", _SMALL_DISK, "sh", SMALL_DISK, str(small)]
        else:
            disk, command = self._folder.disk, []
        command += ["sh", str(script), "folder", url, str(disk)]
        status = await self._in_node(command)
        shutil.rmtree(scratch, ignore_errors=True)
        self._say(f"the deployment left with {status}")
        return Ending.RESET if status == DEPLOYED else Ending.OFF

    async def _in_node(self, command: Sequence[str]) -> int:
        """Run a program of the firmware in the node's network; its output goes to the console."""
        inside = ["nsenter", f"--net={site.NAMESPACES / self._namespace}", *command]
        places = {
            "PERFCI_LEASE": str(self._folder.lease),
            "PERFCI_LEASE_SCRIPT": str(self._plan.project / pxe.RAMDISK / "lease.sh"),
            "TMPDIR": str(self._folder.scratch),
        }
        reading, writing = os.pipe()
        self._console.connect(reading)
        try:
            return await attend(
                cgroups.entering(self._folders, inside), output=writing, environment={**os.environ, **places}
            )
        finally:
            os.close(writing)
            self._console.disconnect()

    async def _plug_network(self, mac: str) -> None:
        await site.plug(self._plan, self._node, mac=mac)

    def _say(self, stage: str) -> None:
        self.stage = stage
        self._console.say(f"[firmware] {stage}")

    # --- system -----------------------------------------------------------------------------------------

    async def _boot_from_disk(self) -> Ending:
        self._say("runs its system")
        command = container(self._plan.site, self._node, self._folder.disk, self._namespace)
        ours, theirs = os.openpty()
        self._console.connect(ours)
        try:
            status = await attend(
                cgroups.entering(self._folders, command),
                stdin=theirs,
                output=theirs,
                environment=container_environment(),
            )
        finally:
            os.close(theirs)
            self._console.disconnect()
        if status not in {0, REBOOT_STATUS}:
            log.error(
                "%s: systemd-nspawn left with %d; see %s", self._node.name, status, self._folder.console
            )
        return Ending.RESET if status == REBOOT_STATUS else Ending.OFF


def container(lab: str, node: PlannedNode, disk: Path, namespace: str) -> list[str]:
    """Return the command that boots a disk folder.

    Nothing is registered with a systemd of the host, which need not have one; the control group that
    it is started in is the node's.
    """
    return [
        "unshare",
        "--mount",
        "sh",
        "-c",
        _PRIVATE_MOUNTS,
        "sh",
        str(disk),
        "systemd-nspawn",
        "--quiet",
        "--boot",
        f"--directory={ROOT}",
        f"--machine={lab}-{node.name}",
        f"--hostname={node.name}",
        "--register=no",
        "--keep-unit",
        f"--network-namespace-path={site.NAMESPACES / namespace}",
        f"--capability={CAPABILITIES}",
        "--console=interactive",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        "--settings=no",
    ]


def container_environment() -> dict[str, str]:
    """Return the environment of systemd-nspawn; see ENVIRONMENT.md of systemd."""
    return {
        **os.environ,
        "TERM": "vt220",
        "SYSTEMD_NSPAWN_LOCK": "0",  # a lock file would be left by a kill; the folder is ours alone
        "SYSTEMD_NSPAWN_TMPFS_TMP": "0",  # a tenth of the memory is little for what is built in /tmp
        "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",  # routers forward packets, which /proc/sys/net says
    }


def bootable(disk: Path) -> bool:
    """Tell whether there is a system on a disk. Its init may be a link that leads nowhere on this machine."""
    return os.path.lexists(disk / "sbin" / "init")


def is_init(pid: int) -> bool:
    """Tell whether a process is PID 1 of a PID namespace; NSpid is explained in proc_pid_status(5)."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    pids = next((line.split()[1:] for line in lines if line.startswith("NSpid:")), [])
    return len(pids) > 1 and pids[-1] == "1"
