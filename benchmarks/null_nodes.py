"""What `null` machines need to be provisioned: ramdisks that report, and one system under SSH for all.

A `null` machine has a BMC and nothing else. Here each gets an address in the lab's network; one process plays
the deploy ramdisk of all of them over real HTTP; a container with the nodes' image has an SSH server that
answers on every address. So the playbooks do all that they do for real nodes, which cost next to nothing.

    python benchmarks/null_nodes.py STATE SILENT...     # the ramdisks, inside the lab's network, until TERM
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
import time
from http import HTTPStatus
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from perfci.lab.virtual import lab, site
from perfci.lab.virtual.folders import LabFolder
from perfci.lab.virtual.nspawn import container_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

HTTP_PORT = 8480
FIRST_ADDRESS = 10
STEPS = ("ramdisk", "disk", "image", "verify", "inject", "deployed")
POLL_SECONDS = 0.5
SSH_SECONDS = 30.0
RETRY_SECONDS = (1, 2, 4)
SSHD = ("/usr/sbin/sshd", "-D", "-e", "-o", "MaxStartups=1000", "-o", "UsePAM=no", "-o", "UseDNS=no")


def address_of(network: IPv4Network, number: int) -> str:
    """Return the address of a machine, by its number from 1."""
    return str(network[FIRST_ADDRESS + number])


def furnish(status: dict[str, Any], network: IPv4Network) -> None:
    """Give each machine an address of its own within the lab's network."""
    lines = [
        f"address add {address_of(network, number)}/32 dev lo\n"
        for number in range(1, len(status["nodes"]) + 1)
    ]
    batch = ["ip", "-netns", status["namespace"], "-batch", "-"]
    subprocess.run(batch, input="".join(lines), text=True, check=True)


def write_inventory(project: Path, status: dict[str, Any], network: IPv4Network) -> None:
    """Complete the inventory that the lab wrote: `null` machines have no network cards in it."""
    file = project / "inventory" / "virtual" / "hosts.yml"
    known = yaml.safe_load(file.read_text())
    nodes = known["all"]["children"]["nodes"]
    for number, node in enumerate(status["nodes"], 1):
        address = address_of(network, number)
        nodes["hosts"][node["name"]].update(
            ansible_host=address,
            provision_address=address,
            provision_mac=node["mac"],
            provision_firmware="bios",
        )
    # One system answers for all, so all have its host key.
    nodes["vars"]["provision_host_key_file"] = (
        "{{ ansible_ssh_private_key_file | dirname }}/shared.host_ed25519"
    )
    file.write_text(yaml.safe_dump(known, sort_keys=False))


@contextlib.contextmanager
def shared_system(status: dict[str, Any], keys: Path, image: Path, scratch: Path) -> Iterator[None]:
    """Run the nodes' image in a container with an SSH server, for as long as it is needed."""
    keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    for key in (keys / "id_ed25519", keys / "shared.host_ed25519"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    root = scratch / "system"
    root.mkdir()
    subprocess.run(["tar", "--extract", "--gzip", f"--file={image}", f"--directory={root}"], check=True)
    (root / "root" / ".ssh").mkdir(mode=0o700, exist_ok=True)
    shutil.copy(keys / "id_ed25519.pub", root / "root" / ".ssh" / "authorized_keys")
    shutil.copy(keys / "shared.host_ed25519", root / "etc" / "ssh" / "ssh_host_ed25519_key")
    (root / "run" / "sshd").mkdir(parents=True, exist_ok=True)
    machine = [
        *("systemd-nspawn", "--quiet", f"--directory={root}", "--as-pid2", "--register=no", "--keep-unit"),
        f"--machine={status['namespace']}-shared",
        f"--network-namespace-path={site.NAMESPACES / status['namespace']}",
        *("--resolv-conf=off", "--timezone=off", "--link-journal=no", "--settings=no", "--console=pipe"),
        *("sh", "-c", 'mkdir -p /run/sshd && exec "$@"', "sh", *SSHD),
    ]
    with (scratch / "system.log").open("wb") as log:
        process = subprocess.Popen(
            machine, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=container_environment()
        )
    try:
        began = time.monotonic()
        while "Server listening" not in (scratch / "system.log").read_text(errors="replace"):
            if time.monotonic() - began > SSH_SECONDS or process.poll() is not None:
                sys.exit(f"no SSH server: {(scratch / 'system.log').read_text(errors='replace')}")
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait()


class Ramdisks:
    """The deploy ramdisks of all machines that were told to boot from the network."""

    def __init__(self, state: Path, network: IPv4Network, silent: frozenset[str]) -> None:
        self._state, self._network, self._silent = state, network, silent
        self._running: dict[str, asyncio.Task[None]] = {}
        self._done: set[str] = set()

    async def run(self) -> None:
        """Start a ramdisk for each machine that boots from the network, once each, until cancelled."""
        while True:
            told = await asyncio.to_thread(lab.status, self._state)
            for number, node in enumerate(told["nodes"], 1):
                name = node["name"]
                if node["stage"] != "boots from network":
                    self._done.discard(name)
                elif name not in self._running and name not in self._done | self._silent:
                    self._running[name] = asyncio.create_task(self._deploy(number, node))
            for name, task in list(self._running.items()):
                if task.done():
                    self._done.add(name)
                    del self._running[name]
            await asyncio.sleep(POLL_SECONDS)

    async def _deploy(self, number: int, node: dict[str, Any]) -> None:
        own = address_of(self._network, number)
        folder = f"/boot/{node['mac'].replace(':', '-')}"
        status, text = await self._http(own, "GET", f"{folder}/boot.conf")
        if status != HTTPStatus.OK:
            return
        orders = dict(line.partition("=")[::2] for line in text.splitlines())
        for step in STEPS:
            body = json.dumps({"attempt": orders["attempt"], "step": step, "text": "no machine"})
            await self._http(own, "POST", f"/phone-home/{node['name']}", body)

    async def _http(self, own: str, method: str, path: str, body: str = "") -> tuple[int, str]:
        """Ask the controller, with the patience of the real ramdisk."""
        for pause in RETRY_SECONDS:
            try:
                return await self._once(own, method, path, body)
            except ConnectionError:
                await asyncio.sleep(pause)
        return await self._once(own, method, path, body)

    async def _once(self, own: str, method: str, path: str, body: str) -> tuple[int, str]:
        controller = str(self._network[1])
        reader, writer = await asyncio.open_connection(controller, HTTP_PORT, local_addr=(own, 0))
        head = f"{method} {path} HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write((head + body).encode())
        answer = (await reader.read()).decode()
        writer.close()
        top, _, rest = answer.partition("\r\n\r\n")
        return int(top.split()[1]), rest


def mebibytes(pid: int) -> float:
    """Return the memory that a process and all that it started have right now, in MiB."""
    total, waiting = 0, [pid]
    while waiting:
        one = waiting.pop()
        with contextlib.suppress(OSError, ValueError, IndexError):
            waiting += [
                int(child)
                for task in Path(f"/proc/{one}/task").iterdir()
                for child in (task / "children").read_text().split()
            ]
            # What a fork shares with its parent is counted once: private and proportional pages.
            rollup = Path(f"/proc/{one}/smaps_rollup").read_text()
            total += int(next(line for line in rollup.splitlines() if line.startswith("Pss:")).split()[1])
    return total / 1024


@contextlib.contextmanager
def ramdisks(status: dict[str, Any], state: Path, silent: list[str]) -> Iterator[None]:
    """Play the ramdisks of all machines but some, in a process inside the lab's network."""
    command = [*site.entering(status["namespace"]), sys.executable, __file__, str(state), *silent]
    with subprocess.Popen(command) as process:
        try:
            yield
        finally:
            process.terminate()


def main(state: str, *silent: str) -> None:
    """Play the ramdisks."""
    folder = LabFolder.of(Path(state))
    network = IPv4Network(json.loads(folder.plan.read_text())["network"])
    asyncio.run(Ramdisks(Path(state), network, frozenset(silent)).run())


if __name__ == "__main__":
    main(*sys.argv[1:])
