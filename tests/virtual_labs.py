"""Virtual labs for tests: plans, clients inside a lab's network, and what there is of a lab on this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from functools import cache
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
import yaml
from free_ports import port_base
from programs import needs, needs_root
from shared_cache import STATE, link_to, share_cache

from perfci.lab.virtual import site
from perfci.lab.virtual.folders import LabFolder
from perfci.lab.virtual.lab import PROGRAMS
from perfci.lab.virtual.plan import BMC_USERNAME, MachineKind, Plan, PlannedNode

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT = Path(__file__).parents[1]

needs_nspawn = [needs_root, needs(*PROGRAMS[MachineKind.NSPAWN], "ssh", "ssh-keygen", "ipmitool")]
"""Marks of tests on nspawn nodes."""
GIT_BASE = os.environ.get("PERFCI_GIT_BASE", "")
needs_devstack = [
    pytest.mark.devstack,
    pytest.mark.slow,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(
        not GIT_BASE, reason="set PERFCI_GIT_BASE to a URL or folder with openstack/devstack and so on"
    ),
    *needs_nspawn,
]
"""Marks of nights on clouds by devstack."""


def plan(
    size=4, kind=MachineKind.NSPAWN, network="192.168.240.0/24", state="/srv/state", project="/srv"
) -> Plan:
    return Plan(Path(project), Path(state), kind, size, IPv4Network(network))


def project_in(folder: Path) -> Path:
    """Make a project with this checkout's roles, and an inventory of its own."""
    project = folder / "project"
    (project / "inventory").mkdir(parents=True)
    (project / "playbooks").mkdir()
    (project / "roles").symlink_to(PROJECT / "roles")
    return project


def project_for_nights(root: Path, kept: tuple[str, ...] = ("images",)) -> dict[str, str]:
    """Make a project of its own, as the inventory of a virtual lab is written into it; return its settings.

    What takes long to make (`kept`, below the state folder) is that of this checkout.
    """
    project, state = root / "project", root / "state"
    project.mkdir()
    for name in ("ansible.cfg", "jobs", "playbooks", "plugins", "roles"):
        (project / name).symlink_to(PROJECT / name)
    shutil.copytree(PROJECT / "inventory", project / "inventory", symlinks=True)
    (project / "inventory" / "virtual" / "hosts.yml").unlink(missing_ok=True)
    share_cache(state)
    for name in kept:
        link_to(state / name, STATE / name)
    return {
        "PERFCI_ROOT_DIR": str(project),
        "PERFCI_STATE_DIR": str(state),
        "PERFCI_PORT_BASE": str(port_base()),
        # A container sees the whole machine's CPU time, and this is no test of quietness.
        "PERFCI_LIMITS__FOREIGN_CPU_SHARE": "1",
        "PERFCI_LIMITS__STEAL_SHARE": "1",
    }


def as_example_lab(settings: dict[str, str]) -> None:
    """Put a copy of inventory/example in the place of the inventory that `perfci virtual up` wrote.

    Only what an admin fills in differs from the example: addresses, MACs, the network and secrets of this
    lab's machines; and what simulated machines need: little memory, and an image without drivers of hardware.
    """
    folder = Path(settings["PERFCI_ROOT_DIR"]) / "inventory" / "virtual"
    lab = yaml.safe_load((folder / "hosts.yml").read_text())["all"]
    shutil.rmtree(folder)
    shutil.copytree(PROJECT / "inventory" / "example", folder)

    hosts = yaml.safe_load((folder / "hosts.yml").read_text())
    real, own = hosts["all"]["children"]["nodes"]["hosts"], lab["children"]["nodes"]
    for name in list(real):
        if name not in own["hosts"]:
            del real[name]
            continue
        found = own["hosts"][name]
        filled_in = ("bmc_address", "provision_mac", "provision_address", "pdu_outlet", "tunnel_address")
        real[name] = {variable: found[variable] for variable in filled_in}
    (folder / "hosts.yml").write_text(yaml.safe_dump(hosts, sort_keys=False))

    everywhere = {
        **{name: lab["vars"][name] for name in lab["vars"] if name.startswith("provision_")},
        "os_image_kernel": "linux-image-cloud-amd64",
        "preflight_memory_gib": 3,
        "preflight_disk_gib": 3,
    }
    # This machine's own systemd, where it has one, is not in the lab's network.
    _fill_in(
        folder / "group_vars" / "controller.yml",
        {"netboot_manager": "supervisor", "site_services_manager": "supervisor"},
    )
    _fill_in(folder / "group_vars" / "all" / "lab.yml", everywhere)
    one = next(iter(own["hosts"].values()))
    of_nodes = {
        **{name: own["vars"][name] for name in ("bmc_username", "bmc_port", "pdu_command")},
        **{name: one[name] for name in ("tunnel_interface", "tunnel_prefix", "tunnel_mtu")},
        **_VIRTUAL_SECONDS,
    }
    _fill_in(folder / "group_vars" / "nodes" / "lab.yml", of_nodes)
    password = Path(own["vars"]["bmc_password_file"]).read_text().strip()
    secret = yaml.safe_dump({"vault_bmc_password": password})
    (folder / "group_vars" / "nodes" / "vault.yml").write_text(secret)


_VIRTUAL_SECONDS = {
    "provision_boot_seconds": 180,
    "provision_deploy_seconds": 300,
    "provision_ssh_seconds": 300,
}


def _fill_in(file: Path, changed: dict[str, Any]) -> None:
    """Change variables of an inventory, and leave all others as they are."""
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **changed}, sort_keys=False))


def perfci(settings: dict[str, str], *arguments: str) -> tuple[int, Any]:
    """Run perfci with these settings alone; return how it left, and what it said."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PERFCI_")}
    done = subprocess.run(
        [sys.executable, "-m", "perfci", *arguments, "--json"],
        env={**inherited, **settings},
        cwd=settings["PERFCI_ROOT_DIR"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def until(condition: Callable[[], Any], seconds: float = 60, every: float = 0.1) -> Any:
    """Return what the condition gives, once it gives something."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(every)
    return found


class Inside:
    """A person in the network of a lab."""

    def __init__(self, lab: Plan) -> None:
        self.plan = lab
        self.folder = LabFolder.of(lab.state_dir)
        self.key = self.folder.root / "ssh" / "id_ed25519"

    def command(self, *words: str | Path) -> list[str]:
        return [*site.entering(self.plan.site), *map(str, words)]

    def bmc(self, node: PlannedNode, *words: str) -> str:
        """Ask a BMC with ipmitool."""
        login = ["-I", "lanplus", "-C", "17", "-H", node.bmc_address, "-U", BMC_USERNAME]
        secret = ["-f", self.folder.bmc_password]
        command = self.command("ipmitool", *login, *secret, *words)
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()

    def ssh(
        self, node: PlannedNode, *words: str, seconds: float = 30, given: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a node whose host key must be the one that the lab made; `given` is its input."""
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": "5",
            "IdentitiesOnly": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": self.key.with_name("known_hosts"),
            "GlobalKnownHostsFile": "/dev/null",
        }
        flags = [flag for name, value in options.items() for flag in ("-o", f"{name}={value}")]
        login = ["-F", "none", "-i", self.key, f"root@{node.address}"]
        command = self.command("ssh", *flags, *login, *words)
        return subprocess.run(
            command, input=given, capture_output=True, text=True, check=False, timeout=seconds
        )


SMALL_IMAGE: dict[str, Any] = {
    "os_image_folder": str(STATE / "images-small"),
    "os_image_kernel": "linux-image-cloud-amd64",
    "os_image_packages": ["chrony", "memcached"],
    "os_image_free_mib": 100,
}
"""As little as makes a node, and a service: emulated hardware writes and reads every MiB of it. Kept for the next time."""


@cache
def node_image() -> Path:
    """Build the small image for nodes, where it is not there yet; return its folder."""
    command = [Path(sys.executable).with_name("ansible-playbook"), "playbooks/virtual.yml"]
    command += ["-e", json.dumps(SMALL_IMAGE)]
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
        "PERFCI_STATE_DIR": str(STATE),
    }
    subprocess.run(command, cwd=PROJECT, env=environment, check=True, timeout=1800)
    images = Path(SMALL_IMAGE["os_image_folder"]).glob("os-*/image.json")
    whole = [file.parent for file in images if not file.parent.suffix]
    return max(whole, key=lambda folder: folder.stat().st_mtime)


def traces(name: str) -> dict[str, Any]:
    """Everything on this machine that carries the name of a lab, seen without the lab's own code."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    groups = [
        f"{place}/{folder}"
        for place, folders, _ in os.walk("/sys/fs/cgroup")
        for folder in folders
        if folder.startswith(name)
    ]
    spaces = site.NAMESPACES.iterdir() if site.NAMESPACES.exists() else ()
    return {
        "mounts": [line for line in mounts if name in line],
        "groups": groups,
        "namespaces": [one.name for one in spaces if one.name.startswith(name)],
        "files": [str(file) for file in Path("/run/systemd/nspawn").glob(f"*/{name}*")],
        "processes": [
            one.name for one in Path("/proc").iterdir() if one.name.isdigit() and _carries(one.name, name)
        ],
    }


NO_TRACES: dict[str, Any] = {"mounts": [], "groups": [], "namespaces": [], "files": [], "processes": []}


def _carries(pid: str, name: str) -> bool:
    """Tell whether a process is in a control group of a lab, or has its name on the command line.

    One that was killed and only waits for init to collect it does not count.
    """
    try:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return False
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        groups = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return False
    return name.encode() in command or f"/{name}" in groups


class NetworkBoot:
    """DHCP and HTTP of a controller, with the server of the role netboot, inside a lab's network."""

    PORT = 8480

    def __init__(self, lab: Plan, images: Path) -> None:
        self.plan, self.inside = lab, Inside(lab)
        self.folder = self.inside.folder.root / "netboot"
        self._url = f"http://{lab.controller_address}:{self.PORT}"
        self._images = images
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        (self.folder / "phone-home").mkdir(parents=True)
        nodes = {node.name: {"mac": node.mac, "address": node.address} for node in self.plan.nodes}
        (self.folder / "nodes.json").write_text(json.dumps(nodes))
        self._make_keys()
        (self.folder / "dnsmasq.conf").write_text("\n".join(self._dhcp()) + "\n")
        server = PROJECT / "roles/netboot/files/netboot_server.py"
        at = ["--address", self.plan.controller_address, "--port", str(self.PORT)]
        self._start("dnsmasq", "--keep-in-foreground", f"--conf-file={self.folder / 'dnsmasq.conf'}")
        self._start(sys.executable, server, *at, "--folder", self.folder, "--images", self._images)
        probe = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])))"
        command = self.inside.command(
            sys.executable, "-c", probe, self.plan.controller_address, str(self.PORT)
        )
        until(lambda: not subprocess.run(command, capture_output=True, check=False).returncode)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def order(self, node: PlannedNode, task: str = "install", script: str = "") -> None:
        """Let the node find its orders when it boots from the network."""
        folder = self.folder / "boot" / node.mac.replace(":", "-")
        folder.mkdir(parents=True, exist_ok=True)
        url = f"{self._url}/boot/{folder.name}"
        host_key, key = self.inside.key.with_name(node.name), self.inside.key
        files = {
            "boot.ipxe": script or f"#!ipxe\nkernel {self._url}/none perfci.url={url}\nboot\n",
            "boot.conf": "".join(f"{name}={value}\n" for name, value in self._orders(node, task).items()),
            "authorized_keys": key.with_name(f"{key.name}.pub").read_text(),
            "host_key": host_key.read_text(),
            "host_key.pub": host_key.with_name(f"{host_key.name}.pub").read_text(),
        }
        for name, text in files.items():
            (folder / name).write_text(text)

    def steps(self, node: PlannedNode) -> list[str]:
        """What the node has told of its deployments."""
        file = self.folder / "phone-home" / f"{node.name}.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return [json.loads(line)["step"] for line in lines]

    def _orders(self, node: PlannedNode, task: str) -> dict[str, str]:
        orders = {"node": node.name, "attempt": "1", "task": task, "wipe": "headers"}
        orders["phone_home"] = f"{self._url}/phone-home/{node.name}"
        if task == "install":
            image = next(self._images.rglob("root.tar.gz"))
            described = json.loads(image.with_name("image.json").read_text())
            orders["root"] = f"{self._url}/images/{image.relative_to(self._images)}"
            orders["root_sha256"] = described["root_sha256"]
        return orders

    def _make_keys(self) -> None:
        self.inside.key.parent.mkdir(mode=0o700)
        known = []
        for file in (self.inside.key, *(self.inside.key.with_name(node.name) for node in self.plan.nodes)):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)
        for node in self.plan.nodes:
            public = self.inside.key.with_name(f"{node.name}.pub").read_text()
            known.append(f"{node.address} {public}")
        self.inside.key.with_name("known_hosts").write_text("".join(known))

    def _dhcp(self) -> list[str]:
        network = self.plan.network
        hosts = [
            line
            for node in self.plan.nodes
            for line in (
                f"dhcp-host={node.mac},set:{node.name},{node.address},{node.name}",
                f"dhcp-boot=tag:ipxe,tag:{node.name},{self._url}/boot/{node.mac.replace(':', '-')}/boot.ipxe",
            )
        ]
        return [
            *(
                "port=0",
                "interface=br-prov",
                "bind-interfaces",
                "user=root",
                "no-ping",
                "no-hosts",
                "no-resolv",
            ),
            *(
                "pid-file=",
                "log-facility=-",
                f"dhcp-leasefile={self.folder / 'leases'}",
                "dhcp-authoritative",
            ),
            f"dhcp-range={network.network_address},static,{network.netmask},infinite",
            *("dhcp-ignore=tag:!known", "dhcp-userclass=set:ipxe,iPXE", "dhcp-option=3", "dhcp-option=6"),
            *hosts,
        ]

    def _start(self, *words: str | Path) -> None:
        with (self.folder / "services.log").open("ab") as log:
            command = self.inside.command(*words)
            self._processes.append(
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            )
