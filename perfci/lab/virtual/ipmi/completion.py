"""Completion codes: how a BMC says no."""

from __future__ import annotations

from enum import IntEnum


class Completion(IntEnum):
    """The generic codes of table 5-2; a command may have its own from 80h on."""

    OK = 0x00
    NODE_BUSY = 0xC0
    INVALID_COMMAND = 0xC1
    OUT_OF_SPACE = 0xC4
    RESERVATION_CANCELLED = 0xC5
    LENGTH_INVALID = 0xC7
    PARAMETER_OUT_OF_RANGE = 0xC9
    NOT_PRESENT = 0xCB
    INVALID_FIELD = 0xCC
    INSUFFICIENT_PRIVILEGE = 0xD4
    NOT_IN_THIS_STATE = 0xD5


class CommandRefused(Exception):
    """A command is answered with a completion code other than 00h; it never leaves the simulator."""

    def __init__(self, code: int) -> None:
        self.code = int(code)
        super().__init__(f"completion code {code:02X}h")
