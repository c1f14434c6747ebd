"""The role provision on a controller: real BMC protocol, simulated machines, and ramdisks that the test plays."""

from __future__ import annotations

import json
import os
import socketserver
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml
from programs import needs
from role_plays import LOCAL, PROJECT
from simulated_bmcs import PASSWORD, USERNAME, Thread

pytestmark = [pytest.mark.slow, needs("ssh-keygen")]
NODES = ("node-1", "node-2", "node-3")
STEPS = ("ramdisk", "image", "deployed")


class Greeter(socketserver.BaseRequestHandler):
    """An SSH server, as far as it is waited for."""

    def handle(self):
        self.request.sendall(b"SSH-2.0-test\r\n")


class Lab:
    """A controller's folder, three BMCs and their nodes; node-2 never reports, node-3 has another password."""

    def __init__(self, folder, rack, ssh_port):
        self.folder, self.netboot = folder, folder / "netboot"
        self.rack, self.over = rack, threading.Event()
        hosts = {name: self.host(name, number, ssh_port) for number, name in enumerate(NODES, 1)}
        hosts["node-3"]["bmc_password"] = "another"
        controller = {
            **LOCAL,
            "perfci_state_dir": str(folder),
            "provision_claims": {},
            "netboot_result": {
                "url": "http://192.0.2.1:8480",
                "folder": str(self.netboot),
                "images": str(folder / "images"),
                "dhcp_log": str(self.netboot / "dhcp.log"),
            },
            "os_image_result": {
                "name": "os-1", "image": "os-1/disk.img.gz", "image_bytes": 1, "image_sha256": "00",
                "image_partition": 1, "efi_partition": 2, "root": "os-1/root.tar.gz", "root_sha256": "11",
            },
            "deploy_ramdisk_result": {"kernel": "r/vmlinuz", "ramdisk": "r/initrd.gz"},
            "provision_quarantine": False,
            "provision_lab": "",
            "provision_poll_seconds": 1,
        }  # fmt: skip
        inventory = {
            "all": {
                "children": {
                    "controller": {"hosts": {"controller": controller}},
                    "nodes": {"hosts": hosts},
                }
            }
        }
        (folder / "hosts.yml").write_text(yaml.safe_dump(inventory))

    def host(self, name, number, ssh_port):
        target = self.rack.bmcs[name].target
        return {
            "ansible_host": "127.0.0.1",
            "ansible_port": ssh_port,
            # As inventory/example has it.
            "ansible_ssh_private_key_file": "{{ hostvars['controller'].perfci_state_dir }}/ssh/id_ed25519",
            "bmc_address": target.address,
            "bmc_port": target.port,
            "bmc_username": USERNAME,
            "bmc_password": PASSWORD,
            "provision_mac": f"52:54:00:AA:BB:0{number}",
            "provision_firmware": "uefi" if number == 1 else "bios",
            "provision_disk": "smallest",
            "provision_boot_seconds": 4,
            "provision_kernel_arguments": "quiet console=tty0 console=ttyS0,115200 panic=10",
            "provision_console": "ttyS2,57600",
        }

    def orders(self, name):
        return self.netboot / "boot" / f"52-54-00-aa-bb-0{name[-1]}"

    def ramdisk(self):
        """Do what node-1's ramdisk does, whenever it has orders and was told to boot from the network."""
        done = set()
        while not self.over.wait(0.05):
            file = self.orders("node-1") / "boot.conf"
            if (
                not (self.orders("node-1") / "boot.ipxe").exists()
                or not self.rack.bmcs["node-1"].machine.is_on
            ):
                continue
            conf = dict(line.split("=", 1) for line in file.read_text().splitlines())
            if conf["attempt"] in done:
                continue
            done.add(conf["attempt"])
            self.conf = conf
            self.files = {one.name: one.read_text() for one in file.parent.iterdir()}
            steps = STEPS if conf["task"] == "install" else ("ramdisk", "wiped")
            log = self.netboot / "phone-home" / "node-1.jsonl"
            log.parent.mkdir(exist_ok=True)
            log.write_text(
                "".join(
                    json.dumps({"time": 2e9, "attempt": conf["attempt"], "step": step, "text": ""}) + "\n"
                    for step in steps
                )
            )

    def play(self, *tasks_from, **variables):
        tasks = [
            {"ansible.builtin.import_role": {"name": "provision", "tasks_from": one}} for one in tasks_from
        ]
        described = [{"ansible.builtin.import_role": {"name": "provision", "tasks_from": "describe"}}]
        playbook = [
            {"name": name, "hosts": hosts, "gather_facts": False, "tasks": some}
            for name, hosts, some in (("Look", "nodes", described), ("Try", "controller", tasks))
        ]
        (self.folder / "play.yml").write_text(yaml.safe_dump(playbook))
        command = [Path(sys.executable).with_name("ansible-playbook"), "-i", self.folder / "hosts.yml"]
        return subprocess.run(
            [*command, self.folder / "play.yml", "-e", json.dumps(variables)],
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
                "ANSIBLE_HOME": str(self.folder / "ansible"),
            },
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )

    def result(self, name):
        return json.loads((self.folder / "provision" / f"{name}.json").read_text())


@pytest.fixture
def lab(tmp_path):
    with (
        Thread(*NODES).running() as rack,
        socketserver.ThreadingTCPServer(("127.0.0.1", 0), Greeter) as server,
    ):
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        lab = Lab(tmp_path, rack, server.server_address[1])
        player = threading.Thread(target=lab.ramdisk)
        player.start()
        yield lab
        lab.over.set()
        player.join()
        server.shutdown()


def test_nodes_are_provisioned_and_taken_back(lab):
    # What sets nodes up comes after this role, and says so of those that it has set up.
    done = lab.play("main", "report", provision_least=0, provision_finished=True)
    assert done.returncode != 0
    assert PASSWORD not in done.stdout
    assert "1 of 3 nodes came up, 3 must" in done.stdout
    assert lab.result("node-1")["ok"], done.stdout
    assert list(lab.result("node-1")["seconds"]) == ["deploy", "netboot", "ssh"]
    assert [one["step"] for one in lab.result("node-1")["reports"]] == list(STEPS)
    assert lab.conf["node"] == "node-1"
    assert lab.conf["mac"] == "52:54:00:aa:bb:01"
    assert lab.conf["phone_home"] == "http://192.0.2.1:8480/phone-home/node-1"
    assert lab.conf["console"] == "ttyS2,57600"
    assert (
        "perfci.url=http://192.0.2.1:8480/boot/52-54-00-aa-bb-01 "
        "quiet console=tty0 console=ttyS2,57600 panic=10\n" in lab.files["boot.ipxe"]
    )
    key = lab.folder / "ssh" / "node-1.host_ed25519"
    assert lab.files["host_key"] == key.read_text()
    assert lab.files["authorized_keys"] == (lab.folder / "ssh" / "id_ed25519.pub").read_text()
    assert lab.rack.bmcs["node-1"].boot.order.device == "disk"
    assert lab.rack.bmcs["node-1"].boot.order.uefi

    assert lab.result("node-2")["failure"]["stage"] == "netboot"
    assert "within 4 s" in lab.result("node-2")["failure"]["reason"]
    assert lab.result("node-3")["failure"]["stage"] == "power"
    assert not any(lab.orders(name).exists() for name in NODES)

    done = lab.play("reclaim", provision_wipe="headers", provision_nodes="node-1")
    assert done.returncode == 0, done.stdout
    assert (lab.conf["task"], lab.conf["wipe"]) == ("wipe", "headers")
    assert "host_key" not in lab.files
    assert not lab.rack.bmcs["node-1"].machine.is_on
    assert lab.rack.bmcs["node-2"].machine.is_on, "only node-1 was meant"
    assert not key.exists()
    assert (lab.folder / "ssh" / "id_ed25519").exists()
    assert not (lab.netboot / "phone-home" / "node-1.jsonl").exists()


def test_so_many_at_a_time(lab):
    done = lab.play("main", provision_parallel=2, provision_nodes="node-1,node-2")
    assert done.stdout.count("Lay out the orders") == 1
    done = lab.play("main", provision_parallel=1, provision_nodes="node-1,node-2")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("Lay out the orders") == 2
    assert not any(lab.orders(name).exists() for name in NODES)
