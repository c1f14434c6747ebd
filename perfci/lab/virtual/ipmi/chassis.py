"""Chassis commands (section 28)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from perfci.lab.virtual.ipmi.completion import CommandRefused, Completion
from perfci.lab.virtual.ipmi.packets import BMC_ADDRESS
from perfci.lab.virtual.ipmi.power import ChassisOrder

if TYPE_CHECKING:
    from perfci.lab.virtual.ipmi.call import Call

IDENTIFY_SECONDS = 15
"""Where the command does not say how long (28.5)."""
_LAST_ON_BY_IPMI = 0x10
_IDENTIFY_KNOWN, _IDENTIFY_TIMED, _IDENTIFY_ON = 0x40, 0x10, 0x20
_PARAMETER_VERSION = 0x01
_SELECTOR = 0x7F


def get_capabilities(_call: Call) -> bytes:
    """28.1: FRU, SDR, SEL and system management are all at the BMC."""
    return bytes([0]) + bytes([BMC_ADDRESS]) * 4


def get_status(call: Call) -> bytes:
    """28.2: power, and the identify light. After a loss of mains the machine stays off."""
    is_on = call.bmc.power.is_on
    identify = _IDENTIFY_KNOWN
    if call.bmc.identify_seconds == math.inf:
        identify |= _IDENTIFY_ON
    elif call.bmc.identify_seconds:
        identify |= _IDENTIFY_TIMED
    return bytes([int(is_on), _LAST_ON_BY_IPMI if is_on else 0, identify])


async def control(call: Call) -> bytes:
    """28.3."""
    try:
        order = ChassisOrder(call.data[0] & 0x0F)
    except ValueError:
        raise CommandRefused(Completion.INVALID_FIELD) from None
    call.bmc.boot.commanded()
    if not call.bmc.faults.ok_without_effect:
        await call.bmc.power.order(order)
    return b""


def identify(call: Call) -> bytes:
    """28.5: seconds, and a bit for "until further notice"."""
    seconds: float = call.data[0] if call.data else IDENTIFY_SECONDS
    if call.data[1:] and call.data[1] & 1:
        seconds = math.inf
    call.bmc.identify(seconds)
    return b""


def set_boot_options(call: Call) -> bytes:
    """28.12: a parameter; without data it only would be locked, which is not kept."""
    selector, data = call.data[0] & _SELECTOR, call.data[1:]
    if data and not call.bmc.faults.ok_without_effect:
        call.bmc.boot.set(selector, data)
    return b""


def get_boot_options(call: Call) -> bytes:
    """28.13."""
    selector = call.data[0] & _SELECTOR
    return bytes([_PARAMETER_VERSION, selector]) + call.bmc.boot.get(selector)
