"""What the services and the machines used during the load: `counters/<node>.jsonl`.

One line a second and node. CPU seconds and SQL statements are counters that only grow; a task's use is
the difference between the last sample before it starts and the first one after it ends. Tasks are more
than a second apart, so these two hold this task alone. Several nodes add up.

What can't be known is left out, never guessed and never negative:

- A counter that falls between two samples belongs to a service that was restarted: it is unknown for
  that task. So is one that is gone again from a later sample. One that only appears during the task
  starts from zero.
- Where the database could not be asked (`sql` is empty) the sample says nothing about statements; at the
  start or the end of a task this makes them unknown.
- A node without a sample within `EDGE_SECONDS` before the start and after the end of a task makes all
  counters of that task unknown: part of the load would be missing, or another task's load inside.
- With a gap of more than `EDGE_SECONDS` inside the task, the peak of memory is unknown.
- A last line that has no end was being written when the night ended: it is passed over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from perfci.results.errors import CountersError
from perfci.results.files import Amount, FromFile, Moment, Name, parse, read_bytes
from perfci.results.model import Measurement, Metric, SeriesKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

EDGE_SECONDS = 5.0
"""How far from a task's start and end, and from each other, samples may be, in seconds."""
NOT_OF_THE_CLOUD = frozenset({"counters", "influxdb", "perfci", "root"})
"""Services and SQL users of the lab itself: they say nothing about the code under test."""
_OF_THE_LOAD = NOT_OF_THE_CLOUD | {"rally", "qemu", "api_probe", "probe"}
"""What comes and goes with the load: Rally's own processes, and servers that really run."""
_CLOCK_SECONDS = 0.2
"""How far a sample's time and the start of a process may be apart for the same moment."""


class Service(FromFile):
    """One service on one node: CPU seconds since it started, resident bytes of all its processes.

    `since` is when the oldest of these processes started; None where that was not written down.
    """

    cpu_seconds: Amount
    rss_bytes: Amount
    since: Moment | None = None


class MachineCounters(FromFile):
    """One node: CPU seconds since it booted, busy and stolen by the hypervisor, and its CPUs."""

    busy_seconds: Amount
    steal_seconds: Amount
    cpus: Annotated[int, Field(ge=1)]


class Sample(FromFile):
    """All counters of one node at one moment; `sql` counts statements by database user.

    `messages` are those in RabbitMQ's queues, by their state; empty where they are not known.
    """

    t: Moment
    services: dict[Name, Service]
    sql: dict[Name, Amount]
    machine: MachineCounters
    foreign_seconds: Amount
    messages: dict[Name, Amount] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeShares:
    """Shares of one node's CPU time (0..1) over a window: not the lab's processes; the hypervisor."""

    node: str
    foreign: float
    steal: float


@dataclass(frozen=True, slots=True)
class Usage:
    """What one window of time used; services and users that are not known are not in it."""

    cpu_seconds: Mapping[str, float] = field(default_factory=dict)
    sql_statements: Mapping[str, float] = field(default_factory=dict)
    peak_rss_bytes: Mapping[str, float] = field(default_factory=dict)
    shares: tuple[NodeShares, ...] = ()


def read_counters(folder: Path) -> dict[str, tuple[Sample, ...]]:
    """Read all nodes' counters, by the node's name; empty where the folder is missing.

    Raises CountersError with file and line where a line is not a sample.
    """
    return {path.stem: read_samples(path) for path in sorted(folder.glob("*.jsonl"))}


def read_samples(path: Path) -> tuple[Sample, ...]:
    """Read one node's counters, in the order in which they were taken; raises CountersError.

    Where the clock was set back, a sample is earlier than the one before it.
    """
    lines = read_bytes(path, CountersError).split(b"\n")
    whole = lines[:-1]  # behind the last newline stands nothing, or a line that was never finished
    samples = [
        parse(line, Sample, path=path, error=CountersError, inside=f"line {number}")
        for number, line in enumerate(whole, 1)
        if line.strip()
    ]
    return tuple(samples)


def usage(nodes: Mapping[str, Sequence[Sample]], started_at: float, finished_at: float) -> Usage:
    """Return what was used from `started_at` to `finished_at` (seconds since the epoch) on all nodes."""
    windows = {node: _window(samples, started_at, finished_at) for node, samples in nodes.items()}
    known = {node: window for node, window in windows.items() if window}
    shares = tuple(_shares(node, window) for node, window in sorted(known.items()))
    if len(known) < len(nodes):
        return Usage(shares=shares)
    each = list(known.values())
    gaps = any(b.t - a.t > EDGE_SECONDS for window in each for a, b in pairwise(window))
    return Usage(
        cpu_seconds=_sum(each, lambda s: {n: v.cpu_seconds for n, v in s.services.items()}, _growth),
        sql_statements=_sum(each, lambda s: s.sql or None, _growth),
        peak_rss_bytes={}
        if gaps
        else _sum(each, lambda s: {n: v.rss_bytes for n, v in s.services.items()}, _peak),
        shares=shares,
    )


def restarts(nodes: Mapping[str, Sequence[Sample]], started_at: float, finished_at: float) -> tuple[str, ...]:
    """Return the services that were restarted from `started_at` to `finished_at`, as `nova-api on node-1`.

    A service is another one than before when even its oldest process is younger than the last sample in which
    it was seen. One that replaces single processes of its own, as servers with workers do, is the same.
    """
    found = set()
    for node, samples in nodes.items():
        seen: dict[str, tuple[float, float]] = {}
        for sample in samples:
            for name, service in sample.services.items():
                if service.since is None or name in _OF_THE_LOAD:
                    continue
                when, before = seen.get(name, (sample.t, service.since))
                again = service.since > when - _CLOCK_SECONDS and service.since > before + _CLOCK_SECONDS
                if again and started_at <= sample.t <= finished_at:
                    found.add(f"{name} on {node}")
                seen[name] = (sample.t, service.since)
    return tuple(sorted(found))


def measurements(used: Usage, *, like: Measurement, iterations: int, at: float) -> tuple[Measurement, ...]:
    """Return a task's use as measurements, per iteration (all that ran, warm-up too) where it adds up.

    `like` is the task's `total`: key, run and counts are taken from it. `at` is when the task started.
    """
    per_iteration = [(Metric.CPU_SECONDS, used.cpu_seconds), (Metric.SQL_STATEMENTS, used.sql_statements)]
    values = [
        *(
            (metric, name, value / iterations)
            for metric, all_ in per_iteration
            for name, value in all_.items()
        ),
        *((Metric.PEAK_RSS_BYTES, name, value) for name, value in used.peak_rss_bytes.items()),
    ]
    return tuple(
        Measurement(
            key=SeriesKey(like.key.lab, like.key.job, like.key.scenario, like.key.arguments, name, metric),
            run_id=like.run_id,
            values=(value,),
            timestamps=(at,),
            attempts=like.attempts,
            failures=like.failures,
        )
        for metric, name, value in values
        if name not in NOT_OF_THE_CLOUD
    )


def _window(samples: Sequence[Sample], started_at: float, finished_at: float) -> Sequence[Sample]:
    """Return the samples from the last before the start to the first after the end; empty if unknown.

    It is unknown where the clock was set back between them: no length of time can be told then.
    """
    first = max((i for i, s in enumerate(samples) if s.t <= started_at), default=None)
    last = min((i for i, s in enumerate(samples) if s.t >= finished_at), default=None)
    if first is None or last is None or last <= first:
        return ()
    late = started_at - samples[first].t > EDGE_SECONDS or samples[last].t - finished_at > EDGE_SECONDS
    window = samples[first : last + 1]
    backwards = any(after.t < before.t for before, after in pairwise(window))
    return () if late or backwards else window


def _sum(
    windows: Iterable[Sequence[Sample]],
    pick: Callable[[Sample], Mapping[str, float] | None],
    measure: Callable[[Sequence[float | None]], float | None],
) -> dict[str, float]:
    """Add up one kind of counter over the nodes; a name that is unknown on one of them is left out.

    `pick` gives None for a sample that says nothing. `measure` gets a counter's values from the first to
    the last sample, None for those in which it is not.
    """
    sums: dict[str, float | None] = {}
    for window in windows:
        picked = [pick(sample) for sample in window]
        telling = [one for one in picked if one is not None]
        whole = picked[0] is not None and picked[-1] is not None
        for name in sorted(set().union(*telling)):
            value = measure([one.get(name) for one in telling]) if whole else None
            before = sums.get(name, 0.0)
            sums[name] = None if value is None or before is None else before + value
    return {name: value for name, value in sums.items() if value is not None}


def _growth(values: Sequence[float | None]) -> float | None:
    present = _since_it_appeared(values)
    if present is None or any(after < before for before, after in pairwise(present)):
        return None
    return present[-1] - (present[0] if len(present) == len(values) else 0.0)


def _peak(values: Sequence[float | None]) -> float | None:
    present = _since_it_appeared(values)
    return None if present is None else max(present)


def _since_it_appeared(values: Sequence[float | None]) -> list[float] | None:
    """Return the values from the first that is there; None where one is missing after it."""
    present = [value for value in values if value is not None]
    return None if None in values[len(values) - len(present) :] else present


def _shares(node: str, window: Sequence[Sample]) -> NodeShares:
    first, last = window[0], window[-1]
    capacity = (last.t - first.t) * last.machine.cpus

    def share(pick: Callable[[Sample], float]) -> float:
        # These two are sums over processes and over CPUs: a process that ends can make them fall a bit.
        return min(1.0, max(0.0, pick(last) - pick(first)) / capacity) if capacity > 0 else 0.0

    return NodeShares(node, share(lambda s: s.foreign_seconds), share(lambda s: s.machine.steal_seconds))
