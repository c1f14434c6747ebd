"""The site: one network namespace with two bridges, and cables to them for each node.

One is the provisioning network; the other has jumbo frames, and carries the tunnels between nodes of a cloud.

Interfaces of nodes have names that depend on their number only: the namespace is the lab's own.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from perfci.lab.virtual.commands import run, run_async
from perfci.lab.virtual.plan import BRIDGE, TUNNEL_BRIDGE, TUNNEL_INTERFACE, TUNNEL_MTU, mac_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from perfci.lab.virtual.plan import Plan, PlannedNode

NAMESPACES = Path("/run/netns")
"""Where iproute2 keeps named namespaces; see ip-netns(8)."""
_NETWORK = 0x40000000
"""CLONE_NEWNET of setns(2), which Python has from 3.12 on."""
NODE_INTERFACE = "host0"
"""The network card within a node; systemd's own configuration for containers expects this name."""


def make(plan: Plan) -> None:
    """Make the namespace with its bridge. Raises HostCommandFailed."""
    run("ip", "netns", "add", plan.site)
    run("ip", "-netns", plan.site, "-batch", "-", text=site_batch(plan))


def site_batch(plan: Plan) -> str:
    """Return the commands of ip(8) that furnish the namespace."""
    length = plan.network.prefixlen
    lines = [
        "link set lo up",
        # With an address of its own: else it takes that of a port, and changes it as nodes come and go.
        f"link add {BRIDGE} address {mac_of(0)} type bridge",
        f"address add {plan.controller_address}/{length} broadcast + dev {BRIDGE}",
        f"link set {BRIDGE} up",
        f"link add {TUNNEL_BRIDGE} mtu {TUNNEL_MTU} type bridge",
        f"link set {TUNNEL_BRIDGE} up",
    ]
    return _text(lines)


def entering(site: str) -> list[str]:
    """Return the beginning of a command line that runs a command in the site's network.

    Not `ip netns exec`: that mounts another /sys and hides the control groups.
    """
    return ["nsenter", f"--net={NAMESPACES / site}"]


@contextmanager
def inside(site: str) -> Iterator[None]:
    """Move this thread into the site's network, and back at the end. Needs root."""
    with Path("/proc/thread-self/ns/net").open("rb") as before, (NAMESPACES / site).open("rb") as there:
        _enter(there)
        try:
            yield
        finally:
            _enter(before)


def _enter(namespace: BinaryIO) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _NETWORK):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def node_namespace(site: str, node: PlannedNode) -> str:
    """Return the name of a node's own network namespace."""
    return f"{site}-{node.number}"


def names(site: str) -> list[str]:
    """Return the namespaces of a lab that exist: its own and those of its nodes."""
    if not NAMESPACES.is_dir():
        return []
    return sorted(
        entry.name
        for entry in NAMESPACES.iterdir()
        if entry.name == site or entry.name.startswith(f"{site}-")
    )


def remove(site: str) -> None:
    """Remove all namespaces of a lab; bridges, cables and taps go with them. Raises HostCommandFailed."""
    for name in names(site):
        run("ip", "netns", "delete", name)


def inodes(site: str) -> set[int]:
    """Return the numbers by which the kernel knows the lab's namespaces, as in /proc/PID/ns/net."""
    return {(NAMESPACES / name).stat().st_ino for name in names(site)}


def namespace_of(pid: int) -> int | None:
    """Return the number of the network namespace that a process is in; None where it is gone."""
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino  # noqa: PTH116 - no path of a file
    except OSError:
        return None


async def plug(plan: Plan, node: PlannedNode, *, mac: str) -> None:
    """Give a node a new namespace with its network cards. Raises HostCommandFailed."""
    await unplug(plan, node)
    await run_async("ip", "netns", "add", node_namespace(plan.site, node))
    await run_async("ip", "-netns", plan.site, "-batch", "-", text=plug_batch(plan, node, mac=mac))


def plug_batch(plan: Plan, node: PlannedNode, *, mac: str) -> str:
    """Return the commands of ip(8) that connect a node's namespace."""
    port, tunnels, namespace = port_name(node), tunnel_port_name(node), node_namespace(plan.site, node)
    inside = f"name {NODE_INTERFACE} address {mac} netns {namespace}"
    other = f"name {TUNNEL_INTERFACE} mtu {TUNNEL_MTU} netns {namespace}"
    lines = [
        f"link add {port} type veth peer {inside}",
        f"link set {port} master {BRIDGE} up",
        f"link add {tunnels} mtu {TUNNEL_MTU} type veth peer {other}",
        f"link set {tunnels} master {TUNNEL_BRIDGE} up",
    ]
    return _text(lines)


async def unplug(plan: Plan, node: PlannedNode) -> None:
    """Take that away again, if it is there."""
    # The cables first: a namespace that is still dying would keep its ends, and the names of ours.
    listed = await run_async("ip", "-netns", plan.site, "-brief", "link", "show")
    there = {line.split("@")[0].split()[0] for line in listed.splitlines()}
    for port in (port_name(node), tunnel_port_name(node)):
        if port in there:
            await run_async("ip", "-netns", plan.site, "link", "delete", port)
    namespace = node_namespace(plan.site, node)
    if (NAMESPACES / namespace).exists():
        await run_async("ip", "netns", "delete", namespace)


async def plug_tap(plan: Plan, node: PlannedNode) -> str:
    """Give a virtual machine a tap interface on the bridge; return its name. Raises HostCommandFailed."""
    await unplug(plan, node)
    port = port_name(node)
    await run_async("ip", "-netns", plan.site, "-batch", "-", text=tap_batch(port))
    return port


def tap_batch(port: str) -> str:
    """Return the commands of ip(8) that make a tap interface."""
    return _text([f"tuntap add {port} mode tap", f"link set {port} master {BRIDGE} up"])


def port_name(node: PlannedNode) -> str:
    """Return the name of a node's port on the provisioning bridge."""
    return f"port{node.number}"


def tunnel_port_name(node: PlannedNode) -> str:
    """Return the name of a node's port on the bridge for tunnels."""
    return f"data{node.number}"


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
