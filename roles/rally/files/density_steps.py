"""Filling a cloud with servers, step by step, until a limit: how it goes on, and why it ends.

It knows nothing of Rally: a Cloud boots servers and answers requests. So it is tested without one.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

TARGET = "target"
QUOTA = "quota"
MEMORY = "memory"
ERRORS = "errors"
TIME = "time"
BOOT_TIME = "boot time"

STEPS = "density steps"
SAMPLES = "density samples"
END = "density end"
"""Titles of the outputs in Rally's report; perfci/results/density.py reads them."""

BOOT = "boot"
"""The quantity of a single server's boot, beside those of the API's answers."""
PER_SERVER = "boot in a batch, per server"


class QuotaReached(Exception):
    """The cloud refuses more; the text is its own."""


class CloudFailed(Exception):
    """A request failed; the text says which and how."""


@dataclass(frozen=True, slots=True)
class Booted:
    """What came of one request for servers, `seconds` after it was made.

    `waiting` are neither ACTIVE nor in ERROR yet; `fault` is what the first failed one says.
    """

    seconds: float
    active: int
    failed: int = 0
    waiting: int = 0
    fault: str = ""


class Cloud(Protocol):
    """What is filled."""

    def add_network(self) -> str:
        """Make one more network with a subnet, and return its id; raises QuotaReached and CloudFailed."""
        ...

    def boot(self, network: str, count: int, limit_seconds: float) -> Booted:
        """Ask for servers with one request, and wait until none is being built, or for the limit.

        Raises QuotaReached and CloudFailed.
        """
        ...

    def answer_seconds(self) -> dict[str, float]:
        """Make one request of each kind, and return the seconds of each; raises CloudFailed."""
        ...

    def memory_share(self) -> float:
        """Return which share of the machine's memory is available, 0..1."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """What ends the fill, whichever comes first.

    `servers` is the target. `boot_seconds` limits the median of a step's single boots, and the mean per
    server of a batch. `error_share` limits failed servers by all that were asked for.
    """

    servers: int
    budget_seconds: float
    boot_seconds: float
    error_share: float
    memory_share: float


@dataclass(frozen=True, slots=True)
class Step:
    """One step: the cloud after it, and what its batch took. Times are seconds since the epoch."""

    servers: int
    networks: int
    failed: int
    started_at: float
    finished_at: float
    batch_servers: int
    batch_seconds: float
    memory_share: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One single measurement, with how many servers there were."""

    servers: int
    quantity: str
    seconds: float


@dataclass(frozen=True, slots=True)
class End:
    """Why the fill ended: one of the words above, and a sentence."""

    reason: str
    text: str


@dataclass(slots=True)
class Fill:
    """Fills a cloud: one network after the other, each step a batch and then single boots.

    A network takes an even share of the target. In each step most servers are booted with one request;
    the last `probes` of them are booted one by one, with nothing else going on, and between them the API
    is asked: these are the measurements. All servers stay.
    """

    cloud: Cloud
    limits: Limits
    networks: int
    step: int
    probes: int
    clock: Callable[[], float]
    say: Callable[[str], None]
    steps: list[Step] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    _servers: int = 0
    _failed: int = 0
    _fault: str = ""
    _ids: list[str] = field(default_factory=list)
    _room: int = 0
    """How many servers the present network still takes."""
    _late: str = ""
    """What was not ACTIVE in its time."""
    _begun: float = 0.0

    def run(self) -> End:
        """Fill until the first limit, and return it."""
        self._begun = self.clock()
        try:
            while (end := self._end()) is None:
                self._do_step()
        except QuotaReached as error:
            end = End(QUOTA, f"the cloud refused more after {self._servers} servers: {error}")
        except CloudFailed as error:
            end = End(ERRORS, f"a request failed with {self._servers} servers: {error}")
        self.say(f"the fill ended ({end.reason}): {end.text}")
        return end

    def _end(self) -> End | None:
        limits, asked = self.limits, self._servers + self._failed
        spent = self.clock() - self._begun
        if asked and self._failed / asked > limits.error_share:
            return End(ERRORS, f"{self._failed} of {asked} servers failed; the first says: {self._fault}")
        if self._servers >= limits.servers:
            return End(TARGET, f"{self._servers} servers on {len(self._ids)} networks")
        if spent >= limits.budget_seconds:
            return End(TIME, f"{spent:.0f} s were spent on {self._servers} servers")
        if self._late:
            return End(BOOT_TIME, self._late)
        return self._measured_end()

    def _measured_end(self) -> End | None:
        """Return the limit that the last step's own measurements have reached."""
        if not self.steps:
            return None
        last, limits = self.steps[-1], self.limits
        if last.memory_share < limits.memory_share:
            return End(
                MEMORY, f"{100 * last.memory_share:.0f} % of the memory are left with {last.servers} servers"
            )
        boots = [s.seconds for s in self.samples if s.servers == last.servers and s.quantity == BOOT]
        if boots and (middle := statistics.median(boots)) > limits.boot_seconds:
            return End(BOOT_TIME, f"a boot takes {middle:.1f} s with {last.servers} servers")
        return None

    def _do_step(self) -> None:
        started = self.clock()
        network = self._network()
        size = min(self.step, self._room, self.limits.servers - self._servers)
        probes = min(self.probes, size)
        before = self._servers
        batch = Booted(0.0, 0)
        if size > probes:
            batch = self._boot(network, size - probes)
        boots, answers = [], []
        for _ in range(probes):
            if self._late:
                break
            answers.append(self.cloud.answer_seconds())
            one = self._boot(network, 1)
            boots += [one.seconds] * one.active
        self._room -= size
        if batch.active:
            self._sample(PER_SERVER, batch.seconds / batch.active)
        for seconds in boots:
            self._sample(BOOT, seconds)
        for answer in answers:
            for quantity, seconds in answer.items():
                self._sample(quantity, seconds)
        share = self.cloud.memory_share()
        self.steps.append(
            Step(
                servers=self._servers,
                networks=len(self._ids),
                failed=self._failed,
                started_at=started,
                finished_at=self.clock(),
                batch_servers=batch.active,
                batch_seconds=batch.seconds,
                memory_share=share,
            )
        )
        middle = f"{statistics.median(boots):.2f} s" if boots else "not measured"
        self.say(f"{before} to {self._servers} servers, {len(self._ids)} networks; a boot: {middle}")

    def _network(self) -> str:
        if not self._room:
            self._ids.append(self.cloud.add_network())
            self._room = -(-self.limits.servers // self.networks)
        return self._ids[-1]

    def _boot(self, network: str, count: int) -> Booted:
        left = self._begun + self.limits.budget_seconds - self.clock()
        # A single boot may take longer than the limit, so that the median of the step decides.
        limit = max(1.0, min(left, self.limits.boot_seconds * max(count, 2)))
        found = self.cloud.boot(network, count, limit)
        self._servers += found.active
        self._failed += found.failed
        self._fault = self._fault or found.fault
        if found.waiting:
            self._late = f"{found.waiting} of {count} servers were not ACTIVE after {found.seconds:.0f} s"
        return found

    def _sample(self, quantity: str, seconds: float) -> None:
        self.samples.append(Sample(self._servers, quantity, seconds))


def outputs(fill: Fill, end: End) -> list[dict[str, Any]]:
    """Return what Rally's report is to hold: tables for perfci, and a chart for Rally's own pages."""
    return [
        _table(STEPS, "The cloud after each step", Step, fill.steps),
        _table(SAMPLES, "Each single measurement", Sample, fill.samples),
        {"title": END, "chart_plugin": "TextArea", "data": [end.reason, end.text]},
        {
            "title": "Seconds by number of servers",
            "chart_plugin": "Lines",
            "data": [[name, points] for name, points in _lines(fill.samples).items()],
            "label": "seconds",
            "axis_label": "servers",
        },
    ]


def _table(title: str, description: str, kind: type[Any], rows: list[Any]) -> dict[str, Any]:
    return {
        "title": title,
        "description": description,
        "chart_plugin": "Table",
        "data": {
            "cols": [one.name for one in fields(kind)],
            "rows": [list(asdict(row).values()) for row in rows],
        },
    }


def _lines(samples: list[Sample]) -> dict[str, list[list[float]]]:
    values: dict[str, dict[int, list[float]]] = {}
    for one in samples:
        values.setdefault(one.quantity, {}).setdefault(one.servers, []).append(one.seconds)
    return {
        quantity: [[servers, statistics.median(found)] for servers, found in by_servers.items()]
        for quantity, by_servers in values.items()
    }
