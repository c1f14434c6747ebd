"""Power, POST and reset, with hardware that is played."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from perfci.lab.virtual import powered
from perfci.lab.virtual.errors import HostCommandFailed
from perfci.lab.virtual.faults import MachineFaults
from perfci.lab.virtual.machine import Boot, BootFrom, MachineBroken
from perfci.lab.virtual.powered import Ending, PoweredMachine, unless


class Hardware:
    """Notes what is done with it; `end` ends what runs."""

    def __init__(self):
        self.notes: list[str] = []
        self.obedient = True
        self.broken: set[str] = set()
        self.stage = ""
        self._endings: asyncio.Queue[Ending | Exception] = asyncio.Queue()

    def end(self, how):
        self._endings.put_nowait(how)

    async def plug(self):
        self._note("plug")

    async def run(self, boot):
        self._note(f"run {boot.device}")
        self.stage = "runs"
        ending = await self._endings.get()
        if isinstance(ending, Exception):
            raise ending
        return ending

    async def press(self):
        self._note("press")
        return self.obedient

    async def unplug(self):
        self._note("unplug")

    async def scrap(self):
        self._note("scrap")

    def _note(self, what):
        self.notes.append(what)
        if what in self.broken:
            raise HostCommandFailed(command=what, reason="out of order")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(powered, "POST_SECONDS", 0)


def drive(story, *, boots=(), faults=None):
    """Run a story with a machine that is off, and its hardware."""
    hardware, orders = Hardware(), list(boots)
    faults = faults or MachineFaults()

    async def play():
        machine = PoweredMachine(
            "node-1", hardware, lambda: orders.pop(0) if orders else Boot(), faults, Path("/log")
        )
        await story(machine, hardware)
        await machine.power_off()

    asyncio.run(play())
    return hardware.notes


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the condition is anything
            await asyncio.sleep(0)


def test_on_and_off_and_each_order_twice():
    async def story(machine, hardware):
        assert (machine.is_on, machine.stage) == (False, "off")
        await machine.power_on()
        await machine.power_on()
        await until(lambda: hardware.stage == "runs")
        assert (machine.is_on, machine.stage) == (True, "runs")
        await machine.power_off()
        assert (machine.is_on, machine.stage) == (False, "off")

    assert drive(story) == ["plug", "run default", "unplug", "unplug"]


def test_every_reset_reads_the_boot_order_anew():
    async def story(machine, hardware):
        await machine.power_on()
        await until(lambda: "run network" in hardware.notes)
        hardware.end(Ending.RESET)
        await until(lambda: "run disk" in hardware.notes)
        await machine.reset()
        await until(lambda: "run default" in hardware.notes)

    notes = drive(story, boots=[Boot(BootFrom.NETWORK), Boot(BootFrom.DISK)])
    assert notes == [
        *("plug", "run network", "unplug"),
        *("plug", "run disk", "unplug"),
        *("plug", "run default", "unplug"),
    ]


def test_a_system_that_powers_off_turns_the_machine_off():
    async def story(machine, hardware):
        await machine.power_on()
        hardware.end(Ending.OFF)
        await until(lambda: not machine.is_on)
        await machine.reset()  # does nothing while it is off
        assert not machine.is_on

    assert drive(story).count("plug") == 1


def test_a_button_that_a_system_sees_and_one_that_only_firmware_sees():
    async def story(machine, hardware):
        await machine.shut_down()
        assert hardware.notes == []
        await machine.power_on()
        await machine.shut_down()
        assert machine.is_on
        hardware.obedient = False
        await machine.shut_down()
        assert not machine.is_on

    drive(story)


def test_hardware_that_fails_turns_the_machine_off():
    async def story(machine, hardware):
        await machine.power_on()
        hardware.end(HostCommandFailed(command="qemu", reason="no memory"))
        await until(lambda: not machine.is_on)

    assert drive(story)[:3] == ["plug", "run default", "unplug"]


def test_what_cannot_be_switched_on_says_why():
    async def story(machine, hardware):
        hardware.broken.add("plug")
        with pytest.raises(MachineBroken, match="node-1 can't power on: plug: out of order"):
            await machine.power_on()
        assert not machine.is_on

    drive(story)


def test_a_reboot_loop(monkeypatch):
    monkeypatch.setattr(powered, "REBOOT_LOOP_SECONDS", 0.01)

    async def story(machine, hardware):
        await machine.power_on()
        await until(lambda: hardware.notes.count("run default") >= 3)
        assert machine.is_on

    drive(story, faults=MachineFaults(reboot_loop=True))


def test_close_removes_what_was_made():
    async def story(machine, hardware):
        await machine.power_on()
        await machine.close()
        assert not machine.is_on
        assert hardware.notes[-1] == "scrap"

    drive(story)


def test_orders_at_once_come_one_after_the_other():
    async def story(machine, hardware):
        await asyncio.gather(
            *(getattr(machine, name)() for name in ("power_on", "reset", "power_off", "power_on"))
        )
        assert machine.is_on
        assert hardware.notes.count("plug") - hardware.notes.count("unplug") == 1

    drive(story)


def test_a_condition_ends_what_is_done():
    async def play(condition, doing):
        return await unless(condition, doing)

    async def reset():
        return Ending.RESET

    assert asyncio.run(play(lambda: False, reset())) is Ending.RESET
    assert asyncio.run(play(lambda: True, asyncio.sleep(60))) is Ending.OFF
