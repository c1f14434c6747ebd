"""The pure parts of a qemu node; the node itself is in test_lab_qemu.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from perfci.lab.virtual.machine import BootFrom
from perfci.lab.virtual.plan import Firmware
from perfci.lab.virtual.qemu import ORDERS, Machinery, accelerator, arguments, boot_order

MACHINERY = Machinery(
    name="node-1",
    disk=Path("/srv/a,b/disk.qcow2"),
    mac="52:54:00:00:00:01",
    tap="port1",
    order=ORDERS[BootFrom.NETWORK],
    efi_variables=None,
    monitor=7,
    console=9,
)


def option(arguments, word):
    return next(one for one in arguments if one.startswith(word))


@pytest.mark.parametrize(
    ("device", "disk", "network"),
    [
        (BootFrom.NETWORK, "bootindex=2", "bootindex=1"),
        (BootFrom.DISK, "bootindex=1", None),
        (BootFrom.DEFAULT, "bootindex=1", "bootindex=2"),
    ],
)
def test_the_boot_order(device, disk, network):
    command = arguments(replace(MACHINERY, order=ORDERS[device]))
    assert option(command, "virtio-blk-pci").endswith(disk)
    card = option(command, "virtio-net-pci")
    assert card.endswith(network) if network else "bootindex" not in card
    assert "strict=on" in command  # else SeaBIOS tries what has no index, too


def test_uefi_goes_by_its_own_boot_order_where_the_bmc_gives_none():
    assert boot_order(BootFrom.DEFAULT, Firmware.UEFI) == ()
    assert boot_order(BootFrom.DEFAULT, Firmware.BIOS) == (BootFrom.DISK, BootFrom.NETWORK)
    for firmware in Firmware:
        assert boot_order(BootFrom.NETWORK, firmware)[0] is BootFrom.NETWORK
        assert boot_order(BootFrom.DISK, firmware) == (BootFrom.DISK,)
    command = arguments(replace(MACHINERY, order=(), efi_variables=Path("/srv/variables.fd")))
    assert not any("bootindex" in word for word in command)


def test_uefi_boots_by_pxe_of_its_own_and_not_of_the_card_s_rom():
    assert "romfile" not in option(arguments(MACHINERY), "virtio-net-pci")
    uefi = arguments(replace(MACHINERY, efi_variables=Path("/srv/variables.fd")))
    assert "romfile=," in option(uefi, "virtio-net-pci")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fpu vmx sse2", "kvm:tcg"), ("fpu svm", "kvm:tcg"), ("fpu hypervisor", "tcg"), ("vmx_like", "tcg")],
)
def test_kvm_is_used_only_with_the_processor_s_help(flags, expected):
    assert accelerator(f"processor : 0\nvmx flags : svm\nflags\t\t: {flags}\n") == expected
    assert accelerator("") == "tcg"


def test_it_ends_at_a_reset_and_waits_for_its_monitor():
    command = arguments(MACHINERY)
    assert {"-no-reboot", "-S"} <= set(command)
    assert "socket,id=monitor,fd=7" in command
    assert "socket,id=console,fd=9" in command


def test_a_comma_in_a_path_is_no_end_of_it():
    assert option(arguments(MACHINERY), "if=none").endswith("file=/srv/a,,b/disk.qcow2")


def test_uefi_has_its_own_variables():
    assert not any("pflash" in word for word in arguments(MACHINERY))
    command = arguments(replace(MACHINERY, efi_variables=Path("/srv/variables.fd")))
    flash = [word for word in command if word.startswith("if=pflash")]
    assert "readonly=on" in flash[0]
    assert flash[1].endswith("file=/srv/variables.fd")
    assert "readonly" not in flash[1]
