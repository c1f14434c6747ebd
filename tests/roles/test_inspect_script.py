"""What a machine tells of itself: the script on made-up /sys and /proc folders of servers, read as perfci reads it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from programs import needs

from perfci.lab import inspecting, inspection

PROJECT = Path(__file__).parents[2]
GIB = 1 << 30

shells = pytest.mark.parametrize(
    "shell", [("sh",), pytest.param(("busybox", "sh"), marks=needs("busybox"))], ids=["dash", "busybox"]
)


class Server:
    """The files by which the kernel shows a machine."""

    def __init__(self, folder):
        self.root = folder
        self.write(
            {
                "proc/meminfo": "MemTotal:       1000 kB\n",
                "proc/cpuinfo": "processor : 0\nmodel name\t: Some CPU @ 2.10GHz\nprocessor : 1\n",
            }
        )

    def write(self, files):
        for name, content in files.items():
            file = self.root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else f"{content}\n".encode())

    def dmi(self, **fields):
        self.write({f"sys/class/dmi/id/{name}": text for name, text in fields.items()})

    def cpus(self, sockets, cores, threads):
        number = 0
        for _ in range(threads):
            for socket in range(sockets):
                for core in range(cores):
                    topology = f"sys/devices/system/cpu/cpu{number}/topology"
                    self.write({f"{topology}/physical_package_id": socket, f"{topology}/core_id": core})
                    number += 1

    def memory(self, blocks, block_bytes=0x8000000):
        folder = "sys/devices/system/memory"
        self.write({f"{folder}/block_size_bytes": f"{block_bytes:x}"})
        self.write({f"{folder}/memory{number}/state": "online" for number in range(blocks)})

    def card(self, name, mac, place="", **files):
        device = self.root / "sys/devices" / ("pci0000:3a/" + place if place else "virtual") / "net" / name
        device.mkdir(parents=True)
        (self.root / "sys/class/net").mkdir(parents=True, exist_ok=True)
        (self.root / "sys/class/net" / name).symlink_to(device)
        if place:
            (device / "device").symlink_to(device.parents[1])
        shown = {"address": mac, "type": 1, **files}
        for file, text in shown.items():
            self.write({str((device / file.replace("__", "/")).relative_to(self.root)): text})

    def disk(self, name, size, links=(), **files):
        device = self.root / "sys/devices/pci0000:00/block" / name
        shown = {"size": size // 512, "removable": 0, "ro": 0, **files}
        for file, text in shown.items():
            self.write({str((device / file.replace("__", "/")).relative_to(self.root)): text})
        (self.root / "sys/block").mkdir(parents=True, exist_ok=True)
        (self.root / "sys/block" / name).symlink_to(device)
        self.write({f"dev/{name}": ""})
        for link in links:
            place = self.root / "dev/disk" / link
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(self.root / "dev" / name)

    def text(self, shell, *arguments, **environment):
        done = subprocess.run(
            [*shell, "-s", *arguments],
            input=inspecting.script(PROJECT),
            env={
                "PATH": os.environ["PATH"],
                **{f"PERFCI_{name.upper()}": str(self.root / name) for name in ("sys", "proc", "dev")},
                **environment,
            },
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert not done.stderr
        return done.stdout

    def inspected(self, shell, *arguments, **environment):
        return inspection.read(self.text(shell, *arguments, **environment))


@pytest.fixture
def server(tmp_path):
    """Two sockets, four cards of which two are in a bond, three disks; booted by UEFI with Secure Boot on."""
    one = Server(tmp_path)
    one.dmi(
        sys_vendor="Dell Inc.",
        product_name="PowerEdge R640",
        product_serial="ABC1234",
        bios_vendor="Dell Inc.",
        bios_version="2.21.2",
        bios_date="02/19/2024",
    )
    one.cpus(sockets=2, cores=4, threads=2)
    one.memory(blocks=24)
    for node, cpus in enumerate(("0-3,8-11", "4-7,12-15")):
        folder = f"sys/devices/system/node/node{node}"
        one.write({f"{folder}/cpulist": cpus, f"{folder}/meminfo": f"Node {node} MemTotal:  1572864 kB"})
    variable = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    one.write({variable: b"\x06\x00\x00\x00\x01"})
    numa = {"device__numa_node": 1}
    one.card("eno1", "52:54:00:aa:bb:01", "0000:3a:00.0/0000:3b:00.0", carrier=1, speed=25000, **numa)
    one.card("eno2", "52:54:00:AA:BB:02", "0000:3a:00.0/0000:3b:00.1", carrier=0, speed=-1, **numa)
    bonded = {"bonding_slave__perm_hwaddr": "52:54:00:aa:bb:04", "device__numa_node": -1}
    one.card("eno3", "52:54:00:aa:bb:03", "0000:3a:00.0/0000:3b:00.2", carrier=1, speed=10000, **bonded)
    one.card("bond0", "52:54:00:aa:bb:03", carrier=1, speed=20000)
    one.card("lo", "00:00:00:00:00:00", type=772)
    one.disk(
        "sda",
        480_103_981_056,
        ["by-path/pci-0000:18:00.0-scsi-0:2:0:0", "by-id/wwn-0x5000c500a1b2c3d4"],
        device__wwid="naa.5000c500a1b2c3d4",
        device__model="SSDSC2KB480G8",
        queue__rotational=0,
    )
    one.disk("sdb", 4_000_787_030_016, device__model="ST4000NM", queue__rotational=1, device__serial="Z1")
    one.disk("sdc", 4_000_787_030_016, device__model="ST4000NM", queue__rotational=1, device__serial="Z2")
    one.disk("sdd", 8 << 30, removable=1)
    return one


@shells
def test_a_server(server, shell):
    found = server.inspected(shell, "52:54:00:aa:bb:01")
    assert (found.maker, found.model, found.serial) == ("Dell Inc.", "PowerEdge R640", "ABC1234")
    assert (found.firmware, found.firmware_version, found.secure_boot) == ("uefi", "2.21.2", "on")
    assert (found.cpu, found.sockets, found.cores) == ("Some CPU @ 2.10GHz", 2, 8)
    assert found.memory_bytes == 3 * GIB
    assert [(node.number, node.cpus) for node in found.numa] == [(0, "0-3,8-11"), (1, "4-7,12-15")]
    assert found.numa[1].bytes == 1572864 * 1024
    assert found.provision_mac == "52:54:00:aa:bb:01"


@shells
def test_its_cards_and_not_its_bond(server, shell):
    cards = {card.name: card for card in server.inspected(shell).cards}
    assert set(cards) == {"eno1", "eno2", "eno3"}
    assert (cards["eno1"].link, cards["eno1"].megabits, cards["eno1"].numa_node) == ("yes", 25000, 1)
    assert cards["eno1"].place == "0000:3b:00.0"
    assert (cards["eno2"].mac, cards["eno2"].link, cards["eno2"].megabits) == (
        "52:54:00:aa:bb:02",
        "no",
        None,
    )
    assert (cards["eno3"].mac, cards["eno3"].numa_node) == ("52:54:00:aa:bb:04", None)


@shells
def test_a_card_whose_interface_is_down(server, shell):
    server.card("eno4", "52:54:00:aa:bb:05", "0000:3a:00.0/0000:3b:00.3")
    assert {card.link for card in server.inspected(shell).cards if card.name == "eno4"} == {"unknown"}


@shells
def test_its_disks_and_the_rule_for_each(server, shell):
    disks = server.inspected(shell).disks
    assert [(disk.name, disk.rotational) for disk in disks] == [("sda", False), ("sdb", True), ("sdc", True)]
    assert set(disks[0].links) == {"by-path/pci-0000:18:00.0-scsi-0:2:0:0", "by-id/wwn-0x5000c500a1b2c3d4"}
    assert inspection.disk_rules(disks) == {
        "sda": "wwn=0x5000c500a1b2c3d4",
        "sdb": "serial=Z1",
        "sdc": "serial=Z2",
    }


@shells
def test_the_deploy_ramdisk_takes_each_of_these_rules_for_the_same_disk(server, shell):
    script = PROJECT / "roles/deploy_ramdisk/files/deploy.sh"
    for name, rule in inspection.disk_rules(server.inspected(shell).disks).items():
        done = subprocess.run(
            [*shell, script, "choose", rule, "0"],
            env={"PATH": os.environ["PATH"], "PERFCI_SYS": str(server.root / "sys")},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split("\t")[0] == name


@shells
def test_a_machine_that_says_nothing_of_itself(tmp_path, shell):
    found = Server(tmp_path).inspected(shell)
    assert (found.maker, found.firmware, found.secure_boot) == ("", "bios", "off")
    assert (found.sockets, found.cores, found.threads) == (0, 0, 2)
    assert found.memory_bytes == 1000 * 1024
    assert (found.cards, found.disks, found.numa) == ((), (), ())


@shells
def test_a_container_has_only_virtual_cards(tmp_path, shell):
    one = Server(tmp_path)
    one.card("host0", "52:54:00:00:00:01", carrier=1, speed=10000)
    assert [card.name for card in one.inspected(shell).cards] == ["host0"]


@shells
def test_tabs_and_lines_in_what_a_machine_says_do_not_become_fields(tmp_path, shell):
    one = Server(tmp_path)
    one.dmi(sys_vendor="To be\tfilled\nend\nby O.E.M.", product_name="`touch x` $(touch x)")
    found = one.inspected(shell)
    assert found.maker == "To befilledendby O.E.M."
    assert found.model == "`touch x` $(touch x)"
