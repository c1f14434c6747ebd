"""What a BMC measures: sensors, their readings and their records (sections 33, 35 and 43)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum

BMC_ADDRESS = 0x20
NO_THRESHOLDS: tuple[int | None, ...] = (None,) * 6
SENSOR_SPECIFIC = 0x6F
_SDR_VERSION = 0x51
_FULL, _COMPACT, _EVENT_ONLY = 0x01, 0x02, 0x03
_THRESHOLD_TYPE = 0x01
_SCANNING, _UNAVAILABLE = 0x40, 0x20
_NO_STATE = b"\xc0"
_NO_READING_FORMAT = 0xC0
_EIGHT_BIT_LATIN = 0xC0
_SYSTEM_BOARD = 0x07
_READABLE_THRESHOLDS = 0x04
_NO_EVENTS = 0x03
_AUTOMATIC = 0x40


class Discrete(Enum):
    """Sensors without a value, which events refer to: number and type (table 42-3)."""

    POWER_UNIT = (0x30, 0x09)
    SYSTEM_BOOT = (0x31, 0x1D)
    EVENT_LOG = (0x32, 0x10)


@dataclass(frozen=True, slots=True)
class Analog:
    """A sensor with a value. Values and thresholds are raw bytes: `multiplier` x raw is in `unit`."""

    number: int
    name: str
    sensor_type: int
    unit: int
    """Table 43-15."""
    entity: int
    """Table 43-13."""
    multiplier: int
    on: int
    """The value while the machine is on."""
    off: int | None
    """The value while it is off; None where there is none then."""
    thresholds: tuple[int | None, ...] = NO_THRESHOLDS
    """Lower non-critical, critical, non-recoverable, upper non-critical, critical, non-recoverable."""

    @property
    def threshold_mask(self) -> int:
        """One bit for each threshold there is."""
        return sum(1 << bit for bit, threshold in enumerate(self.thresholds) if threshold is not None)

    @property
    def threshold_bytes(self) -> bytes:
        """The thresholds, 0 for those that are not there."""
        return bytes(threshold or 0 for threshold in self.thresholds)


_CELSIUS, _WATTS, _PER_MINUTE = 1, 6, 18
_TEMPERATURE, _FAN, _OTHER = 0x01, 0x04, 0x0B
_PROCESSOR, _POWER_SUPPLY, _COOLING, _AIR_INLET = 0x03, 0x0A, 0x1D, 0x37
ANALOG = (
    Analog(
        0x01, "Inlet Temp", _TEMPERATURE, _CELSIUS, _AIR_INLET, 1, 23, 22, (None, None, None, 42, 46, None)
    ),
    Analog(
        0x02, "CPU Temp", _TEMPERATURE, _CELSIUS, _PROCESSOR, 1, 41, None, (None, None, None, 90, 98, None)
    ),
    Analog(0x10, "Fan 1", _FAN, _PER_MINUTE, _COOLING, 60, 90, None, (None, 10, None, None, None, None)),
    Analog(0x20, "Power", _OTHER, _WATTS, _POWER_SUPPLY, 2, 59, 3),
)
BY_NUMBER = {sensor.number: sensor for sensor in ANALOG}


def reading(number: int, *, on: bool) -> bytes | None:
    """Return the data of Get Sensor Reading (35.14); None if no such sensor can be read."""
    sensor = BY_NUMBER.get(number)
    if sensor:
        raw = sensor.on if on else sensor.off
        return bytes([raw or 0, _SCANNING | (_UNAVAILABLE if raw is None else 0)]) + _NO_STATE
    if number == Discrete.POWER_UNIT.value[0]:
        return bytes([0, _SCANNING, 0 if on else 1, 0x80])
    return None


def thresholds(number: int) -> bytes | None:
    """Return the data of Get Sensor Thresholds (35.9); None if no such sensor has any."""
    sensor = BY_NUMBER.get(number)
    return bytes([sensor.threshold_mask]) + sensor.threshold_bytes if sensor else None


def records() -> tuple[bytes, ...]:
    """Return the sensor data records of the repository; their ids count from 1."""
    unit, boot, log = Discrete.POWER_UNIT, Discrete.SYSTEM_BOOT, Discrete.EVENT_LOG
    bodies = [(_FULL, _full(sensor)) for sensor in ANALOG]
    bodies.append((_COMPACT, _compact(unit, "Power Unit", 0x0003)))
    bodies.extend(
        (_EVENT_ONLY, _event_only(one, name)) for one, name in ((boot, "System Boot"), (log, "SEL"))
    )
    return tuple(
        struct.pack("<HBBB", number, _SDR_VERSION, kind, len(body)) + body
        for number, (kind, body) in enumerate(bodies, start=1)
    )


def _full(sensor: Analog) -> bytes:
    """Table 43-1 from the sensor's owner on."""
    return b"".join(
        (
            bytes([BMC_ADDRESS, 0, sensor.number, sensor.entity, 1, _AUTOMATIC]),
            bytes([_AUTOMATIC | _READABLE_THRESHOLDS | _NO_EVENTS, sensor.sensor_type, _THRESHOLD_TYPE]),
            struct.pack("<HHH", 0, 0, sensor.threshold_mask),
            bytes([0, sensor.unit, 0]),
            bytes([0, sensor.multiplier, 0, 0, 0, 0, 0]),
            bytes([0x01, sensor.on, 0, 0, 0xFF, 0x00]),
            sensor.threshold_bytes[::-1],
            bytes(5),
            _name(sensor.name),
        )
    )


def _compact(sensor: Discrete, name: str, states: int) -> bytes:
    """Table 43-2 from the sensor's owner on; `states` has a bit for each offset the sensor can have."""
    number, sensor_type = sensor.value
    return b"".join(
        (
            bytes([BMC_ADDRESS, 0, number, _SYSTEM_BOARD, 1, _AUTOMATIC]),
            bytes([_AUTOMATIC | _NO_EVENTS, sensor_type, SENSOR_SPECIFIC]),
            struct.pack("<HHH", 0, 0, states),
            bytes([_NO_READING_FORMAT, 0, 0]),
            bytes([1, 0, 0, 0, 0, 0, 0, 0]),
            _name(name),
        )
    )


def _event_only(sensor: Discrete, name: str) -> bytes:
    """Table 43-3 from the sensor's owner on."""
    number, sensor_type = sensor.value
    head = bytes([BMC_ADDRESS, 0, number, _SYSTEM_BOARD, 1, sensor_type, SENSOR_SPECIFIC, 1, 0, 0, 0])
    return head + _name(name)


def _name(text: str) -> bytes:
    return bytes([_EIGHT_BIT_LATIN | len(text)]) + text.encode("ascii")


REPOSITORY = records()
"""The same for all BMCs."""
