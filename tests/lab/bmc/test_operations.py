"""Orders and their effects, with BMCs in memory."""

from __future__ import annotations

import asyncio

import pytest

from perfci.lab.bmc.base import BootDevice, BootOrder, Power, PowerOrder, Rung, Target
from perfci.lab.bmc.errors import BmcError, BmcIneffective, BmcSessionsFull, ShutdownIgnored
from perfci.lab.bmc.memory import Rack, Sickness
from perfci.lab.bmc.operations import Done, Order, State, carry_out

ONCE = BootOrder(BootDevice.NETWORK)
ALWAYS = BootOrder(BootDevice.DISK, persistent=True)
TARGET = Target("node-1", "192.0.2.1", "perfci", "s3cret", power_seconds=0.05)


def do(rack: Rack, order: Order, *, dry_run: bool = False) -> Done:
    return asyncio.run(
        carry_out(
            TARGET,
            order,
            connect=rack.connect,
            dry_run=dry_run,
            shutdown_seconds=0.05,
        )
    )


@pytest.mark.parametrize(
    ("order", "on", "presses", "after"),
    [
        (PowerOrder.ON, False, [PowerOrder.ON], Power.ON),
        (PowerOrder.ON, True, [], Power.ON),
        (PowerOrder.OFF, True, [PowerOrder.OFF], Power.OFF),
        (PowerOrder.OFF, False, [], Power.OFF),
        (PowerOrder.SOFT, True, [PowerOrder.SOFT], Power.OFF),
        (PowerOrder.SOFT, False, [], Power.OFF),
        (PowerOrder.CYCLE, True, [PowerOrder.OFF, PowerOrder.ON], Power.ON),
        (PowerOrder.CYCLE, False, [PowerOrder.ON], Power.ON),
        (None, True, [], Power.ON),
    ],
)
def test_only_what_is_needed_is_pressed(order, on, presses, after):
    rack = Rack()
    bmc = rack.bmc("node-1")
    bmc.on = on
    dry = do(rack, Order(order), dry_run=True)
    assert bmc.presses == []
    done = do(rack, Order(order))
    assert bmc.presses == presses
    assert (done.after.power, done.changed) == (after, bool(presses))
    assert (dry.after, dry.changed) == (done.after, done.changed), "a dry run says what will be"
    assert bmc.on is (after is Power.ON)
    assert bmc.sessions == 0


def test_others_sessions_end_only_where_that_is_ordered():
    rack = Rack()
    bmc = rack.bmc("node-1")
    bmc.stale_sessions = 2
    do(rack, Order(PowerOrder.OFF))
    do(rack, Order(PowerOrder.OFF, alone=True), dry_run=True)
    assert bmc.stale_sessions == 2
    do(rack, Order(PowerOrder.OFF, alone=True))
    assert bmc.stale_sessions == 0


def test_a_boot_order_is_set_before_the_power_is_switched():
    rack = Rack()
    bmc = rack.bmc("node-1")
    done = do(rack, Order(PowerOrder.CYCLE, ALWAYS))
    assert done == Done(State(Power.OFF, BootOrder()), State(Power.ON, ALWAYS), changed=True)
    assert bmc.order == ALWAYS
    again = do(rack, Order(PowerOrder.ON, ALWAYS))
    assert again.changed is False
    do(rack, Order(PowerOrder.CYCLE, ONCE))
    assert bmc.order == BootOrder(), "the start has used it up"


def test_default_takes_back_what_was_ordered():
    rack = Rack()
    rack.bmc("node-1").order = ALWAYS
    done = do(rack, Order(boot=BootOrder(BootDevice.DEFAULT, persistent=True, uefi=True)))
    assert done.after.boot == BootOrder()
    assert rack.bmc("node-1").order == BootOrder()


@pytest.mark.parametrize(
    ("sickness", "on", "order", "error", "words"),
    [
        ({"ok_without_effect": True}, False, Order(boot=ONCE), BmcIneffective, "boot from network once"),
        ({"ok_without_effect": True}, True, Order(PowerOrder.OFF), BmcIneffective, "still says 'on'"),
        ({"power_on_never": True}, True, Order(PowerOrder.CYCLE), BmcIneffective, "still says 'off'"),
        ({"ok_without_effect": True}, True, Order(PowerOrder.SOFT), ShutdownIgnored, "did not shut down"),
        ({"sessions_full": True}, True, Order(), BmcSessionsFull, "no free session"),
    ],
)
def test_ok_is_not_believed(sickness, on, order, error, words):
    rack = Rack()
    rack.bmc("node-1").on = on
    rack.bmc("node-1").sickness = Sickness(**sickness)
    with pytest.raises(error, match=words) as caught:
        do(rack, order)
    assert str(caught.value).startswith("node-1: ")
    assert caught.value.advice
    assert rack.bmc("node-1").sessions == 0


def test_a_password_is_not_in_what_is_printed():
    assert "s3cret" not in repr(TARGET)


def test_every_error_of_a_bmc_says_whether_the_ladder_can_help():
    for kind in BmcError.__subclasses__():
        assert kind.cures <= set(Rung)
        assert kind.help


@pytest.mark.parametrize(
    ("order", "more"), [(None, 0), (PowerOrder.ON, 90), (PowerOrder.OFF, 90), (PowerOrder.CYCLE, 180)]
)
def test_an_order_may_take_longer_where_a_machine_switches_slowly(order, more):
    given = Order(order)
    assert given.deadline_seconds(90) - given.deadline_seconds(0) == more


def test_a_shutdown_may_take_as_long_as_the_slower_of_system_and_machine():
    soft = Order(PowerOrder.SOFT)
    assert soft.deadline_seconds(1) == soft.deadline_seconds(0)
    assert soft.deadline_seconds(5000) - soft.deadline_seconds(4000) == 1000
