"""Commands about sensors, their records and the event log (sections 31, 33 and 35)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from perfci.lab.virtual.ipmi import sensors
from perfci.lab.virtual.ipmi.completion import CommandRefused, Completion
from perfci.lab.virtual.ipmi.events import MOST_RECORDS, RECORD_BYTES

if TYPE_CHECKING:
    from perfci.lab.virtual.ipmi.call import Call

_VERSION = 0x51
_RESERVATION_SUPPORTED, _OVERFLOW = 0x02, 0x80
_PART = struct.Struct("<HHBB")
"""Reservation, record, first byte, number of bytes."""
_ALL_BYTES = 0xFF
_FIRST, _LAST = 0x0000, 0xFFFF
_CLEAR = b"CLR"
_START_ERASE, _ERASE_STATUS = 0xAA, 0x00
_ERASED = 0x01


def get_sensor_reading(call: Call) -> bytes:
    """35.14."""
    return _present(sensors.reading(call.data[0], on=call.bmc.power.is_on))


def get_sensor_thresholds(call: Call) -> bytes:
    """35.9."""
    return _present(sensors.thresholds(call.data[0]))


def get_sdr_repository_info(_call: Call) -> bytes:
    """33.9: it never changes and has no room."""
    times = bytes(8)
    return struct.pack("<BHH", _VERSION, len(sensors.REPOSITORY), 0) + times + bytes([_RESERVATION_SUPPORTED])


def reserve_sdr_repository(call: Call) -> bytes:
    """33.11."""
    return call.bmc.sdr_reservation.renew().to_bytes(2, "little")


def get_sdr(call: Call) -> bytes:
    """33.12: a record, or a part of one under a reservation."""
    reservation, number, start, count = _PART.unpack(call.data)
    last = len(sensors.REPOSITORY)
    number = {_FIRST: 1, _LAST: last}.get(number, number)
    if number > last:
        raise CommandRefused(Completion.NOT_PRESENT)
    if start:
        call.bmc.sdr_reservation.check(reservation)
    following = number + 1 if number < last else _LAST
    return following.to_bytes(2, "little") + _part(sensors.REPOSITORY[number - 1], start, count)


def get_sel_info(call: Call) -> bytes:
    """31.2."""
    log = call.bmc.events
    free = (MOST_RECORDS - len(log)) * RECORD_BYTES
    support = _RESERVATION_SUPPORTED | (_OVERFLOW if log.overflow else 0)
    return struct.pack("<BHHIIB", _VERSION, len(log), free, log.added_at, log.erased_at, support)


def reserve_sel(call: Call) -> bytes:
    """31.4."""
    return call.bmc.events.reservation.renew().to_bytes(2, "little")


def get_sel_entry(call: Call) -> bytes:
    """31.5: a record, or a part of one under a reservation."""
    reservation, number, start, count = _PART.unpack(call.data)
    if start:
        call.bmc.events.reservation.check(reservation)
    record, following = call.bmc.events.get(number)
    return following.to_bytes(2, "little") + _part(record, start, count)


def add_sel_entry(call: Call) -> bytes:
    """31.6."""
    return call.bmc.events.add(call.data).to_bytes(2, "little")


def clear_sel(call: Call) -> bytes:
    """31.9: under a reservation, with the letters CLR; it is done at once."""
    call.bmc.events.reservation.check(int.from_bytes(call.data[:2], "little"))
    if call.data[2:5] != _CLEAR or call.data[5] not in {_START_ERASE, _ERASE_STATUS}:
        raise CommandRefused(Completion.INVALID_FIELD)
    if call.data[5] == _START_ERASE:
        call.bmc.events.clear()
    return bytes([_ERASED])


def get_sel_time(call: Call) -> bytes:
    """31.10: Unix time."""
    return call.bmc.events.time.to_bytes(4, "little")


def _present(data: bytes | None) -> bytes:
    if data is None:
        raise CommandRefused(Completion.NOT_PRESENT)
    return data


def _part(record: bytes, start: int, count: int) -> bytes:
    """Return a part of a record; to its end where more is asked for."""
    if start >= len(record):
        raise CommandRefused(Completion.PARAMETER_OUT_OF_RANGE)
    return record[start:] if count == _ALL_BYTES else record[start : start + count]
