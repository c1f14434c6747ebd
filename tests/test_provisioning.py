"""From "off" to tuned and fingerprinted hosts under SSH, and back: the playbooks on a virtual lab.

Everything is real but the hardware: BMCs answer on their ports, nodes boot from the network, images go over HTTP,
Ansible logs in over SSH.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from programs import needs, needs_root
from virtual_labs import NO_TRACES, PROJECT, SMALL_IMAGE, Inside, plan, traces, until

from perfci import config
from perfci.lab import people
from perfci.lab.reservations.model import NodeWish, Request, Wipe
from perfci.lab.reservations.node_orders import NodeOrders
from perfci.lab.reservations.service import open_reservations
from perfci.lab.reservations.states import steps_before_ready
from perfci.lab.reservations.work import Work
from perfci.lab.virtual import lab
from perfci.lab.virtual.plan import Firmware, MachineKind
from perfci.lab.virtual.qemu import EFI_CODE

pytestmark = [
    pytest.mark.slow,
    needs_root,
    needs(*lab.PROGRAMS[MachineKind.NSPAWN], "ipmitool", "ssh"),
    pytest.mark.timeout(2400),  # the first of them builds an image
]
TUNING = "/etc/perfci/tuning.json"

IPXE_EFI = "/usr/lib/ipxe/ipxe.efi"

IMAGES = """\
- hosts: controller
  gather_facts: false
  tasks:
    - import_role: {name: os_image}
    - import_role: {name: deploy_ramdisk}
"""


class Controller:
    """A controller with a virtual lab: its playbooks, its command line."""

    def __init__(self, wanted, **variables):
        self.plan, self.inside = wanted, Inside(wanted)
        self.variables = {**SMALL_IMAGE, "provision_poll_seconds": 1, **variables}
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(wanted.state_dir),
            "LANG": "C.UTF-8",
            "PERFCI_STATE_DIR": str(wanted.state_dir),
            "PERFCI_LAB": "virtual",
            "ANSIBLE_HOME": str(wanted.state_dir / "ansible"),
            "ANSIBLE_CONFIG": str(wanted.project / "ansible.cfg"),
        }

    def set_up(self):
        """Build what nodes boot; that needs a way out, which the lab's network does not have."""
        (self.plan.project / "playbooks" / "images.yml").write_text(IMAGES)
        done = self._run([], "images", {})
        assert done.returncode == 0, done.stdout

    def play(self, name, **variables):
        """Run a playbook inside the lab's network; return how it ended, with its output."""
        return self._run(self.inside.command(), name, variables)

    def _run(self, entering, name, variables):
        given = self.plan.state_dir / "variables.json"
        given.write_text(json.dumps({**self.variables, **variables}))
        command = ["ansible-playbook", "-i", "inventory/virtual", f"playbooks/{name}.yml", "-e", f"@{given}"]
        return subprocess.run(
            [*entering, *command],
            cwd=self.plan.project,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=2000,
            check=False,
        )

    def perfci(self, *words):
        done = subprocess.run(
            [sys.executable, "-m", "perfci", *words, "--json"],
            cwd=self.plan.project,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return json.loads(done.stdout)

    def node(self, name):
        return next(node for node in self.plan.nodes if node.name == name)

    def status(self, name):
        return next(one for one in lab.status(self.plan.state_dir)["nodes"] if one["name"] == name)

    def result(self, name):
        return json.loads((self.plan.state_dir / "provision" / f"{name}.json").read_text())

    def ssh(self, name, *words):
        done = self.inside.ssh(self.node(name), *words)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def orders(self, name):
        return self.inside.folder.root / "netboot" / "boot" / self.node(name).mac.replace(":", "-")


def project_in(folder):
    """Make a project of this checkout's files, with inventories of its own."""
    project = folder / "project"
    project.mkdir()
    shutil.copytree(PROJECT / "inventory", project / "inventory", symlinks=True)
    (project / "inventory" / "virtual" / "hosts.yml").unlink(missing_ok=True)
    shutil.copytree(PROJECT / "playbooks", project / "playbooks")
    for name in ("roles", "plugins", "ansible.cfg"):
        (project / name).symlink_to(PROJECT / name)
    return project


@contextmanager
def laboratory(folder, size, kind, firmwares=(Firmware.BIOS,), **variables):
    """Bring a lab up for as long as a test needs it; nothing of it stays."""
    wanted = plan(size, kind, state=folder / "state", project=project_in(folder))
    wanted = replace(wanted, firmwares=firmwares)
    lab.up(wanted)
    try:
        controller = Controller(wanted, **variables)
        # What perfci itself plays takes them from the inventory.
        inventory = wanted.project / "inventory" / "virtual"
        (inventory / "group_vars" / "all" / "test.yml").write_text(json.dumps(controller.variables))
        controller.set_up()
        yield controller
    finally:
        lab.down(wanted.state_dir, wanted.project)
    assert traces(wanted.site) == NO_TRACES


# --- four nodes without a kernel of their own ----------------------------------------------------------------


@pytest.fixture(scope="module")
def controller(tmp_path_factory):
    with laboratory(tmp_path_factory.mktemp("prov"), 4, MachineKind.NSPAWN) as found:
        yield found


@pytest.fixture(scope="module")
def provisioned(controller):
    """Provision four nodes: the BMC of one hangs until its mains are cut, another one's password is wrong."""
    lab.set_faults(controller.plan.state_dir, "node-2", ["hang", "recovers_by=power"])
    lab.set_faults(controller.plan.state_dir, "node-4", ["wrong_credentials"])
    done = controller.play("provision", provision_least=3)
    assert done.returncode == 0, done.stdout
    return controller


@pytest.mark.parametrize("node", ["node-1", "node-2", "node-3"])
def test_nodes_come_up_tuned_and_fingerprinted(provisioned, node):
    result = provisioned.result(node)
    assert result["ok"]
    assert [one["step"] for one in result["reports"]] == [
        "ramdisk",
        "disk",
        "image",
        "verify",
        "inject",
        "deployed",
    ]
    assert provisioned.ssh(node, "hostname") == node
    assert json.loads(provisioned.ssh(node, "cat", TUNING))
    assert provisioned.status(node)["next_boot"] == "disk"
    assert not provisioned.orders(node).exists()


def test_packages_are_kept_for_the_next_image_and_not_in_this_one(provisioned):
    images = Path(SMALL_IMAGE["os_image_folder"])
    kept = {file.name.partition("_")[0] for file in (images / "packages/bookworm").glob("*.deb")}
    image = images / provisioned.result("node-1")["image"]
    installed = {
        line.split()[0].partition(":")[0] for line in (image / "packages.txt").read_text().splitlines()
    }
    assert installed - kept == set()
    with tarfile.open(image / "root.tar.gz") as root:
        assert not [name for name in root.getnames() if name.endswith(".deb")]


def test_a_node_tells_what_it_is_and_the_inventory_keeps_it(provisioned):
    told = provisioned.perfci("lab", "inspect", "node-1", "node-2", "--write")
    assert told["not_inspected"] == {}
    for found in told["nodes"]:
        mac = provisioned.node(found["name"]).mac
        assert found["provision_mac"] == mac
        assert {card["mac"]: card["link"] for card in found["cards"]}[mac] == "yes"
        # The firmware is that of the machine on which the containers run.
        assert not [difference for difference in found["differences"] if "provision_mac" in difference]
    shown = {one["name"]: one["facts"] for one in provisioned.perfci("lab", "nodes")["nodes"]}
    assert shown["node-1"] == told["nodes"][0]["facts"]
    assert shown["node-3"] == {}


def test_services_of_the_packages_do_not_run(provisioned):
    listed = provisioned.ssh("node-1", "systemctl", "list-units", "--state=running", "--plain", "--no-legend")
    assert "ssh.service" in listed
    assert "memcached.service" not in listed
    assert provisioned.ssh("node-1", "ls /usr/bin/memcached")


def test_nobody_gets_in_with_a_password(provisioned):
    assert set(provisioned.ssh("node-1", "cut -d: -f2 /etc/shadow").split()) <= {"*", "!", "!*"}
    assert "passwordauthentication no" in provisioned.ssh("node-1", "sshd", "-T")


def test_the_ladder_brought_the_sick_bmc_back(provisioned):
    (shown,) = [one for one in provisioned.perfci("lab", "nodes")["nodes"] if one["name"] == "node-2"]
    assert shown["bmc"]["lock_ups"] >= 1
    assert shown["quarantine"] is None


def test_the_hopeless_node_is_quarantined_and_told(provisioned):
    result = provisioned.result("node-4")
    assert not result["ok"]
    assert result["failure"]["stage"] == "power"
    assert "bmc_password" in result["failure"]["reason"] or "refuses user" in result["failure"]["reason"]
    (shown,) = [one for one in provisioned.perfci("lab", "nodes")["nodes"] if one["name"] == "node-4"]
    assert "power" in shown["quarantine"]["reason"]
    assert not provisioned.orders("node-4").exists()


def test_too_few_nodes_are_a_failure_that_names_them(provisioned):
    lab.set_faults(provisioned.plan.state_dir, "node-3", ["pxe_nak"])
    try:
        done = provisioned.play("provision", provision_nodes="node-3", provision_boot_seconds=30)
    finally:
        lab.clear_faults(provisioned.plan.state_dir, "node-3")
    assert done.returncode != 0
    assert "0 of 1 nodes came up, 1 must" in done.stdout
    assert provisioned.result("node-3")["failure"]["stage"] == "netboot"
    # The firmware got no answer, so the earlier system was booted from disk; it has its address from DHCP.
    assert "not as iPXE does" in provisioned.result("node-3")["failure"]["reason"]
    (shown,) = [one for one in provisioned.perfci("lab", "nodes")["nodes"] if one["name"] == "node-3"]
    assert shown["quarantine"] is None, "nobody came up: that may be the controller's fault"


@pytest.mark.parametrize(
    ("fault", "reason"), [("disk_full", "unpack"), ("dies_in_deploy", "its BMC says off")]
)
def test_what_goes_wrong_in_the_deployment_is_told_at_once(provisioned, fault, reason):
    lab.set_faults(provisioned.plan.state_dir, "node-3", [fault])
    try:
        done = provisioned.play("provision", provision_nodes="node-3")
    finally:
        lab.clear_faults(provisioned.plan.state_dir, "node-3")
    assert done.returncode != 0
    failure = provisioned.result("node-3")["failure"]
    assert failure["stage"] == "deploy"
    assert reason in failure["reason"]


def reserved(controller, node, wipe):
    """Return the ID of a reservation of a node that is ready: its preparation is written down, and not done again."""
    environment = {**controller.environment, "PERFCI_ROOT_DIR": str(controller.plan.project)}
    reservations = open_reservations(config.load(environ=environment))
    me = reservations.actor(people.me())
    made = reservations.reserve(Request(NodeWish(1, frozenset({node})), 3600, "x", wipe=wipe), me)
    work = Work(reservations, "test")
    assert work.claim(made.id)
    steps = steps_before_ready(has_bmc=True, cloud="")
    NodeOrders(reservations).passed([node], steps, reservation_id=made.id)
    assert work.ready(made.id)
    return made.id


def test_at_the_end_of_a_reservation_its_disk_is_wiped_and_the_node_is_given_out_again(provisioned):
    keys = provisioned.inside.folder.root / "ssh"
    host_key = keys / "node-1.host_ed25519"
    before = host_key.read_text()
    made = reserved(provisioned, "node-1", Wipe.HEADERS)
    assert provisioned.inside.folder.node("node-1").disk.exists()
    provisioned.perfci("lab", "release", made)
    until(lambda: provisioned.perfci("lab", "show", made)["state"] == "over", 600, every=2)
    history = provisioned.perfci("lab", "history", "--node", "node-1")["events"]
    assert [(one["action"], one["ok"]) for one in history[-2:]] == [("wiped", True), ("reclaim", True)]
    assert provisioned.status("node-1")["power"] == "off"
    assert provisioned.status("node-1")["next_boot"] == "default"
    assert not provisioned.inside.folder.node("node-1").disk.exists()
    assert not host_key.exists()
    assert provisioned.node("node-1").address not in (keys / "known_hosts").read_text()
    done = provisioned.play("provision", provision_nodes="node-1")
    assert done.returncode == 0, done.stdout
    assert provisioned.result("node-1")["ok"]
    assert host_key.read_text() != before
    assert provisioned.ssh("node-1", "hostname") == "node-1"


def test_taking_back_twice_and_without_wiping(provisioned):
    for _ in range(2):
        done = provisioned.play("reclaim", provision_nodes="node-2")
        assert done.returncode == 0, done.stdout
        assert provisioned.status("node-2")["power"] == "off"
    assert provisioned.inside.folder.node("node-2").disk.exists()


# --- two with firmware, a disk and a kernel ------------------------------------------------------------------


EMULATED_SECONDS = {
    "provision_boot_seconds": 900,
    "provision_deploy_seconds": 1800,
    "provision_ssh_seconds": 900,
}
"""An emulated processor on a busy machine is silent for long while it unpacks an image."""


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    """Provision a machine with BIOS and one with UEFI.

    Power-on by IPMI, DHCP, iPXE, kernel and ramdisk by HTTP, the image on their disks, their own boot loader, SSH.
    """
    firmwares = (Firmware.BIOS, Firmware.UEFI)
    with laboratory(tmp_path_factory.mktemp("qemu"), 2, MachineKind.QEMU, firmwares) as controller:
        done = controller.play("provision", **EMULATED_SECONDS)
        assert done.returncode == 0, done.stdout
        yield controller


needs_firmware = needs(*lab.PROGRAMS[MachineKind.QEMU], str(EFI_CODE), IPXE_EFI)


@needs_firmware
@pytest.mark.parametrize("node", ["node-1", "node-2"])
def test_a_machine_with_real_firmware(machines, node):
    result = machines.result(node)
    assert result["ok"]
    assert machines.ssh(node, "hostname") == node
    assert int(machines.ssh(node, "df --output=size -m / | tail -n 1")) > 6000, "it has grown to its disk"
    assert "running" in machines.ssh(node, "systemctl is-system-running --wait || true")
    assert list(result["seconds"]) == ["deploy", "netboot", "ssh"]


@needs_firmware
def test_the_pxe_of_uefi_itself_gets_the_ipxe_for_uefi(machines):
    log = (machines.inside.folder.root / "netboot/logs/dhcp.log").read_text()
    assert "vendor class: PXEClient:Arch:00007" in log
    assert re.search(r"dnsmasq-tftp\S*: sent \S*/ipxe\.efi to ", log)


def boot_entry(controller, node):
    """Return the entry that UEFI has booted, as `0007 perfci`, and whether it is the first of the boot order."""
    variables = "/sys/firmware/efi/efivars"
    mounted = f"mountpoint -q {variables} || mount -t efivarfs efivarfs {variables}"
    said = controller.ssh(node, f"{mounted}; efibootmgr").splitlines()
    current = next(line.removeprefix("BootCurrent: ") for line in said if line.startswith("BootCurrent: "))
    label = next(line.partition(" ")[2] for line in said if line.startswith(f"Boot{current}"))
    return label.split("\t")[0], f"BootOrder: {current}," in "\n".join(said)


@needs_firmware
def test_uefi_boots_by_the_entry_that_the_deployment_wrote(machines):
    assert machines.ssh("node-1", "test -e /sys/firmware/efi && echo uefi || echo bios") == "bios"
    reports = {one["step"]: one["text"] for one in machines.result("node-2")["reports"]}
    assert list(reports)[-2:] == ["firmware", "deployed"]
    assert reports["firmware"].startswith("boot entry 00")
    assert boot_entry(machines, "node-2") == ("perfci", True)
    assert "firmware" not in {one["step"] for one in machines.result("node-1")["reports"]}


@needs_firmware
@pytest.mark.parametrize(("node", "firmware"), [("node-1", "bios"), ("node-2", "uefi")])
def test_a_machine_tells_what_it_is(machines, node, firmware):
    (found,) = machines.perfci("lab", "inspect", node)["nodes"]
    assert (found["firmware"], found["differences"], found["secure_boot"]) == (firmware, [], "off")
    (card,) = found["cards"]
    assert (card["mac"], card["link"], card["driver"]) == (machines.node(node).mac, "yes", "virtio_net")
    assert found["provision_mac"] == card["mac"]
    assert found["disk_rules"] == {"vda": f"serial={node}"}
    (disk,) = found["disks"]
    assert disk["bytes"] == 8 << 30
    assert f"by-id/virtio-{node}" in disk["links"]
    assert [link for link in disk["links"] if link.startswith("by-path/")]
    assert found["facts"]["memory_gib"] == "1"
    assert found["firmware_version"]


@needs_firmware
@pytest.mark.virtual  # two more boots of an emulated machine
def test_uefi_boots_from_its_disk_without_an_order_and_forgets_the_entry_when_it_is_wiped(machines):
    node = machines.node("node-2")
    before = machines.ssh("node-2", "cat /proc/sys/kernel/random/boot_id")
    machines.inside.bmc(node, "chassis", "bootdev", "none")
    assert machines.status("node-2")["next_boot"] == "default"
    machines.inside.bmc(node, "power", "cycle")
    command = ["cat", "/proc/sys/kernel/random/boot_id"]
    until(lambda: machines.inside.ssh(node, *command).stdout.strip() not in {"", before}, 300, every=2)
    assert boot_entry(machines, "node-2") == ("perfci", True)

    done = machines.play("reclaim", provision_nodes="node-2", reclaim_wipe="headers")
    assert done.returncode == 0, done.stdout
    console = machines.inside.folder.node("node-2").console.read_text(errors="replace")
    assert "deploy: firmware no boot entry is left, BootOrder: " in console
