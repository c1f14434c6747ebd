"""Once a second, one JSON line: what each service of the lab uses, and what others take.

{"t": epoch seconds, "services": {name: {"cpu_seconds", "rss_bytes", "processes", "since"}}, "sql": {user: n},
 "machine": {"busy_seconds", "steal_seconds", "cpus"}, "foreign_seconds": ...,
 "messages": {"ready": n, "unacknowledged": n}}

`since` is when the oldest process of a service started, in epoch seconds, null where it has none.
All but rss_bytes, processes, since, cpus and messages are sums that never decrease; only differences mean
something.
rss_bytes adds up the resident sets, so pages that forked processes share count once for each of them:
the proportional share (smaps_rollup) would cost a hundred times as much CPU as all the rest.
foreign_seconds is the machine's busy time minus the lab's and the kernel threads'. `sql` is empty in
a second in which the database could not be asked. `messages` is what waits in RabbitMQ's queues at that
moment; empty in all samples but one in five seconds, and where nobody is asked.
"""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import proc_reader
from accounts import Accounts
from queue_depth import Depths, NoQueues, RabbitMq
from sql_statements import NoDatabase, Rising, Source

if TYPE_CHECKING:
    from types import FrameType


class Sampler:
    """Takes samples; see the module's text for their form."""

    def __init__(
        self, state_dir: str, sql: Source, queues: Depths, beside: frozenset[str] = frozenset()
    ) -> None:
        self._accounts = Accounts(state_dir, proc_reader.environment, beside)
        self._sql = sql
        self._queues = queues
        self._rising = Rising()
        self._first_busy: float | None = None
        self._foreign = 0.0

    def sample(self) -> dict[str, Any]:
        """Return the next sample."""
        now = time.time()
        self._accounts.update(proc_reader.processes())
        machine = proc_reader.machine()
        if self._first_busy is None:
            self._first_busy = machine.busy
        others = machine.busy - self._first_busy - self._accounts.lab_seconds - self._accounts.kernel_seconds
        # The kernel counts the machine's and the processes' time in different ways: the difference
        # trembles by hundredths of a second.
        self._foreign = max(self._foreign, others)
        return {
            "t": round(now, 3),
            "services": {
                name: {
                    "cpu_seconds": round(service.cpu_seconds, 2),
                    "rss_bytes": service.rss_bytes,
                    "processes": service.processes,
                    "since": None if service.oldest is None else proc_reader.started_at(service.oldest, now),
                }
                for name, service in sorted(self._accounts.services.items())
            },
            "sql": self._rising.update(self._sql.statements()),
            "machine": {
                "busy_seconds": round(machine.busy, 2),
                "steal_seconds": round(machine.steal, 2),
                "cpus": machine.cpus,
            },
            "foreign_seconds": round(self._foreign, 2),
            "messages": self._queues.messages(),
        }


def run(sampler: Sampler, output: Path, stop: threading.Event, *, period: float, limit: float) -> None:
    """Append a line each `period` seconds until `stop` is set or `limit` seconds have passed."""
    output.parent.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    with output.open("a", encoding="utf-8", buffering=1) as target:
        count = 0
        while not stop.is_set() and time.monotonic() - begin < limit:
            target.write(json.dumps(sampler.sample(), separators=(",", ":")) + "\n")
            count = max(count + 1, int((time.monotonic() - begin) / period) + 1)
            stop.wait(max(0.0, begin + count * period - time.monotonic()))
        target.write(json.dumps(sampler.sample(), separators=(",", ":")) + "\n")


def _source(arguments: argparse.Namespace) -> Source:
    if not arguments.mariadb:
        return NoDatabase()
    module = importlib.import_module("mariadb_statements")  # needs PyMySQL
    source: Source = module.MariaDb(
        arguments.mariadb, arguments.mariadb_user, arguments.mariadb_password_file
    )
    return source


def main() -> int:
    """Sample until SIGTERM."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--state-dir", required=True, help="value of PERFCI_STATE_DIR of the lab's processes")
    parser.add_argument(
        "--beside", action="append", default=[], metavar="STATE_DIR", help="of another cloud of the same run"
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--mariadb", default="", help="HOST:PORT; leave out on a node without a database")
    parser.add_argument("--mariadb-user", default="perfci")
    parser.add_argument("--mariadb-password-file", default="")
    parser.add_argument("--rabbitmq", default="", help="URL of RabbitMQ's figures; leave out without queues")
    parser.add_argument("--period-seconds", type=float, default=1.0)
    parser.add_argument("--limit-seconds", type=float, default=14400.0, help="end by itself after that time")
    arguments = parser.parse_args()
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    queues = RabbitMq(arguments.rabbitmq) if arguments.rabbitmq else NoQueues()
    beside = frozenset(arguments.beside)
    sampler = Sampler(arguments.state_dir, _source(arguments), queues, beside)
    run(sampler, arguments.output, stop, period=arguments.period_seconds, limit=arguments.limit_seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
