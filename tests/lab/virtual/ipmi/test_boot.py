"""The boot options of a BMC."""

from __future__ import annotations

import pytest
from lab.virtual.ipmi.client import Clock

from perfci.lab.virtual.ipmi import BootFlags
from perfci.lab.virtual.ipmi.completion import CommandRefused
from perfci.lab.virtual.machine import Boot, BootFrom

FLAGS, VALIDITY, PROGRESS = 5, 3, 0
ONCE, ALWAYS, UEFI = 0x80, 0xC0, 0x20


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def boot(clock):
    return BootFlags(clock)


def order(boot, bits, device):
    boot.set(FLAGS, bytes([bits, device << 2, 0, 0, 0]))


def test_without_an_order_the_firmware_decides(boot):
    assert boot.order == boot.next_boot() == Boot()


@pytest.mark.parametrize(
    ("device", "found"),
    [
        (0, BootFrom.DEFAULT),
        (1, BootFrom.NETWORK),
        (2, BootFrom.DISK),
        (3, BootFrom.DISK),
        (5, BootFrom.DEFAULT),
        (6, BootFrom.SETUP),
        (15, BootFrom.DEFAULT),
    ],
)
def test_devices(boot, device, found):
    order(boot, ONCE, device)
    assert boot.next_boot() == Boot(found)


def test_a_one_shot_order_is_used_up(boot):
    order(boot, ONCE | UEFI, 1)
    assert boot.order == Boot(BootFrom.NETWORK, uefi=True)
    assert boot.next_boot() == Boot(BootFrom.NETWORK, uefi=True)
    assert boot.next_boot() == Boot()
    assert boot.get(FLAGS) == bytes(5)


def test_a_persistent_order_stays(boot, clock):
    order(boot, ALWAYS, 1)
    clock.now += 100_000
    assert [boot.next_boot() for _ in range(3)] == [Boot(BootFrom.NETWORK)] * 3
    order(boot, ONCE, 6)
    assert boot.next_boot() == Boot(BootFrom.SETUP)
    assert boot.next_boot() == Boot()


def test_an_order_without_the_valid_bit_is_none(boot):
    order(boot, 0x40, 1)
    assert boot.order == Boot()


def test_a_one_shot_order_is_forgotten_unless_a_command_follows(boot, clock):
    order(boot, ONCE, 1)
    clock.now += 59.9
    assert boot.order == Boot(BootFrom.NETWORK)
    boot.commanded()
    clock.now += 59.9
    assert boot.order == Boot(BootFrom.NETWORK)
    clock.now += 0.1
    assert boot.order == boot.next_boot() == Boot()


def test_it_is_kept_where_that_was_asked_for(boot, clock):
    boot.set(VALIDITY, b"\x08")
    order(boot, ONCE, 1)
    clock.now += 100_000
    assert boot.next_boot() == Boot(BootFrom.NETWORK)


def test_all_bytes_are_read_back(boot):
    boot.set(FLAGS, bytes([0xE0, 0x98, 1, 2, 3]))
    boot.set(4, b"\xff\x01")
    assert boot.get(FLAGS) == bytes([0xE0, 0x98, 1, 2, 3])
    assert boot.get(4) == b"\xff\x01"


def test_set_in_progress(boot):
    boot.set(PROGRESS, b"\1")
    with pytest.raises(CommandRefused) as refused:
        boot.set(PROGRESS, b"\1")
    assert refused.value.code == 0x81
    boot.set(PROGRESS, b"\2")
    assert boot.get(PROGRESS) == b"\0"
    boot.set(PROGRESS, b"\1")
    order(boot, ALWAYS, 1)
    boot.reset()
    assert boot.get(PROGRESS) == b"\0"
    assert boot.order == Boot(BootFrom.NETWORK)


@pytest.mark.parametrize(("selector", "data", "code"), [(7, b"\0", 0x80), (5, b"\0", 0xC7), (0, b"", 0xC7)])
def test_what_can_not_be_set(boot, selector, data, code):
    with pytest.raises(CommandRefused) as refused:
        boot.set(selector, data)
    assert refused.value.code == code
