"""How fast the calendar is when it is full: `python benchmarks/reservations.py [--url URL] [--sizes N ...]`.

A lab of 1,000 nodes with past and future reservations, 2 nodes each, over two years. Prints a table with the
median and the worst of some calls, in milliseconds; the aims are find and reserve below 100 ms, a calendar of
14 days below 300 ms. Without --url it is SQLite in a temporary folder; with PostgreSQL's URL the database
must be empty.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from perfci.database import schema
from perfci.database.engine import Database
from perfci.lab.model import Node
from perfci.lab.reservations.model import Actor, NodeWish, Request
from perfci.lab.reservations.service import Reservations

if TYPE_CHECKING:
    from collections.abc import Callable

NODES = 1000
YEAR = timedelta(days=365)
CALLS = 15


def fill(database: Database, lab: str, size: int, now: datetime) -> None:
    """Write down reservations of two nodes each; those of a pair follow each other through two years."""
    chance = random.Random(size)  # noqa: S311 - lengths of reservations, no secrets
    rows, places = [], []
    each = max(1, size // (NODES // 2))
    step = 2 * YEAR / each
    for number in range(size):
        pair, turn = number % (NODES // 2), number // (NODES // 2)
        start = now - YEAR + turn * step
        end = start + step * chance.uniform(0.2, 0.7)
        over = end < now
        name = f"{lab[:4]}{number:08x}"
        rows.append(
            {
                **dict.fromkeys(("asked_at", "earliest_at", "starts_at", "ready_at"), start),
                **dict.fromkeys(("os", "cloud", "contact"), ""),
                "id": name, "lab": lab, "holder": f"user{number % 97}", "purpose": "x", "priority": 0,
                "firm": True,
                "ends_at": end, "released_at": end if over else None, "attempts": 0,
                "state": "over" if over else "ready" if start <= now else "waiting",
                "wish": {"count": 2, "names": [], "where": ""},
            }
        )  # fmt: skip
        places += [
            {
                "id": f"{name}-{side}", "reservation_id": name, "lab": lab, "node": f"n{2 * pair + side:04}",
                "starts_at": start, "ends_at": end,
            }
            for side in (0, 1)
        ]  # fmt: skip
    with database.transaction() as connection:
        for first in range(0, len(rows), 5000):
            connection.execute(schema.reservation.insert(), rows[first : first + 5000])
        for first in range(0, len(places), 5000):
            connection.execute(schema.reservation_node.insert(), places[first : first + 5000])
    if database.file is None:
        with database.transaction() as connection:
            connection.exec_driver_sql("ANALYZE reservation")
            connection.exec_driver_sql("ANALYZE reservation_node")


def timed(call: Callable[[], object]) -> str:
    """Return the median and the worst of some calls, in milliseconds."""
    took = []
    for _ in range(CALLS):
        begun = time.perf_counter()
        call()
        took.append(1000 * (time.perf_counter() - begun))
    return f"{statistics.median(took):8.1f} {max(took):8.1f}"


def measure(url: str, size: int) -> None:
    """Print the lines of one size."""
    lab_name = f"{size:x}lab"
    database, now = Database(url), datetime.now(UTC)
    begun = time.perf_counter()
    fill(database, lab_name, size, now)
    filled = time.perf_counter() - begun
    lab = Reservations(database, lab_name, [Node(f"n{number:04}") for number in range(NODES)])
    everybody = Actor("ann")
    some = Request(NodeWish(3), 3600, "x", wait_seconds=None)
    many = NodeWish(NODES)

    def changes() -> None:
        made = lab.reserve(some, everybody)
        lab.extend(made.id, 600, everybody)
        lab.release(made.id, everybody)

    calls = {
        "find 3 nodes": lambda: lab.find(NodeWish(3), 86400),
        "find all nodes": lambda: lab.find(many, 7 * 86400, limit=1),
        "reserve": lambda: lab.reserve(some, everybody),
        "reserve, extend, release": changes,
        "nodes": lab.nodes,
        "calendar of 14 days": lambda: lab.calendar(now, now + timedelta(days=14)),
        "sweep, begin": lambda: (lab.sweep(), lab.begin()),
    }
    print(f"{size:,} reservations (written in {filled:.1f} s)")
    for name, call in calls.items():
        print(f"  {name:<26}{timed(call)}")


def main() -> None:
    """Measure each size in a database of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="SQLAlchemy URL of an empty PostgreSQL database")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    given = parser.parse_args()
    print(f"  {'milliseconds':<26}{'median':>8} {'worst':>8}")
    for size in given.sizes:
        with tempfile.TemporaryDirectory() as folder:
            measure(given.url or f"sqlite:///{folder}/lab.db", size)


if __name__ == "__main__":
    main()
