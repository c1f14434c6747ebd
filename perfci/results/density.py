"""How the cloud behaved as it was filled: what the scenario Density.fill_with_servers left in Rally's report.

Its outputs are two tables and two lines of text (roles/rally/files/density_steps.py): the cloud after each
step, each single measurement with the number of servers at that time, and why the fill ended. What the
services used in each step comes from the counters of the nodes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BaseModel, Field, RootModel

from perfci.results.counters import NOT_OF_THE_CLOUD, usage
from perfci.results.errors import ReportError
from perfci.results.files import Amount, FromFile, Moment, Name, parse
from perfci.results.model import Measurement, Metric, SeriesKey

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from perfci.results.counters import Sample as CounterSample
    from perfci.results.rally import Load
    from perfci.results.rally_columns import Output

FILL = "Density.fill_with_servers"
"""Name of the scenario."""
TARGET = "target"
"""Why a fill ended that was not ended early."""
BOOT = "boot"
"""The quantity that is a single server's boot."""
DENSITIES = (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)
"""Numbers of servers at which there are series."""
_STEPS, _SAMPLES, _END = "density steps", "density samples", "density end"

Count = Annotated[int, Field(ge=0)]


class _Step(FromFile):
    servers: Count
    networks: Count
    failed: Count
    started_at: Moment
    finished_at: Moment
    batch_servers: Count
    batch_seconds: Amount
    memory_share: Annotated[float, Field(ge=0, le=1)]


class _Sample(FromFile):
    servers: Count
    quantity: Name
    seconds: Amount


class _Table(FromFile):
    cols: list[Name]
    rows: list[list[Any]]


class _Steps(RootModel[Annotated[list[_Step], Field(min_length=1)]]):
    pass


class _Samples(RootModel[list[_Sample]]):
    pass


class _End(RootModel[Annotated[list[Name], Field(min_length=2, max_length=2)]]):
    pass


Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Point:
    """The cloud after one step. What is not known is left out.

    `seconds` are the single measurements by what was measured. CPU seconds are per server that the step
    booted, by service; the largest resident sets are bytes. `messages` is the most that waited in
    RabbitMQ's queues during the step.
    """

    servers: int
    networks: int
    failed: int
    started_at: float
    seconds: Mapping[str, tuple[float, ...]]
    memory_share: float
    cpu_seconds: Mapping[str, float] = field(default_factory=dict)
    rss_bytes: Mapping[str, float] = field(default_factory=dict)
    messages: float | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """One fill: its points by growing number of servers, and why it ended, in a word and in a sentence."""

    scenario: str
    points: tuple[Point, ...]
    reason: str
    text: str

    def middle(self, quantity: str) -> tuple[tuple[int, float], ...]:
        """Return the median of a quantity's measurements by number of servers."""
        return tuple((p.servers, median(found)) for p in self.points if (found := p.seconds.get(quantity)))

    @property
    def quantities(self) -> tuple[str, ...]:
        """All that was measured, in the order in which it first was."""
        return tuple(dict.fromkeys(name for point in self.points for name in point.seconds))


def curves_of(load: Load, nodes: Mapping[str, Sequence[CounterSample]]) -> Iterator[Curve]:
    """Return one curve for each fill in a load; none where it was another scenario.

    `nodes` are the counters of the run. Raises ReportError where the outputs are not of the form needed.
    """
    held: dict[str, Output] = {}
    for output in load.outputs:
        held[output.title] = output
        if {_STEPS, _SAMPLES, _END} <= held.keys():
            yield _curve(load.scenario, held, nodes)
            held.clear()


def measurements(curve: Curve, *, like: Measurement) -> tuple[Measurement, ...]:
    """Return the seconds at round numbers of servers as measurements: those of the step that reached it.

    `like` is the task's `total`: key, run and counts are taken from it.
    """
    found = []
    for density in DENSITIES:
        point = next((point for point in curve.points if point.servers >= density), None)
        for quantity, values in point.seconds.items() if point else ():
            action = f"{quantity} at {density} servers"
            key = like.key
            found.append(
                Measurement(
                    key=SeriesKey(key.lab, key.job, key.scenario, key.arguments, action, Metric.SECONDS),
                    run_id=like.run_id,
                    values=values,
                    timestamps=(point.started_at,) * len(values) if point else (),
                    attempts=like.attempts,
                    failures=like.failures,
                )
            )
    return tuple(found)


def _curve(scenario: str, held: Mapping[str, Output], nodes: Mapping[str, Sequence[CounterSample]]) -> Curve:
    steps = _checked(scenario, _STEPS, _records(scenario, held[_STEPS]), _Steps).root
    samples = _checked(scenario, _SAMPLES, _records(scenario, held[_SAMPLES]), _Samples).root
    reason, text = _checked(scenario, _END, held[_END].data, _End).root
    points = tuple(
        _point(step, [one for one in samples if one.servers == step.servers], nodes) for step in steps
    )
    return Curve(scenario, points, reason, text)


def _point(step: _Step, samples: Sequence[_Sample], nodes: Mapping[str, Sequence[CounterSample]]) -> Point:
    seconds: dict[str, tuple[float, ...]] = {}
    for one in samples:
        seconds[one.quantity] = (*seconds.get(one.quantity, ()), one.seconds)
    used = usage(nodes, step.started_at, step.finished_at)
    booted = step.batch_servers + len(seconds.get(BOOT, ()))
    return Point(
        servers=step.servers,
        networks=step.networks,
        failed=step.failed,
        started_at=step.started_at,
        seconds=seconds,
        memory_share=step.memory_share,
        cpu_seconds={name: value / booted for name, value in _of_cloud(used.cpu_seconds)} if booted else {},
        rss_bytes=dict(_of_cloud(used.peak_rss_bytes)),
        messages=_most_messages(nodes, step.started_at, step.finished_at),
    )


def _of_cloud(used: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    return ((name, value) for name, value in sorted(used.items()) if name not in NOT_OF_THE_CLOUD)


def _most_messages(
    nodes: Mapping[str, Sequence[CounterSample]], started_at: float, finished_at: float
) -> float | None:
    """Return the most messages in all queues at one moment; None where nobody asked."""
    known = [
        sum(sample.messages.values())
        for samples in nodes.values()
        for sample in samples
        if sample.messages and started_at <= sample.t <= finished_at
    ]
    return max(known, default=None)


def _records(scenario: str, output: Output) -> list[dict[str, Any]]:
    """Return a table's rows by the names of its columns."""
    table = _checked(scenario, output.title, output.data, _Table)
    return [dict(zip(table.cols, row, strict=False)) for row in table.rows]


def _checked(scenario: str, title: str, data: Any, model: type[Model]) -> Model:
    return parse(
        json.dumps(data).encode(), model, path=f"output of {scenario}", error=ReportError, inside=title
    )
