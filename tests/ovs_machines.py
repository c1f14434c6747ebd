"""Two nodes for tests: namespaces with a real Open vSwitch in user space each, and a VXLAN tunnel between them.

There is no neutron: the bridges switch by themselves. Needs root.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from programs import needs, needs_root

if TYPE_CHECKING:
    from collections.abc import Iterator

PROBE = Path(__file__).parents[1] / "roles" / "probes" / "files" / "probe.py"
SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
needed = [
    pytest.mark.slow,
    needs_root,
    needs("ovsdb-server", "ovsdb-tool", "ovs-vswitchd", "ovs-vsctl", "ovs-ofctl"),
    needs("ip", "ss", "ethtool", "ping", "iperf3", "nsenter", "unshare"),
]


@dataclass(frozen=True)
class Machine:
    """A node: the process that holds its namespaces, and how probes are started in it."""

    name: str
    holder: int
    folder: Path

    def inside(self, *words: str) -> list[str]:
        return ["nsenter", "--target", str(self.holder), "--net", "--mount", *words]

    def run(self, *words: str) -> str:
        return subprocess.run(self.inside(*words), check=True, capture_output=True, text=True).stdout

    @property
    def probe(self) -> list[str]:
        """The command that starts probes in it."""
        return self.inside(sys.executable, str(PROBE), f"--ovs-database=unix:{self.folder}/db.sock")

    @property
    def namespaces(self) -> str:
        return self.run("ip", "netns", "list")

    @property
    def ports(self) -> str:
        return self.run("ovs-vsctl", f"--db=unix:{self.folder}/db.sock", "list-ports", "br-int")


def start(stack: contextlib.ExitStack, *words: str) -> subprocess.Popen:
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def until(true) -> None:
    limit = time.monotonic() + 30
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.02)


def machine(stack: contextlib.ExitStack, folder: Path, number: int) -> Machine:
    folder.mkdir()
    holder = start(stack, "unshare", "--net", "--mount", "--propagation", "private", "sleep", "600")
    own = Path("/proc/self/ns/net").readlink()
    until(lambda: Path(f"/proc/{holder.pid}/ns/net").readlink() != own)
    until(lambda: Path(f"/proc/{holder.pid}/comm").read_text().strip() == "sleep")
    one = Machine(f"node-{number}", holder.pid, folder)
    one.run("mkdir", "-p", "/run/netns")
    one.run("mount", "-t", "tmpfs", "tmpfs", "/run/netns")
    one.run("ip", "link", "set", "lo", "up")
    subprocess.run(["ovsdb-tool", "create", str(folder / "conf.db"), SCHEMA], check=True)
    socket = f"unix:{folder}/db.sock"
    start(
        stack,
        *one.inside(
            "ovsdb-server",
            str(folder / "conf.db"),
            f"--remote=p{socket}",
            f"--unixctl={folder}/db.ctl",
            "--log-file=/dev/null",
        ),
    )
    until((folder / "db.sock").exists)
    one.run("ovs-vsctl", f"--db={socket}", "--no-wait", "init")
    start(
        stack,
        *one.inside(
            "env",
            f"OVS_RUNDIR={folder}",
            "ovs-vswitchd",
            socket,
            f"--unixctl={folder}/v.ctl",
            "--disable-system",
            "--log-file=/dev/null",
        ),
    )
    return one


def connect(first: Machine, second: Machine) -> None:
    """Lay a cable between two machines, and a tunnel over it that ends on their integration bridges."""
    ends = {1: first, 2: second}
    first.run(
        "ip",
        "link",
        "add",
        "cable",
        "mtu",
        "9000",
        "type",
        "veth",
        "peer",
        "name",
        "cable",
        "mtu",
        "9000",
        "netns",
        str(second.holder),
    )
    for number, one in ends.items():
        vsctl = ["ovs-vsctl", f"--db=unix:{one.folder}/db.sock", "--timeout=20"]
        one.run("ip", "link", "set", "cable", "up")
        one.run("ethtool", "-K", "cable", "tx", "off")
        one.run(
            *vsctl,
            "add-br",
            "br-phy",
            "--",
            "set",
            "bridge",
            "br-phy",
            "datapath_type=netdev",
            f"other_config:hwaddr=02:00:00:00:77:0{number}",
            "--",
            "add-port",
            "br-phy",
            "cable",
            "--",
            "set",
            "interface",
            "br-phy",
            "mtu_request=9000",
        )
        one.run("ip", "addr", "add", f"192.168.77.{number}/24", "dev", "br-phy")
        one.run("ip", "link", "set", "br-phy", "mtu", "9000", "up")
        one.run(
            *vsctl,
            "add-br",
            "br-int",
            "--",
            "set",
            "bridge",
            "br-int",
            "datapath_type=netdev",
            "--",
            "add-port",
            "br-int",
            "vx0",
            "--",
            "set",
            "interface",
            "vx0",
            "type=vxlan",
            f"options:remote_ip=192.168.77.{3 - number}",
            f"options:local_ip=192.168.77.{number}",
            "options:key=100",
        )


@contextlib.contextmanager
def two_machines(folder: Path) -> Iterator[tuple[Machine, Machine]]:
    """Give two connected nodes, and end them."""
    with contextlib.ExitStack() as stack:
        both = machine(stack, folder / "1", 1), machine(stack, folder / "2", 2)
        connect(*both)
        yield both
