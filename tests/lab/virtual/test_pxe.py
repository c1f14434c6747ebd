"""What the firmware of an nspawn node understands of DHCP and of iPXE scripts."""

from __future__ import annotations

import subprocess

import pytest

from perfci.lab.virtual import pxe

MAC = "52:54:00:00:00:0a"
URL = "http://192.168.240.1:8480/boot/52-54-00-00-00-0a"


def test_a_script_that_starts_the_ramdisk():
    text = f"#!ipxe\nkernel http://c/vmlinuz quiet perfci.url={URL} console=ttyS0\ninitrd http://c/ramdisk\nboot\n"
    assert pxe.read_script(text.splitlines(), MAC) == pxe.Script(url=URL)


def test_a_script_that_leads_to_another():
    text = "#!ipxe\nchain --replace http://192.168.240.1:8480/boot/${net0/mac:hexhyp}/boot.ipxe\n"
    assert pxe.read_script(text.splitlines(), MAC) == pxe.Script(chain=f"{URL}/boot.ipxe")


@pytest.mark.parametrize(
    "text", ["#!ipxe\nexit\nkernel perfci.url=http://x\n", "", "#!ipxe\n", "\0\xff <html>"]
)
def test_a_script_that_leads_nowhere(text):
    assert pxe.read_script(text.splitlines(), MAC) == pxe.Script()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${mac}", MAC),
        ("${net0/mac}", MAC),
        ("${netX/mac:hexhyp}", "52-54-00-00-00-0a"),
        ("${mac:hex}", MAC),
        ("${ip}", "${ip}"),
    ],
)
def test_what_ipxe_puts_in(text, expected):
    assert pxe.expand(text, MAC) == expected


def test_the_lease_as_the_hook_writes_it(tmp_path):
    lease = tmp_path / "lease"
    other = tmp_path / "other.sh"
    other.write_text(f'echo "$1 $interface" >"{tmp_path}/asked"\n')
    environment = {
        "PATH": "/usr/bin:/bin",
        "PERFCI_LEASE": str(lease),
        "PERFCI_LEASE_SCRIPT": str(other),
        "interface": "host0",
        "ip": "192.168.240.11",
        "boot_file": "from the field",
    }
    subprocess.run([pxe.HOOK, "deconfig"], env=environment, check=True)
    assert not lease.exists()
    subprocess.run([pxe.HOOK, "bound"], env=environment, check=True)
    assert (tmp_path / "asked").read_text() == "bound host0\n"
    assert pxe.Lease.parse(lease.read_text()) == pxe.Lease("192.168.240.11", "from the field")
    subprocess.run([pxe.HOOK, "bound"], env={**environment, "bootfile": f"{URL}/boot.ipxe"}, check=True)
    assert pxe.Lease.parse(lease.read_text()).boot_file == f"{URL}/boot.ipxe"


def test_a_lease_without_a_boot_file():
    assert pxe.Lease.parse("ip=10.0.0.1\n") == pxe.Lease("10.0.0.1", "")
    assert pxe.Lease.parse("") == pxe.Lease("", "")
