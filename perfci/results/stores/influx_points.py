"""Runs as InfluxDB points, and back. The schema is described in docs/influxdb.md.

Points carry the exact start of an iteration in the field `at`; their own timestamps are made from it so
that points of one series and run never fall on each other, and are the same whenever a run is written
again: whole microseconds of the start, plus nanoseconds that tell runs and equal starts apart.
"""

from __future__ import annotations

import json
import re
import zlib
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING

from perfci.results.model import Metric
from perfci.results.record import record_to_dict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from perfci.results.model import Measurement, RunRecord, RunResults

ITERATION = "iteration"
PAIR = "pair"
RUN_VALUE = "run_value"
RUN = "run"
MANY = {Metric.SECONDS: (ITERATION, "seconds"), Metric.RATIO: (PAIR, "ratio")}
"""The metrics with many values a run: the measurement and the field that have them."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND, _MILLISECOND = 1_000, 1_000_000
# What line protocol or InfluxQL can't carry, or carries differently from server to server: control
# characters, and the backslash, which at the end of a tag would hide the separator behind it.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\%]")
_ESCAPED = re.compile(r"%([0-9A-F]{2})")


def encode_name(value: str) -> str:
    r"""Return a name as every server keeps it: `%`, `\` and control characters as `%25`, `%5C`, ..."""
    return _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", value)


def decode_name(value: str) -> str:
    """Return what `encode_name` was given."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), value)


def run_time(record: RunRecord) -> int:
    """Return the timestamp (ns) of a run's points: its start to the millisecond, and a part of its id."""
    milliseconds = (record.started_at - _EPOCH) // timedelta(milliseconds=1)
    return milliseconds * _MILLISECOND + zlib.crc32(record.run_id.encode()) % _MILLISECOND


def iteration_times(first: float, latest: float, count: int) -> tuple[int, int]:
    """Return between which timestamps (ns) the points of `count` iterations are that started in between."""
    return _microseconds(first) * _MICROSECOND, (_microseconds(latest) + 1) * _MICROSECOND + count


def run_line(record: RunRecord) -> str:
    """Return the point, in line protocol, that holds the record of a run."""
    tags = {"lab": record.lab, "job": record.job, "cloud": record.cloud}
    tags |= {"environment": record.environment, "code": record.code.digest}
    fields = {
        "run_id": encode_name(record.run_id),
        "status": record.status,
        "valid": record.validity.valid,
        "seconds": (record.finished_at - record.started_at).total_seconds(),
        "record": json.dumps(record_to_dict(record)),
    }
    return _line(RUN, tags, fields, run_time(record))


def value_lines(results: RunResults) -> Iterator[str]:
    """Return the points, in line protocol, of everything that was measured.

    Raises ValueError where a metric that has one value a run has more.
    """
    for measurement in results.measurements:
        yield _run_value(results.record, measurement)
        if measurement.key.metric in MANY:
            yield from _values(results.record, measurement)


def _run_value(record: RunRecord, measurement: Measurement) -> str:
    if measurement.key.metric not in MANY:
        _single(measurement)
    fields = {
        "run_id": encode_name(record.run_id),
        "n": len(measurement.values),
        "attempts": measurement.attempts,
        "failures": measurement.failures,
    }
    if measurement.values:
        first, latest = min(measurement.timestamps), max(measurement.timestamps)
        fields |= {"median": float(median(measurement.values)), "at": float(first), "until": float(latest)}
    tags = {**_tags(record, measurement), "metric": str(measurement.key.metric)}
    return _line(RUN_VALUE, tags, fields, run_time(record))


def _values(record: RunRecord, measurement: Measurement) -> Iterator[str]:
    name, field = MANY[measurement.key.metric]
    tags = _tags(record, measurement)
    offset = zlib.crc32(record.run_id.encode()) % _MICROSECOND
    previous = -1
    for value, at in zip(measurement.values, measurement.timestamps, strict=True):
        previous = max(_microseconds(at) * _MICROSECOND + offset, previous + 1)
        fields = {"run_id": encode_name(record.run_id), field: float(value), "at": float(at)}
        yield _line(name, tags, fields, previous)


def _microseconds(at: float) -> int:
    return int(at * 1e6)


def _tags(record: RunRecord, measurement: Measurement) -> dict[str, str]:
    key = measurement.key
    return {
        "lab": record.lab,
        "job": record.job,
        "cloud": record.cloud,
        "environment": record.environment,
        "code": record.code.digest,
        "scenario": key.scenario,
        "arguments": key.arguments,
        "action": key.action,
    }


def _line(name: str, tags: Mapping[str, str], fields: Mapping[str, object], nanoseconds: int) -> str:
    from influxdb_client.client.write.point import Point

    encoded = {tag: encode_name(value) for tag, value in tags.items()}
    point = {"measurement": name, "tags": encoded, "fields": fields, "time": nanoseconds}
    return str(Point.from_dict(point).to_line_protocol())


def _single(measurement: Measurement) -> None:
    if len(measurement.values) > 1:
        msg = f"{measurement.key.label} has {len(measurement.values)} values, this metric has one a run"
        raise ValueError(msg)
