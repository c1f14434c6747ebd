"""The simulated BMCs of benchmarks/bmc.py, in a process of their own, told what to be by lines on stdin."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass, field

from bmc_addresses import PASSWORD, USERNAME, addresses

from perfci.lab.virtual.ipmi import BootFlags, Faults, SessionLimits, VirtualBmc
from perfci.lab.virtual.machine import BootFrom
from perfci.lab.virtual.null import NullMachine

HUNG_EACH, DROP = 20, 0.02
CYCLE_SECONDS = 0.05


@dataclass
class Rack:
    """All BMCs and what stands behind them."""

    bmcs: list[VirtualBmc] = field(default_factory=list)
    machines: list[NullMachine] = field(default_factory=list)
    boots: list[BootFlags] = field(default_factory=list)

    async def fill(self, count: int) -> None:
        """Start them."""
        for address in addresses(count):
            boot = BootFlags()
            machine = NullMachine(boot.next_boot)
            bmc = VirtualBmc(
                address,
                {USERNAME: PASSWORD.encode()},
                machine,
                boot=boot,
                faults=Faults(),
                limits=SessionLimits(cycle_seconds=CYCLE_SECONDS),
            )
            await bmc.listen(address)
            self.bmcs.append(bmc)
            self.machines.append(machine)
            self.boots.append(boot)

    async def prepare(self, *, sick: bool) -> None:
        """Have all machines on, booted from disk, with nothing ordered; and well, or not."""
        for number, (bmc, machine, boot) in enumerate(zip(self.bmcs, self.machines, self.boots, strict=True)):
            boot.set(5, bytes(5))
            await machine.power_off()
            await machine.power_on()
            hung = sick and number % HUNG_EACH == 0
            bmc.faults.change({"hang": hung, "drop": DROP if sick and not hung else 0.0})

    def report(self) -> dict[str, int]:
        """Return how many machines are as wanted, and how many sessions were left open."""
        done = [one.is_on and one.booted.device is BootFrom.NETWORK for one in self.machines]
        return {"done": sum(done), "sessions": sum(bmc.sessions for bmc in self.bmcs)}


async def serve(count: int) -> None:
    """Obey lines on stdin: `well`, `sick`, `report`."""
    rack = Rack()
    await rack.fill(count)
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    while line := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        if line == "report":
            await asyncio.sleep(2 * CYCLE_SECONDS)  # clients that do not wait leave machines in mid-cycle
            print(json.dumps(rack.report()), flush=True)
        else:
            await rack.prepare(sick=line == "sick")
            print("prepared", flush=True)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
