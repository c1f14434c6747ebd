"""The process of a virtual lab: all its BMCs, and the machines behind them.

It runs inside the site's network namespace: `python -m perfci.lab.virtual.daemon FOLDER READY`. FOLDER is the
lab's, with its plan; READY is a file descriptor to which a byte is written once every BMC answers.
On TERM it switches all machines off and removes what it made for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfci.lab.virtual import control, faults
from perfci.lab.virtual.console import SerialConsole
from perfci.lab.virtual.errors import VirtualNodeUnknown
from perfci.lab.virtual.faults import MachineFaults
from perfci.lab.virtual.folders import LabFolder
from perfci.lab.virtual.ipmi import BootFlags, Faults, VirtualBmc
from perfci.lab.virtual.nspawn import NspawnHardware
from perfci.lab.virtual.null import NullMachine
from perfci.lab.virtual.plan import BMC_PORT, BMC_USERNAME, MachineKind, Plan
from perfci.lab.virtual.powered import PoweredMachine
from perfci.lab.virtual.qemu import QemuHardware
from perfci.parsing import json_value

if TYPE_CHECKING:
    from perfci.lab.virtual.plan import PlannedNode

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VirtualNode:
    """One BMC with its machine."""

    plan: PlannedNode
    bmc: VirtualBmc
    machine: NullMachine | PoweredMachine
    faults: MachineFaults

    def status(self) -> dict[str, Any]:
        """Return what can be told of it, as JSON holds it."""
        return {
            "name": self.plan.name,
            "bmc_address": self.plan.bmc_address,
            "address": self.plan.address,
            "mac": self.plan.mac,
            "power": "on" if self.machine.is_on else "off",
            "stage": self.machine.stage,
            "next_boot": str(self.bmc.boot.order.device),
            "sessions": self.bmc.sessions,
            "faults": faults.shown(self.bmc.faults, self.faults),
        }


class Lab:
    """All nodes, and what can be asked of them."""

    def __init__(self, plan: Plan, folder: LabFolder) -> None:
        self._plan = plan
        credentials = {BMC_USERNAME: folder.bmc_password.read_bytes().strip()}
        self._nodes = {node.name: make_node(plan, node, folder, credentials) for node in plan.nodes}

    async def open(self) -> None:
        """Let every BMC listen."""
        for node in self._nodes.values():
            await node.bmc.listen(node.plan.bmc_address, BMC_PORT)

    async def close(self) -> None:
        """Close the BMCs, switch all machines off and remove what was made for them."""
        for node in self._nodes.values():
            await node.bmc.close()
        ended = await asyncio.gather(
            *(node.machine.close() for node in self._nodes.values()), return_exceptions=True
        )
        for error in ended:
            if error is not None:
                log.error("while closing: %s", error)

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer one request of the control socket. Raises PerfciError, KeyError or TypeError."""
        if request["do"] == "status":
            nodes = [node.status() for node in self._nodes.values()]
            return {"plan": self._plan.as_dict(), "namespace": self._plan.site, "nodes": nodes}
        node = self._node(request["node"])
        match request["do"]:
            case "fault":
                faults.change(node.bmc.faults, node.faults, dict(request["faults"]))
            case "clear":
                faults.clear(node.bmc.faults, node.faults)
            case "outlet":
                await node.bmc.power_cut()
            case other:
                raise KeyError(other)
        log.info("%s: %s, now with faults %s", node.plan.name, request["do"], node.status()["faults"])
        return {"node": node.status()}

    def _node(self, name: str) -> VirtualNode:
        if name not in self._nodes:
            names = list(self._nodes)
            known = ", ".join(names) if len(names) <= _FEW else f"{names[0]} to {names[-1]}"
            raise VirtualNodeUnknown(name=name, known=known)
        return self._nodes[name]


_FEW = 12


def make_node(plan: Plan, node: PlannedNode, folder: LabFolder, credentials: dict[str, bytes]) -> VirtualNode:
    """Return a node that is off, with its BMC not listening yet."""
    boot, bmc_faults, machine_faults = BootFlags(), Faults(), MachineFaults()
    console = None
    machine: NullMachine | PoweredMachine
    if plan.kind is MachineKind.NULL:
        machine = NullMachine(boot.next_boot)
    else:
        files = folder.node(node.name)
        files.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        console = SerialConsole(files.console)
        make = NspawnHardware if plan.kind is MachineKind.NSPAWN else QemuHardware
        hardware = make(plan, node, files, machine_faults, console)
        machine = PoweredMachine(node.name, hardware, boot.next_boot, machine_faults, folder.log)
    bmc = VirtualBmc(node.name, credentials, machine, boot=boot, faults=bmc_faults, console=console)
    return VirtualNode(node, bmc, machine, machine_faults)


async def serve(folder: LabFolder, ready: int) -> None:
    """Run a lab until TERM; write to `ready` when it is up."""
    plan = Plan.from_dict(json_value(folder.plan.read_bytes()))
    lab = Lab(plan, folder)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(lab.close)
        await lab.open()
        server = await control.listen(folder.control, lab.answer)
        stack.callback(server.close)
        log.info("up: %s", plan.describe())
        with contextlib.suppress(BrokenPipeError), os.fdopen(ready, "wb") as asker:
            asker.write(b"\n")
        await stop.wait()
        log.info("going down")


def main(arguments: list[str]) -> None:
    """Run the lab of a folder."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # one socket for each BMC
    folder, ready = arguments
    asyncio.run(serve(LabFolder(Path(folder)), int(ready)))


if __name__ == "__main__":
    main(sys.argv[1:])
