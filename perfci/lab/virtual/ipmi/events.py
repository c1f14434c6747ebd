"""The System Event Log (section 31, records: 32.1)."""

from __future__ import annotations

import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from perfci.lab.virtual.ipmi.completion import CommandRefused, Completion
from perfci.lab.virtual.ipmi.sensors import Discrete

if TYPE_CHECKING:
    from collections.abc import Callable

RECORD_BYTES = 16
MOST_RECORDS = 512
FIRST, LAST = 0x0000, 0xFFFF
_RECORD = struct.Struct("<HBIHBBBBBBB")
_SYSTEM_EVENT, _GENERATOR_BMC, _EVENT_FORMAT = 0x02, 0x0020, 0x04
_SENSOR_SPECIFIC, _DEASSERTED = 0x6F, 0x80
_UNSPECIFIED = 0xFF


@dataclass(frozen=True, slots=True)
class _Kind:
    sensor: Discrete
    offset: int
    asserted: bool = True


class BmcEvent(Enum):
    """What a BMC notes on its own (offsets: table 42-3)."""

    POWER_OFF = _Kind(Discrete.POWER_UNIT, 0x00)
    POWER_ON = _Kind(Discrete.POWER_UNIT, 0x00, asserted=False)
    POWER_CYCLE = _Kind(Discrete.POWER_UNIT, 0x01)
    HARD_RESET = _Kind(Discrete.SYSTEM_BOOT, 0x01)
    LOG_CLEARED = _Kind(Discrete.EVENT_LOG, 0x02)


class RepositoryReservation:
    """The number that guards against changes between the parts of a long operation (31.4, 33.11)."""

    __slots__ = ("_number",)

    def __init__(self) -> None:
        self._number = 0

    def renew(self) -> int:
        """Return a new number; the one before is no longer valid."""
        self._number = self._number % 0xFFFF + 1
        return self._number

    def check(self, number: int) -> None:
        """Raise `CommandRefused` unless this is the number that is valid now."""
        if number != self._number or not number:
            raise CommandRefused(Completion.RESERVATION_CANCELLED)


class EventLog:
    """At most 512 records; further ones are lost and leave a mark, as in a real BMC. `now`: Unix time."""

    __slots__ = ("_last_id", "_now", "_records", "added_at", "erased_at", "overflow", "reservation")

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._records: dict[int, bytes] = {}
        self._last_id = 0
        self.added_at = self.erased_at = 0xFFFFFFFF
        """Unix time of the last change; all bits set before the first."""
        self.overflow = False
        self.reservation = RepositoryReservation()

    def __len__(self) -> int:
        return len(self._records)

    @property
    def time(self) -> int:
        """The log's clock: Unix time."""
        return int(self._now())

    def note(self, event: BmcEvent) -> None:
        """Add a record of the BMC's own, if there is room."""
        kind: _Kind = event.value
        number, sensor_type = kind.sensor.value
        direction = _SENSOR_SPECIFIC | (0 if kind.asserted else _DEASSERTED)
        data = (kind.offset, _UNSPECIFIED, _UNSPECIFIED)
        fields = (_SYSTEM_EVENT, 0, _GENERATOR_BMC, _EVENT_FORMAT, sensor_type, number, direction, *data)
        with suppress(CommandRefused):
            self.add(_RECORD.pack(0, *fields))

    def add(self, record: bytes) -> int:
        """Add a record of 16 bytes; return its id. Id and time (if its type has one) are set here.

        Raises `CommandRefused` if the log is full.
        """
        if len(self._records) >= MOST_RECORDS:
            self.overflow = True
            raise CommandRefused(Completion.OUT_OF_SPACE)
        self._last_id = self._last_id % (LAST - 1) + 1
        self.added_at = self.time
        timed = record[2] < 0xE0  # noqa: PLR2004 - types from E0h on are all the vendor's own (32.3)
        stamp = self.added_at.to_bytes(4, "little") if timed else record[3:7]
        self._records[self._last_id] = self._last_id.to_bytes(2, "little") + record[2:3] + stamp + record[7:]
        return self._last_id

    def get(self, number: int) -> tuple[bytes, int]:
        """Return a record and the id of the next one. Raises `CommandRefused` if there is none."""
        ids = list(self._records)
        if number == FIRST:
            number = ids[0] if ids else FIRST
        elif number == LAST:
            number = ids[-1] if ids else LAST
        if number not in self._records:
            raise CommandRefused(Completion.NOT_PRESENT)
        after = ids.index(number) + 1
        return self._records[number], ids[after] if after < len(ids) else LAST

    def clear(self) -> None:
        """Remove all records; that itself is noted."""
        self._records.clear()
        self.overflow = False
        self.erased_at = self.time
        self.note(BmcEvent.LOG_CLEARED)
