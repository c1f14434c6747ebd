"""What the scenarios of the data plane left in Rally's report beside their timings.

Their outputs are tables (roles/rally/files/plugins/dataplane.py): seconds that are no atomic action, and
rates in Mbit/s. Both become series; of a rate, the median of the iterations is its one value of the run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from perfci.results.errors import ReportError
from perfci.results.files import Amount, FromFile, Name, parse
from perfci.results.model import Metric

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from perfci.results.model import Measurement
    from perfci.results.rally import Load

SCENARIOS = "DataPlane."
"""How the scenarios' names begin."""
_SECONDS, _RATES = "seconds beside the actions", "rates"
_PUBLISHED = {
    "east-west": (6876.0, 9378.0),
    "east-west routed": (5813.0, 9377.0),
    "north-south": (5322.0, None),
}
"""Mbit/s of labs with 10 GbE, 200 and 378 nodes, with MTU 1500 and with MTU 9000 and offloads."""

Row = Annotated[tuple[Name, Amount], Field(strict=False)]


class _Table(FromFile):
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast one path was, in Mbit/s: the median of the iterations."""

    path: str
    megabits_per_second: float

    @property
    def published(self) -> tuple[float | None, float | None]:
        """What others have measured with 10 GbE: with MTU 1500, and with MTU 9000 and offloads."""
        return _PUBLISHED.get(self.path.partition(",")[0], (None, None))


def seconds_of(load: Load) -> Iterator[Measurement]:
    """Return the seconds beside the actions, in the order of the iterations; raises ReportError."""
    like = load.total
    found: dict[str, list[float]] = {}
    for name, value in _rows(load, _SECONDS):
        found.setdefault(name, []).append(value)
    for name, values in found.items():
        key = replace(like.key, action=name)
        yield replace(like, key=key, values=tuple(values), timestamps=like.timestamps[: len(values)])


def rates_of(load: Load) -> Iterator[Rate]:
    """Return the rate of each path of a load; raises ReportError."""
    found: dict[str, list[float]] = {}
    for path, rate in _rows(load, _RATES):
        found.setdefault(path, []).append(rate)
    for path, rates in found.items():
        yield Rate(path, median(rates))


def measurements(load: Load) -> Iterator[Measurement]:
    """Return all series of a load beside its actions; raises ReportError."""
    yield from seconds_of(load)
    like = load.total
    for rate in rates_of(load):
        yield replace(
            like,
            key=replace(like.key, action=rate.path, metric=Metric.MEGABITS_PER_SECOND),
            values=(rate.megabits_per_second,),
            timestamps=like.timestamps[:1],
        )


def is_on_hardware(facts: Mapping[str, Any]) -> bool:
    """Say whether packets went over real machines' cards and their kernels' switch, by a run's environment.

    Only then may its rates stand beside those of others.
    """
    nodes = facts.get("nodes", {}).values()
    real = [node.get("machine", {}).get("virtualization") == "none" for node in nodes]
    return facts.get("cloud", {}).get("datapath") == "system" and bool(real) and all(real)


def _rows(load: Load, title: str) -> Iterator[tuple[str, float]]:
    for output in load.outputs:
        if output.title == title:
            content = json.dumps(output.data).encode()
            where = f"output of {load.scenario}"
            yield from parse(content, _Table, path=where, error=ReportError, inside=title).rows
