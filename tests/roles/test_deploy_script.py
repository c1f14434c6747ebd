"""The script that puts a system on a node: the choice of the disk, and what it does when something is wrong."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import json
import os
import shutil
import struct
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest
from programs import needs, path_of

OVERLAY = Path(__file__).parents[2] / "roles" / "os_image" / "files" / "overlay"
FILES = Path(__file__).parents[2] / "roles" / "deploy_ramdisk" / "files"
SCRIPT = FILES / "deploy.sh"
GB = 1_000_000_000
MIB = 1 << 20
ATTEMPT = "0123456789abcdef"

needs_busybox = needs("busybox")
shells = pytest.mark.parametrize(
    "shell", [("sh",), pytest.param(("busybox", "sh"), marks=needs_busybox)], ids=["dash", "busybox"]
)


class Machine:
    """A machine's /sys and /dev, made of files."""

    def __init__(self, folder):
        self.sys, self.dev = folder / "sys", folder / "dev"
        (self.sys / "block").mkdir(parents=True)
        self.dev.mkdir()

    def disk(self, name, size, serial=None, *, at="pci0000:00", serial_file="serial", **attributes):
        place = self.sys / "devices" / at / "block" / name
        place.mkdir(parents=True)
        for key, value in {"size": size // 512, "removable": 0, "ro": 0, **attributes}.items():
            (place / key).write_text(f"{value}\n")
        if serial is not None:
            (place / serial_file).parent.mkdir(exist_ok=True)
            (place / serial_file).write_bytes(serial if isinstance(serial, bytes) else serial.encode())
        (self.sys / "block" / name).symlink_to(place)
        return self

    def details(self, name, **files):
        """Write more of what the kernel tells of a disk: paths below its folder, with `__` for slashes."""
        for path, text in files.items():
            file = self.sys / "block" / name / path.replace("__", "/")
            file.parent.mkdir(exist_ok=True)
            file.write_text(f"{text}\n")
        return self

    def choose(self, shell, rule, at_least=0):
        return self.run([*shell, str(SCRIPT), "choose", rule, str(at_least)])

    def run(self, command, **environment):
        return subprocess.run(
            command,
            env={
                "PATH": os.environ["PATH"],
                "PERFCI_SYS": str(self.sys),
                "PERFCI_DEV": str(self.dev),
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.fixture
def server_disks(machine):
    """What a server may show: two equal disks, a small one, and much that is none."""
    return (
        machine.disk("sda", 960 * GB, "  S1  ", serial_file="device/serial")
        .disk("sdb", 960 * GB, b"\x00\x80\x00\x08S2      ", serial_file="device/vpd_pg80")
        .disk("nvme0n1", 400 * GB, "NVME 7")
        .disk("sdc", 8 * GB, "STICK", removable=1)
        .disk("sdd", 4 * GB, "MEDIA", at="pci0000:00/usb1/1-1")
        .disk("sde", 2 * GB, "CARD", ro=1)
        .disk("sdf", 0, "EMPTY")
        .disk("loop0", 1 * GB)
        .disk("nvme0c0n1", 400 * GB, "NVME 7", hidden=1)
    )


@shells
@pytest.mark.parametrize(
    ("rule", "name"),
    [
        ("wwn=0x5000C500A1B2C3D4", "sda"),
        ("wwn=naa.5000c500a1b2c3d4", "sda"),
        ("wwn=eui.0025385b71b0ffff", "nvme0n1"),
        ("model=ST4000 NM,min_size=900G,serial=S2", "sdb"),
        ("rotational=0", "nvme0n1"),
        ("rotational=1,smallest", None),
        ("wwn=5000c500", None),
        ("model=ST4000", None),
        ("rotational=2", None),
    ],
)
def test_disks_by_name_for_life_model_and_kind(server_disks, shell, rule, name):
    server_disks.details(
        "sda", device__wwid="naa.5000c500a1b2c3d4", device__model="  ST4000 NM  ", queue__rotational=1
    )
    server_disks.details("sdb", device__model="ST4000 NM", queue__rotational=1)
    server_disks.details("nvme0n1", wwid="eui.0025385B71B0FFFF", queue__rotational=0)
    done = server_disks.choose(shell, rule)
    assert done.stdout.split("\t")[0] == name if name else done.returncode == 1
    if rule == "rotational=1,smallest":
        assert "ambiguous" in done.stdout
        assert "wwn 5000c500a1b2c3d4, model ST4000 NM, rotational 1" in done.stdout


@shells
@pytest.mark.parametrize(
    ("rule", "at_least", "chosen"),
    [
        ("smallest", 0, f"nvme0n1\t{400 * GB}\tNVME 7"),
        ("serial=S1", 0, f"sda\t{960 * GB}\tS1"),
        ("serial=S2", 0, f"sdb\t{960 * GB}\tS2"),
        ("serial=NVME 7", 0, f"nvme0n1\t{400 * GB}\tNVME 7"),
        ("/dev/sdb", 0, f"sdb\t{960 * GB}\tS2"),
        ("/dev/sdb,serial=S2,min_size=900G", 0, f"sdb\t{960 * GB}\tS2"),
    ],
)
def test_the_disk_that_the_rule_means(server_disks, shell, rule, at_least, chosen):
    done = server_disks.choose(shell, rule, at_least)
    assert (done.returncode, done.stdout.rstrip("\n"), done.stderr) == (0, chosen, "")


@shells
@pytest.mark.parametrize(
    ("rule", "at_least", "why"),
    [
        ("min_size=500G", 0, "ambiguous"),
        ("smallest", 500 * GB, "ambiguous"),
        ("smallest,min_size=0.5T", 0, "is no size"),
        ("min_size=2T", 0, "no disk fits"),
        ("smallest", 1000 * GB, "no disk fits"),
        ("serial=STICK", 0, "no disk fits"),
        ("/dev/sdd", 0, "no disk fits"),
        ("/dev/sde", 0, "no disk fits"),
        ("serial=", 0, "unknown"),
        ("largest", 0, "unknown"),
        ("", 0, "unknown"),
        ("smallest,", 0, "unknown"),
    ],
)
def test_what_it_refuses_and_why(server_disks, shell, rule, at_least, why):
    done = server_disks.choose(shell, rule, at_least)
    assert why in done.stdout
    assert done.returncode == 1


@pytest.fixture
def linked_disks(machine):
    """Disks at places as they are in servers: two SATA disks, a RAID controller's, an NVMe, and a virtual machine's."""
    sata, raid, nvme = (
        "pci0000:00/0000:00:17.0",
        "pci0000:17/0000:17:00.0/0000:18:00.0",
        "pci0000:3a/0000:3b:00.0",
    )
    machine.disk(
        "sda", 960 * GB, "S6P A", serial_file="device/serial", at=f"{sata}/ata1/host0/target0:0:0/0:0:0:0"
    )
    machine.disk(
        "sdb", 960 * GB, "S6PB", serial_file="device/serial", at=f"{sata}/ata2/host1/target1:0:0/1:0:0:0"
    )
    for number in (1, 2):
        port = machine.sys / "devices" / sata / f"ata{number}" / "ata_port" / f"ata{number}"
        port.mkdir(parents=True)
        (port / "port_no").write_text(f"{number}\n")
    machine.disk("sdc", 960 * GB, at=f"{raid}/host8/target8:2:0/8:2:0:0")
    machine.disk("sdd", 960 * GB, at=f"{raid}/host8/target8:2:1/8:2:1:0")
    machine.disk("nvme0n1", 400 * GB, "PHLN 01", at=f"{nvme}/nvme/nvme0")
    machine.disk("vda", 40 * GB, "disk-1", at="pci0000:00/0000:00:04.0/virtio1")
    machine.details("sda", device__wwid="naa.5000c500a1b2c3d4")
    return machine.details("nvme0n1", wwid="eui.0025385B71B0FFFF")


@shells
@pytest.mark.parametrize(
    ("rule", "name"),
    [
        ("by-id/wwn-0x5000c500a1b2c3d4", "sda"),
        ("by-id/scsi-35000c500a1b2c3d4", "sda"),
        ("by-id/ata-Samsung_SSD_870_EVO_1TB_S6P_A", "sda"),
        ("by-id/ata-Samsung_SSD_870_EVO_1TB_S6PB", "sdb"),
        ("by-id/nvme-eui.0025385b71b0ffff", "nvme0n1"),
        ("by-id/nvme-INTEL_SSDPE2KX010T8_PHLN_01", "nvme0n1"),
        ("by-id/nvme-INTEL_SSDPE2KX010T8_PHLN_01_1", "nvme0n1"),
        ("by-id/virtio-disk-1", "vda"),
        ("by-id/ata-Samsung_S6P", None),
        ("by-id/*", None),
        ("by-path/pci-0000:00:17.0-ata-1", "sda"),
        ("by-path/pci-0000:00:17.0-ata-2.0", "sdb"),
        ("by-path/pci-0000:18:00.0-scsi-0:2:1:0", "sdd"),
        ("by-path/pci-0000:18:00.0-scsi-0:2:0:0,min_size=900G", "sdc"),
        ("by-path/pci-0000:3b:00.0-nvme-1", "nvme0n1"),
        ("by-path/pci-0000:00:04.0", "vda"),
        ("by-path/virtio-pci-0000:00:04.0", "vda"),
        ("by-path/pci-0000:00:17.0-ata-3", None),
        ("by-path/pci-0000:18:00.0", None),
        ("by-path/pci-0000:18:00.0-scsi-1:2:0:0", None),
    ],
)
def test_disks_by_the_links_of_udev(linked_disks, shell, rule, name):
    done = linked_disks.choose(shell, f"/dev/disk/{rule}")
    assert done.stderr == ""
    assert done.stdout.split("\t")[0] == name if name else "no disk fits" in done.stdout


@shells
def test_the_refusal_names_the_disks(server_disks, shell):
    said = server_disks.choose(shell, "min_size=500G").stdout
    assert f"/dev/sda ({960 * GB} bytes, serial S1)" in said
    assert f"/dev/sdb ({960 * GB} bytes, serial S2)" in said
    assert "nvme" not in said


@shells
def test_a_machine_without_disks(machine, shell):
    done = machine.choose(shell, "smallest")
    assert done.returncode == 1
    assert "no disk fits" in done.stdout


@shells
def test_a_rule_is_never_executed(machine, shell, tmp_path):
    machine.disk("vda", GB, "$(touch pwned)")
    for rule in (
        f"serial=$(touch {tmp_path}/pwned)",
        f"serial=`touch {tmp_path}/pwned`",
        'serial="; exit 0 #',
    ):
        assert machine.choose(shell, rule).returncode == 1
    assert not (tmp_path / "pwned").exists()


def test_usage(machine):
    done = machine.run(["sh", str(SCRIPT), "disk"])
    assert done.returncode == 2
    assert "deploy.sh disk URL" in done.stderr


# --- with a controller ---------------------------------------------------------------------------------------


class Controller:
    """Serves files and takes reports, as the controller does."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.reports: list[dict[str, str]] = []
        controller = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                content = controller.files.get(self.path)
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(content or b"")

            def do_POST(self):
                assert self.path == "/phone-home/node-1"
                controller.reports.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def orders(self, task="install", **more):
        given = {
            "node": "node-1",
            "attempt": ATTEMPT,
            "task": task,
            "phone_home": f"{self.url}/phone-home/node-1",
            "disk": "smallest",
            "image_partition": 2,
            **more,
        }
        self.files |= {
            "/boot/m/boot.conf": "".join(f"{k}={v}\n" for k, v in given.items()).encode(),
            "/boot/m/authorized_keys": b"ssh-ed25519 AAAA perfci\n",
            "/boot/m/host_key": b"private\n",
            "/boot/m/host_key.pub": b"public\n",
        }

    def root(self, content, *, digest=None):
        self.files["/root.tar.gz"] = content
        return {
            "root": f"{self.url}/root.tar.gz",
            "root_sha256": digest or hashlib.sha256(content).hexdigest(),
        }

    def image(self, raw, *, digest=None):
        self.files["/disk.img.gz"] = gzip.compress(raw)
        return {
            "image": f"{self.url}/disk.img.gz",
            "image_bytes": len(raw),
            "image_sha256": digest or hashlib.sha256(raw).hexdigest(),
        }

    @property
    def steps(self):
        assert {report["attempt"] for report in self.reports} <= {ATTEMPT}
        return [report["step"] for report in self.reports]


@pytest.fixture
def controller():
    controller = Controller()
    with controller.server as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield controller
        server.shutdown()
        thread.join()


@pytest.fixture
def root_tar(tmp_path):
    """A system, small but with what the script changes."""
    tree = tmp_path / "tree"
    for folder in ("etc/ssh", "root", "usr/bin"):
        (tree / folder).mkdir(parents=True)
    (tree / "etc/fstab").write_text("UUID=1 / ext4 defaults 0 1\n")
    shutil.copytree(OVERLAY / "etc/systemd/network", tree / "etc/systemd/network")
    (tree / "usr/bin/true").write_text("#!/bin/sh\n")
    with tarfile.open(tmp_path / "root.tar.gz", "w:gz") as archive:
        archive.add(tree, ".")
    return (tmp_path / "root.tar.gz").read_bytes()


def deploy(machine, controller, *target, scratch, **environment):
    kind = "folder" if target else "disk"
    command = ["sh", str(SCRIPT), kind, f"{controller.url}/boot/m", *map(str, target)]
    scratch.mkdir(exist_ok=True)
    return machine.run(command, TMPDIR=str(scratch), **environment)


@needs_busybox
def test_a_folder_is_deployed_and_deployed_again(machine, controller, root_tar, tmp_path):
    disk, scratch = tmp_path / "node" / "disk", tmp_path / "scratch"
    disk.mkdir(parents=True)
    (disk / "of an earlier system").write_text("")
    controller.orders(**controller.root(root_tar))
    for _ in range(2):
        controller.reports.clear()
        done = deploy(machine, controller, disk, scratch=scratch)
        assert done.returncode == 0, done.stderr
        assert controller.steps == ["ramdisk", "disk", "image", "verify", "inject", "deployed"]
        assert sorted(path.name for path in disk.iterdir()) == ["etc", "root", "usr"]
    assert (disk / "etc/hostname").read_text() == "node-1\n"
    assert "127.0.1.1 node-1\n" in (disk / "etc/hosts").read_text()
    assert (disk / "etc/fstab").read_text() == ""
    assert (disk / "root/.ssh/authorized_keys").read_text() == "ssh-ed25519 AAAA perfci\n"
    assert (disk / "etc/ssh/ssh_host_ed25519_key").read_text() == "private\n"
    assert (disk / "etc/ssh/ssh_host_ed25519_key").stat().st_mode & 0o077 == 0
    assert [path.name for path in disk.parent.iterdir()] == ["disk"]
    assert list(scratch.iterdir()) == []


@needs_busybox
def test_only_the_card_that_it_is_provisioned_by_asks_for_an_address(machine, controller, root_tar, tmp_path):
    disk = tmp_path / "node" / "disk"
    disk.mkdir(parents=True)
    folder = disk / "etc/systemd/network"
    before = (OVERLAY / "etc/systemd/network/50-perfci.network").read_text()
    assert before.count("\nName=") == 1
    controller.orders(mac="52:54:00:aa:bb:01", **controller.root(root_tar))
    assert deploy(machine, controller, disk, scratch=tmp_path / "scratch").returncode == 0
    assert [one.name for one in folder.iterdir()] == ["40-provision.network"]
    found = (folder / "40-provision.network").read_text()
    assert found.splitlines()[1:3] == ["[Match]", "MACAddress=52:54:00:aa:bb:01"]
    assert found.partition("\n[Network]")[2] == before.partition("\n[Network]")[2]
    # Orders of an earlier controller say nothing of a card.
    controller.orders(**controller.root(root_tar))
    assert deploy(machine, controller, disk, scratch=tmp_path / "scratch").returncode == 0
    assert [one.name for one in folder.iterdir()] == ["50-perfci.network"]


@needs_busybox
def console(machine, controller, tmp_path, **orders):
    """Deploy a system with a boot loader; return its configuration."""
    tree = tmp_path / "with-grub"
    for folder in ("etc/ssh", "root", "boot/grub"):
        (tree / folder).mkdir(parents=True)
    (tree / "boot/grub/grub.cfg").write_text(
        "if serial --unit=0 --speed=115200; then terminal_output console serial; fi\n"
        "linux /boot/vmlinuz ro quiet console=tty0 console=ttyS0,115200\n"
    )
    with tarfile.open(tmp_path / "grub.tar.gz", "w:gz") as archive:
        archive.add(tree, ".")
    controller.orders(**controller.root((tmp_path / "grub.tar.gz").read_bytes()), **orders)
    done = deploy(machine, controller, tmp_path / "disk", scratch=tmp_path / "scratch")
    assert done.returncode == 0, done.stderr
    return (tmp_path / "disk/boot/grub/grub.cfg").read_text()


def test_the_console_is_that_of_the_machine(machine, controller, tmp_path):
    found = console(machine, controller, tmp_path, console="ttyS1,57600n8")
    assert "serial --unit=1 --speed=57600;" in found
    assert "ro quiet console=tty0 console=ttyS1,57600n8\n" in found


def test_without_one_the_image_keeps_its_own(machine, controller, tmp_path):
    assert "console=tty0 console=ttyS0,115200" in console(machine, controller, tmp_path)


def test_a_node_with_a_domain_knows_its_short_name(machine, controller, root_tar, tmp_path):
    controller.orders(**controller.root(root_tar), node="node-1.lab.example.org")
    assert deploy(machine, controller, tmp_path / "disk", scratch=tmp_path / "scratch").returncode == 0
    assert (tmp_path / "disk/etc/hostname").read_text() == "node-1.lab.example.org\n"
    assert "127.0.1.1 node-1.lab.example.org node-1\n" in (tmp_path / "disk/etc/hosts").read_text()


@pytest.mark.parametrize("fault", ["digest", "garbage", "cut short", "missing"])
def test_a_bad_image_leaves_the_old_system_alone(machine, controller, root_tar, tmp_path, fault):
    disk, scratch = tmp_path / "node" / "disk", tmp_path / "scratch"
    disk.mkdir(parents=True)
    (disk / "old").write_text("")
    served = {"garbage": b"no tar at all", "cut short": root_tar[:-20]}.get(fault, root_tar)
    digest = "0" * 64 if fault == "digest" else hashlib.sha256(root_tar).hexdigest()
    controller.orders(**controller.root(served, digest=digest))
    if fault == "missing":
        del controller.files["/root.tar.gz"]
    done = deploy(machine, controller, disk, scratch=scratch)
    assert done.returncode == 1
    assert controller.steps[-1] == "failed"
    assert controller.reports[-1]["text"]
    assert [path.name for path in disk.iterdir()] == ["old"]
    assert list(scratch.iterdir()) == []


@needs_busybox
def test_orders_without_keys_are_no_orders(machine, controller, root_tar, tmp_path):
    controller.orders(**controller.root(root_tar))
    del controller.files["/boot/m/host_key"]
    done = deploy(machine, controller, tmp_path / "disk", scratch=tmp_path / "scratch")
    assert done.returncode == 1
    assert "keys" in controller.reports[-1]["text"]
    assert not (tmp_path / "disk").exists()


@needs_busybox
def test_a_folder_is_wiped(machine, controller, tmp_path):
    (tmp_path / "disk").mkdir()
    controller.orders("wipe", wipe="headers")
    assert deploy(machine, controller, tmp_path / "disk", scratch=tmp_path / "scratch").returncode == 3
    assert controller.steps == ["ramdisk", "disk", "wipe", "wiped"]
    assert not (tmp_path / "disk").exists()


@needs_busybox
def test_an_unknown_task_is_a_failure(machine, controller, tmp_path):
    controller.orders("upgrade")
    assert deploy(machine, controller, tmp_path / "disk", scratch=tmp_path / "scratch").returncode == 1
    assert controller.steps == ["ramdisk", "failed"]


@needs_busybox
def test_reports_are_json_whatever_stands_in_them(machine, controller, tmp_path):
    machine.disk("vda", GB, 'a"b\\c\x01').disk("vdb", GB, "ü")
    controller.orders("wipe", wipe="headers")
    assert deploy(machine, controller, scratch=tmp_path / "scratch").returncode == 1
    assert controller.steps == ["ramdisk", "failed"]
    assert "ambiguous" in controller.reports[-1]["text"]


def one_disk(machine, raw_size):
    machine.disk("vda", raw_size, "D1")
    (machine.dev / "vda").write_bytes(b"\xff" * raw_size)
    return machine.dev / "vda"


@needs_busybox
def test_the_image_is_written_and_read_again(machine, controller, tmp_path):
    disk = one_disk(machine, 64 * MIB)
    raw = os.urandom(MIB) * 3
    controller.orders(**controller.image(raw))
    done = deploy(machine, controller, scratch=tmp_path / "scratch")
    written = disk.read_bytes()
    assert written[: len(raw)] == raw
    assert set(written[-MIB:]) == {0}, "the end keeps no partition table of an earlier system"
    # A file is no disk whose partitions could be mounted; that is as far as it gets, and it says so.
    assert controller.steps == ["ramdisk", "disk", "image", "verify", "failed"]
    assert "root partition" in controller.reports[-1]["text"]
    assert done.returncode == 1


@needs_busybox
@pytest.mark.parametrize("fault", ["digest", "cut short", "missing"])
def test_what_is_wrong_with_the_image_shows(machine, controller, tmp_path, fault):
    one_disk(machine, 64 * MIB)
    raw = os.urandom(MIB) * 3
    controller.orders(**controller.image(raw, digest="0" * 64 if fault == "digest" else None))
    if fault == "cut short":
        controller.files["/disk.img.gz"] = controller.files["/disk.img.gz"][:-1000]
    if fault == "missing":
        del controller.files["/disk.img.gz"]
    assert deploy(machine, controller, scratch=tmp_path / "scratch").returncode == 1
    assert controller.steps[-1] == "failed"
    assert "SHA-256" in controller.reports[-1]["text"]


@needs_busybox
def test_a_disk_that_is_too_small_is_not_begun_with(machine, controller, tmp_path):
    disk = one_disk(machine, 2 * MIB)
    controller.orders(**controller.image(bytes(3 * MIB)))
    assert deploy(machine, controller, scratch=tmp_path / "scratch").returncode == 1
    assert controller.steps == ["ramdisk", "failed"]
    assert set(disk.read_bytes()) == {0xFF}


@needs_busybox
@pytest.mark.parametrize(("how", "zeros"), [("headers", 32 * MIB), ("full", 64 * MIB)])
def test_a_disk_is_wiped(machine, controller, tmp_path, how, zeros):
    disk = one_disk(machine, 64 * MIB)
    controller.orders("wipe", wipe=how)
    assert deploy(machine, controller, scratch=tmp_path / "scratch").returncode == 3
    written = disk.read_bytes()
    assert len(written) == 64 * MIB
    assert written.count(0) == zeros
    assert set(written[: 16 * MIB] + written[-16 * MIB :]) == {0}


# --- UEFI ------------------------------------------------------------------------------------------------------


class Variables:
    """UEFI's variables as the kernel's efivarfs shows them: four bytes of attributes, then the value; for the real efibootmgr."""

    GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
    END_OF_PATH = b"\x7f\xff\x04\x00"

    def __init__(self, machine, **entries):
        (machine.sys / "firmware" / "efi").mkdir(parents=True)
        self.folder = machine.sys / "firmware" / "efi" / "efivars"
        self.folder.mkdir()
        for number, label in entries.items():
            option = struct.pack("<IH", 1, len(self.END_OF_PATH)) + label.encode("utf-16-le") + b"\0\0"
            self._write(number, option + self.END_OF_PATH)
        self._write("BootOrder", b"".join(bytes.fromhex(name[-4:])[::-1] for name in entries))

    def _write(self, name, value):
        (self.folder / f"{name}-{self.GLOBAL}").write_bytes(struct.pack("<I", 7) + value)

    @property
    def environment(self):
        return {"EFIVARFS_PATH": f"{self.folder}/"}

    @property
    def entries(self):
        return sorted(file.name[:8] for file in self.folder.glob("Boot0*"))


@needs_busybox
@needs("efibootmgr")
def test_a_uefi_machine_whose_disk_is_wiped_forgets_our_boot_entries_and_no_other(
    machine, controller, tmp_path
):
    one_disk(machine, 64 * MIB)
    labels = {"Boot0000": "UiApp", "Boot0001": "perfci", "Boot0002": "perfci spare", "Boot000A": "perfci"}
    variables = Variables(machine, **labels)
    controller.orders("wipe", wipe="headers", firmware="uefi")
    done = deploy(machine, controller, scratch=tmp_path / "scratch", **variables.environment)
    assert done.returncode == 3
    assert variables.entries == ["Boot0000", "Boot0002"]
    assert controller.steps == ["ramdisk", "disk", "wipe", "firmware", "wiped"]
    assert "no boot entry is left, BootOrder: 0000,0002" in controller.reports[-2]["text"]


@needs_busybox
@needs("efibootmgr")
def test_boot_entries_that_cannot_be_removed_are_reported_and_stop_nothing(machine, controller, tmp_path):
    one_disk(machine, 64 * MIB)
    variables = Variables(machine, Boot0001="perfci")
    controller.orders("wipe", wipe="headers")
    done = deploy(
        machine,
        controller,
        scratch=tmp_path / "scratch",
        PATH=f"{_locked(tmp_path)}:{os.environ['PATH']}",
        **variables.environment,
    )
    assert done.returncode == 3
    assert variables.entries == ["Boot0001"]
    assert "could not be removed: Could not delete variable" in controller.reports[-2]["text"]


def _locked(folder):
    """Return a folder with an efibootmgr that reads, and may not delete, as on a firmware that is write-protected."""
    (folder / "bin").mkdir()
    program = folder / "bin" / "efibootmgr"
    real = path_of("efibootmgr")
    refusal = "echo 'Could not delete variable: Read-only file system' >&2; exit 5"
    program.write_text(
        f'#!/bin/sh\ncase " $* " in *" --delete-bootnum "*) {refusal} ;; esac\nexec {real} "$@"\n'
    )
    program.chmod(0o755)
    return program.parent


@needs_busybox
@pytest.mark.parametrize(
    ("booted", "said", "task"),
    [("uefi", "bios", "install"), ("bios", "uefi", "install"), ("uefi", "bios", "wipe")],
)
def test_a_wrong_firmware_in_the_inventory_is_told_before_the_disk_is_touched(  # noqa: PLR0917 - fixtures
    machine, controller, tmp_path, booted, said, task
):
    disk = one_disk(machine, 4 * MIB)
    if booted == "uefi":
        Variables(machine)
    controller.orders(task, firmware=said, wipe="headers", **controller.image(bytes(MIB)))
    assert deploy(machine, controller, scratch=tmp_path / "scratch").returncode == 1
    assert controller.steps == ["ramdisk", "failed"]
    assert f"booted by {booted}, but provision_firmware is {said}" in controller.reports[-1]["text"]
    assert set(disk.read_bytes()) == {0xFF}


@needs_busybox
@pytest.mark.slow
def test_without_orders_it_gives_up(machine, controller, tmp_path):
    done = deploy(machine, controller, tmp_path / "disk", scratch=tmp_path / "scratch")
    assert done.returncode == 1
    assert "no orders" in done.stderr
