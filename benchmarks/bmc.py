"""Boot order and power of hundreds of BMCs: perfci beside ipmitool, FreeIPMI and Ansible's modules.

    python benchmarks/bmc.py [--counts 300 1000] [--repeats 3] [--without ansible ...] [--sick]

Every machine is on and boots from its disk. What is timed: order a boot from the network, power-cycle,
see that it is on. Whether it was done is asked of the machines, not of the clients. The BMCs are perfci's
simulators with null machines, all in one process of their own, on 127.91.x.y; clients start anew each time.
Peers take turns; medians are printed. Needs root (UDP port 623), ipmitool, freeipmi-tools.

With --sick, 5 % of the BMCs hang and 2 % of all packets are lost, in each direction.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bmc_addresses import PASSWORD, USERNAME, addresses

from perfci.lab.bmc.base import BootDevice, BootOrder, PowerOrder, Target
from perfci.lab.bmc.fleet import DEADLINE_SECONDS
from perfci.lab.bmc.operations import Order
from perfci.lab.bmc.orders import Means, give

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

FORKS, XARGS = 16, 32
PEERS = ("perfci", "freeipmi", "freeipmi, cycle only", "ipmitool", "ansible")
ME = Path(__file__).resolve()
RACK = ME.with_name("bmc_rack.py")


# The clients --------------------------------------------------------------------------------------------


async def switch(count: int) -> dict[str, Any]:
    """Be perfci's client: give the order, return how long it took and what came of it."""
    targets = [Target(address, address, USERNAME, PASSWORD) for address in addresses(count)]
    order = Order(PowerOrder.CYCLE, BootOrder(BootDevice.NETWORK))
    begun = time.perf_counter()
    results = await give(targets, order, Means())
    seconds = time.perf_counter() - begun
    errors = [type(result.error).__name__ for result in results if not result.ok]
    return {"seconds": seconds, "errors": {name: errors.count(name) for name in sorted(set(errors))}}


@dataclass(frozen=True)
class Commands:
    """How each peer is told; files with the password and the hosts are in `folder`."""

    folder: Path
    count: int

    def write(self) -> None:
        """Write the files."""
        config = f"username {USERNAME}\npassword {PASSWORD}\ndriver-type LAN_2_0\n"
        self._write("freeipmi.conf", config)
        self._write("boot.conf", "Section Chassis_Boot_Flags\n\tBoot_Device PXE\nEndSection\n")
        self._write("ipmitool.exec", "chassis bootdev pxe\nchassis power cycle\nchassis power status\n")
        self._write("hosts", "\n".join(addresses(self.count)) + "\n")
        hosts = {address: {"ansible_connection": "local"} for address in addresses(self.count)}
        common = {"ansible_python_interpreter": sys.executable}
        self._write("inventory.json", json.dumps({"all": {"hosts": hosts, "vars": common}}))
        bmc = {"name": "{{ inventory_hostname }}", "user": USERNAME, "password": PASSWORD}
        tasks = [
            {"community.general.ipmi_boot": {**bmc, "bootdev": "network"}},
            {"community.general.ipmi_power": {**bmc, "state": "reset"}},
        ]
        play = {"hosts": "all", "gather_facts": False, "tasks": tasks}
        self._write("play.json", json.dumps([play]))
        self._write("ansible.cfg", "[defaults]\nany_errors_fatal = False\n")

    def freeipmi(self) -> list[list[str]]:
        """Boot order, off, on: three programs for one outcome. It waits after off and on only."""
        hosts = self._freeipmi_hosts()
        boot = ["--category=chassis", "--commit", "--filename", str(self.folder / "boot.conf")]
        return [
            ["ipmi-config", *hosts, "-F", "64", *boot],
            ["ipmipower", *hosts, "--off", "--wait-until-off"],
            ["ipmipower", *hosts, "--on", "--wait-until-on"],
        ]

    def freeipmi_cycle(self) -> list[list[str]]:
        """A power cycle alone, without boot order and without looking what came of it."""
        return [["ipmipower", *self._freeipmi_hosts(), "--cycle"]]

    def ipmitool(self) -> list[list[str]]:
        """One process and one session a host, three commands in it."""
        one = ["ipmitool", "-I", "lanplus", "-U", USERNAME, "-E", "-H", "{}"]
        run = [*one, "exec", str(self.folder / "ipmitool.exec")]
        return [["xargs", "-a", str(self.folder / "hosts"), "-P", str(XARGS), "-I", "{}", *run]]

    def ansible(self) -> list[list[str]]:
        """Two modules, one process for each host and task."""
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        play = ["-i", str(self.folder / "inventory.json"), str(self.folder / "play.json")]
        return [[program, "--forks", str(FORKS), *play]]

    def perfci(self) -> list[list[str]]:
        """One process for all."""
        return [[sys.executable, str(ME), "--client", str(self.count)]]

    def of(self, peer: str) -> list[list[str]]:
        """Return a peer's commands."""
        made: dict[str, Callable[[], list[list[str]]]] = {
            "perfci": self.perfci,
            "freeipmi": self.freeipmi,
            "freeipmi, cycle only": self.freeipmi_cycle,
            "ipmitool": self.ipmitool,
            "ansible": self.ansible,
        }
        return made[peer]()

    def _freeipmi_hosts(self) -> list[str]:
        hosts = ",".join(addresses(self.count))
        return ["--config-file", str(self.folder / "freeipmi.conf"), "--hostname", hosts]

    def _write(self, name: str, text: str) -> None:
        file = self.folder / name
        file.write_text(text, encoding="utf-8")
        file.chmod(0o600)


@dataclass(frozen=True)
class Taken:
    """One run of a peer."""

    seconds: float
    cpu_seconds: float
    done: int
    sessions: int
    inside_seconds: float = 0.0
    errors: str = ""


def measure(rack: subprocess.Popen[str], commands: Commands, peer: str, state: str) -> Taken:
    """Prepare the machines, let a peer do its work, ask the machines what came of it."""
    tell(rack, state)
    left_by_others = json.loads(tell(rack, "report"))["sessions"]
    environment = {
        **os.environ,
        "IPMI_PASSWORD": PASSWORD,
        "ANSIBLE_CONFIG": str(commands.folder / "ansible.cfg"),
    }
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    said = ""
    for command in commands.of(peer):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        said = done.stdout
    seconds = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    told = json.loads(said) if peer == "perfci" else {}
    report = json.loads(tell(rack, "report"))
    errors = ", ".join(f"{count} {name}" for name, count in told.get("errors", {}).items())
    left = max(0, report["sessions"] - left_by_others)
    return Taken(seconds, cpu, report["done"], left, told.get("seconds", 0.0), errors)


def tell(rack: subprocess.Popen[str], line: str) -> str:
    """Send the simulators a line; return their answer."""
    assert rack.stdin  # noqa: S101  (both are pipes)
    assert rack.stdout  # noqa: S101
    rack.stdin.write(line + "\n")
    rack.stdin.flush()
    return rack.stdout.readline().strip()


def compare(count: int, peers: Iterable[str], repeats: int, slow_repeats: int, state: str) -> None:
    """Measure all peers in turns and print a table."""
    taken: dict[str, list[Taken]] = {peer: [] for peer in peers}
    with (
        tempfile.TemporaryDirectory(prefix="perfci-bmc-") as name,
        subprocess.Popen(
            [sys.executable, str(RACK), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as rack,
    ):
        assert rack.stdout  # noqa: S101
        if rack.stdout.readline().strip() != "ready":
            sys.exit("the simulated BMCs did not start: is this root, is UDP port 623 free on 127.91.x.y?")
        commands = Commands(Path(name), count)
        commands.write()
        for turn in range(repeats):
            for peer, runs in taken.items():
                if peer != "ansible" or turn < slow_repeats:
                    runs.append(measure(rack, commands, peer, state))
        tell(rack, "")
    show(count, taken, state)


def show(count: int, taken: dict[str, list[Taken]], state: str) -> None:
    """Print the table."""
    print(f"\n{count} BMCs, {state}\n")
    print("| client | runs | seconds | times perfci's | CPU seconds | machines done | sessions left |")
    print("|---|---|---|---|---|---|---|")
    rows = {peer: runs for peer, runs in taken.items() if runs}
    own = median(run.seconds for run in rows["perfci"])
    for peer, runs in rows.items():
        seconds = median(run.seconds for run in runs)
        cpu = median(run.cpu_seconds for run in runs)
        done, left = min(run.done for run in runs), max(run.sessions for run in runs)
        print(
            f"| {peer} | {len(runs)} | {seconds:.2f} | {seconds / own:.2f} | {cpu:.2f} | "
            f"{done} of {count} | {left} |"
        )
    inside = median(run.inside_seconds for run in rows["perfci"])
    errors = rows["perfci"][-1].errors
    print(f"\nperfci without starting Python: {inside:.2f} s{f'; errors: {errors}' if errors else ''}")
    if state == "sick":
        print(f"The deadline of one node is {DEADLINE_SECONDS:.0f} s.")


def main() -> None:
    """Measure, or be one of the processes that are measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[300, 1000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ansible-repeats", type=int, default=1, help="Ansible's modules take minutes")
    parser.add_argument("--without", nargs="*", default=[], choices=PEERS[1:])
    parser.add_argument("--sick", action="store_true", help="5 %% hang, 2 %% of the packets are lost")
    parser.add_argument("--client", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        print(json.dumps(asyncio.run(switch(options.client))))
    else:
        peers = [peer for peer in PEERS if peer not in options.without]
        for count in options.counts:
            state = "sick" if options.sick else "well"
            compare(count, peers, options.repeats, options.ansible_repeats, state)


if __name__ == "__main__":
    main()
