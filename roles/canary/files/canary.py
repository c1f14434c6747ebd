"""Fixed workloads that do not touch OpenStack: they measure the lab, not the product.

Each round runs every canary once, so that a disturbance meets all of them alike. Writes
{"node", "taken_at", "canaries": {name: {"unit": "seconds", "values": [...]}}}: seconds for the fixed
work, lower is better. The work itself must never change: the values are compared over months.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 9
_MEBIBYTE = 1 << 20


def cpu() -> None:
    """Interpreter and hashing, in about equal parts: what API services do most."""
    total = 0
    for number in range(1_600_000):
        total = (total + number * number) % 1_000_003
    digest = hashlib.sha256(str(total).encode())
    for _ in range(240_000):
        digest.update(b"0123456789abcdef" * 8)


class Memory:
    """Copies a buffer that is larger than the caches."""

    def __init__(self, mebibytes: int = 64, copies: int = 12) -> None:
        self._source = bytearray(os.urandom(_MEBIBYTE) * mebibytes)
        self._target = memoryview(bytearray(len(self._source)))
        self._copies = copies

    def __call__(self) -> None:
        """Copy it."""
        for _ in range(self._copies):
            self._target[:] = self._source


class Disk:
    """Small writes, each forced to the disk: what a database does at every commit."""

    def __init__(self, folder: Path, blocks: int = 128, block_bytes: int = 64 * 1024) -> None:
        self._path = folder / "canary.bin"
        self._block = os.urandom(block_bytes)
        self._blocks = blocks

    def __call__(self) -> None:
        """Write the blocks into a new file and remove it."""
        with self._path.open("wb", buffering=0) as target:
            for _ in range(self._blocks):
                target.write(self._block)
                os.fsync(target.fileno())
        self._path.unlink()


class MariaDb:
    """Round trips of the smallest statement over one connection."""

    def __init__(self, address: str, user: str, password: str, trips: int = 800) -> None:
        pymysql = importlib.import_module("pymysql")  # only who can reach a database has it
        host, _, port = address.rpartition(":")
        self._connection: Any = pymysql.connect(
            host=host, port=int(port), user=user, password=password, autocommit=True
        )
        self._trips = trips

    def __call__(self) -> None:
        """Make the trips."""
        with self._connection.cursor() as cursor:
            for _ in range(self._trips):
                cursor.execute("SELECT 1")
                cursor.fetchall()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class RabbitMq:
    """Messages published (and confirmed) and fetched one by one, through one queue."""

    def __init__(self, address: str, user: str, password: str, trips: int = 150) -> None:
        amqp = importlib.import_module("amqp")  # only who can reach a message broker has it
        self._connection: Any = amqp.Connection(
            host=address, userid=user, password=password, confirm_publish=True
        )
        self._connection.connect()
        self._channel = self._connection.channel()
        self._queue = self._channel.queue_declare(exclusive=True, durable=False).queue
        self._message = amqp.Message(b"x" * 512)
        self._trips = trips

    def __call__(self) -> None:
        """Make the trips."""
        for _ in range(self._trips):
            self._channel.basic_publish(self._message, routing_key=self._queue)
            self._channel.basic_get(self._queue, no_ack=True)

    def close(self) -> None:
        """Close the connection; the queue goes with it."""
        self._connection.close()


def measure(canaries: dict[str, Callable[[], None]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Return the seconds of each canary in each round."""
    values: dict[str, list[float]] = {name: [] for name in canaries}
    for work in canaries.values():
        work()  # caches, connections and the file system's first block are not what is measured
    for _ in range(rounds):
        for name, work in canaries.items():
            begin = time.perf_counter()
            work()
            values[name].append(time.perf_counter() - begin)
    return values


def report(node: str, taken_at: float, values: dict[str, list[float]]) -> dict[str, Any]:
    """Return the form in which the values are kept."""
    return {
        "node": node,
        "taken_at": taken_at,
        "canaries": {
            name: {"unit": "seconds", "values": [round(value, 6) for value in seconds]}
            for name, seconds in values.items()
        },
    }


def _secret(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()


def main() -> int:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--node", required=True)
    parser.add_argument("--folder", type=Path, required=True, help="where the disk canary writes")
    parser.add_argument("--output", type=Path, required=True)
    for service in ("mariadb", "rabbitmq"):
        parser.add_argument(f"--{service}", help="HOST:PORT; leave out where it can't be reached")
        parser.add_argument(f"--{service}-user", default="")
        parser.add_argument(f"--{service}-password-file", type=Path)
    arguments = parser.parse_args()
    taken_at = time.time()
    with ExitStack() as stack:
        canaries: dict[str, Callable[[], None]] = {
            "cpu": cpu,
            "memory": Memory(),
            "disk": Disk(arguments.folder),
        }
        if arguments.mariadb:
            access = (arguments.mariadb, arguments.mariadb_user, _secret(arguments.mariadb_password_file))
            canaries["mariadb"] = stack.enter_context(closing(MariaDb(*access)))
        if arguments.rabbitmq:
            access = (arguments.rabbitmq, arguments.rabbitmq_user, _secret(arguments.rabbitmq_password_file))
            canaries["rabbitmq"] = stack.enter_context(closing(RabbitMq(*access)))
        values = measure(canaries)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report(arguments.node, taken_at, values), indent=1) + "\n"
    arguments.output.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
