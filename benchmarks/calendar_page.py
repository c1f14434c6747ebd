"""How long the lab's web page takes: `python benchmarks/calendar_page.py [NODES] [RESERVATIONS]`.

A calendar in SQLite, half of it past, is made in a temporary folder. Wall clock of each page and of one
request of the API, on a server of its own: the first request, and the median of ten more.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

from perfci.database.engine import Database
from perfci.lab.model import Node
from perfci.lab.reservations.model import Booking, BookingState, NodeWish, Place, Priority
from perfci.lab.reservations.service import Reservations
from perfci.lab.reservations.store import Store
from perfci.lab.reservations.tokens import Tokens
from perfci.lab.web import server
from perfci.lab.web.app import make_app

PATHS = (
    "/",
    "/?days=28",
    "/?state=free&where=cores+%3E%3D+32",
    "/now",
    "/nodes/node-7",
    "/reserve?count=3&find=1",
    "/api/v1/nodes",
)
ROUNDS = 10


def fill(database: Database, names: list[str], count: int) -> None:
    """Give each node reservations one after the other, from half a year ago to in half a year."""
    chance = random.Random(1)  # noqa: S311 - the same calendar each time
    now = datetime.now(UTC)
    each = count // len(names)
    step = timedelta(days=360) / each
    with database.transaction() as connection:
        store = Store(connection, "bench")
        for number, name in enumerate(names):
            for place in range(each):
                start = now - timedelta(days=180) + place * step
                end = start + step * chance.uniform(0.2, 1)
                past = end < now
                store.add(
                    Booking(
                        id=f"{number:06x}{place:04x}",
                        lab="bench",
                        holder=f"user-{chance.randrange(50)}",
                        purpose="a reason of some length, as people write them",
                        state=BookingState.OVER if past else BookingState.WAITING,
                        priority=Priority.PEOPLE,
                        firm=True,
                        asked_at=start,
                        earliest_at=start,
                        starts_at=start,
                        ends_at=end,
                        wish=NodeWish(1, frozenset({name})),
                        places=(Place(name, start, end),),
                        released_at=end if past else None,
                    )
                )


def main() -> None:
    """Print a table."""
    nodes, reservations = (int(word) for word in (*sys.argv[1:], "1000", "100000")[:2])
    names = [f"node-{number}" for number in range(1, nodes + 1)]
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{Path(folder)}/lab.db")
        begun = time.monotonic()
        fill(database, names, reservations)
        print(f"{nodes} nodes, {reservations} reservations, made in {time.monotonic() - begun:.0f} s")
        lab = Reservations(database, "bench", [Node(name, labels={"cores": "64"}) for name in names])
        listening = server.listen("127.0.0.1", 0)
        app = make_app(lab, Tokens(database))
        threading.Thread(target=server.serve, args=(app, listening), daemon=True).start()
        print("| page | first | median of 10 | KiB |\n|---|---|---|---|")
        page = f"http://127.0.0.1:{listening.getsockname()[1]}"
        for path in PATHS:
            seconds, size = [], 0
            for _ in range(1 + ROUNDS):
                begun = time.monotonic()
                with urllib.request.urlopen(page + path) as answer:  # noqa: S310 - ours
                    size = len(answer.read())
                seconds.append(time.monotonic() - begun)
            usual = statistics.median(seconds[1:])
            print(f"| `{path}` | {seconds[0]:.2f} s | {usual:.2f} s | {size / 1024:.0f} |")


if __name__ == "__main__":
    main()
