"""How fast the calendar is when it is full, and how three controllers share its work.

    python benchmarks/reservations.py                   # calls, pages and ticks, on SQLite
    python benchmarks/reservations.py --jobs 10000      # 500 simulated nodes, three controllers
    python benchmarks/reservations.py --postgresql      # either on PostgreSQL, which it starts and stops
    python benchmarks/reservations.py --url postgresql+psycopg://...     # or on a server; an empty database

A lab of 1,000 nodes with past and future reservations, 2 nodes each, over two years: median and worst of
some calls, in milliseconds. The aims are find and reserve below 100 ms, a calendar of 14 days below 300 ms,
the first view of the page below 1 s, a tick with 500 due actions below 2 s.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter, deque
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from postgresql_server import running_postgresql

from perfci import config
from perfci.database import schema
from perfci.database.engine import Database
from perfci.lab.errors import NoSuchSlot
from perfci.lab.model import Node
from perfci.lab.reservations.model import Actor, BookingState, NodeWish, Priority, Request
from perfci.lab.reservations.node_orders import NodeOrders
from perfci.lab.reservations.service import Reservations
from perfci.lab.reservations.states import steps_before_ready
from perfci.lab.reservations.tokens import Tokens
from perfci.lab.reservations.work import Work
from perfci.lab.web import server
from perfci.lab.web.app import make_app
from perfci.runs.tick.tick import tick

if TYPE_CHECKING:
    from collections.abc import Callable

NODES = 1000
YEAR = timedelta(days=365)
CALLS = 15
PAGES = {
    "page, first view": "/",
    "page, 28 days": "/?days=28",
    "page, mine and free": "/now",
    "page of a node": "/nodes/n0007",
    "page, form with times": "/reserve?count=3&find=1",
}
LATER = timedelta(days=4)
"""After so long about 500 actions are due in the largest calendar."""
WORKERS, WORKED_NODES = 3, 500
AT_ONCE = 50


def fill(database: Database, lab: str, size: int, now: datetime) -> None:
    """Write down reservations of two nodes each; those of a pair follow each other through two years."""
    chance = random.Random(size)  # noqa: S311 - lengths of reservations, no secrets
    rows, places = [], []
    each = max(1, size // (NODES // 2))
    step = 2 * YEAR / each
    for number in range(size):
        pair, turn = number % (NODES // 2), number // (NODES // 2)
        start = now - YEAR + (turn + chance.uniform(-0.1, 0.1)) * step
        end = start + step * chance.uniform(0.2, 0.7)
        over = end < now
        name = f"{lab[:4]}{number:08x}"
        rows.append(
            {
                **dict.fromkeys(("asked_at", "earliest_at", "starts_at"), start),
                **dict.fromkeys(("os", "cloud"), ""),
                "id": name, "lab": lab, "holder": f"user{number % 97}", "purpose": "x", "priority": 0,
                "firm": True, "contact": f"user{number % 97}@example.org",
                "ready_at": start if start <= now else None,
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


def timed(call: Callable[[], object], calls: int = CALLS) -> str:
    """Return the median and the worst of some calls, in milliseconds."""
    took = []
    for _ in range(calls):
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
    nodes = [Node(f"n{number:04}", labels={"cores": "64"}) for number in range(NODES)]
    lab = Reservations(database, lab_name, nodes)
    everybody = Actor("ann")
    some = Request(NodeWish(3), 3600, "x", wait_seconds=None)
    many = NodeWish(NODES)

    def changes() -> None:
        made = lab.reserve(some, everybody)
        lab.extend(made.id, 600, everybody)
        lab.release(made.id, everybody)

    calls = {
        "find 3 nodes": lambda: lab.find(NodeWish(3, where="cores >= 32"), 86400),
        "find all nodes": lambda: lab.find(many, 7 * 86400, limit=1),
        "reserve": lambda: lab.reserve(some, everybody),
        "reserve, extend, release": changes,
        "nodes": lab.nodes,
        "calendar of 14 days": lambda: lab.calendar(now, now + timedelta(days=14)),
    }
    print(f"{size:,} reservations (written in {filled:.1f} s)")
    for name, call in calls.items():
        print(f"  {name:<26}{timed(call)}", flush=True)
    _pages(lab, database)
    _ticks(url, lab_name, nodes, now)


def _pages(lab: Reservations, database: Database) -> None:
    """Print how long pages take, from a server of its own."""
    listening = server.listen("127.0.0.1", 0)
    app = make_app(lab, Tokens(database))
    threading.Thread(target=server.serve, args=(app, listening), daemon=True).start()
    site = f"http://127.0.0.1:{listening.getsockname()[1]}"
    for name, path in PAGES.items():

        def load(path: str = path) -> None:
            with urllib.request.urlopen(site + path) as answer:  # noqa: S310 - ours
                answer.read()

        print(f"  {name:<26}{timed(load, 3)}", flush=True)


def _ticks(url: str, lab_name: str, nodes: list[Node], now: datetime) -> None:
    """Print how long ticks take: one that tells of what is there, one with much that is due, the next one."""
    with tempfile.TemporaryDirectory() as folder:
        settings = config.load(
            environ={
                "PERFCI_ROOT_DIR": str(Path(__file__).parents[1]),
                "PERFCI_STATE_DIR": folder,
                "PERFCI_DATABASE__URL": url,
            }
        )
        for name, later in (
            ("first tick", timedelta()),
            ("tick", LATER),
            ("next tick", LATER + timedelta(minutes=1)),
        ):
            lab = Reservations(Database(url), lab_name, nodes, clock=lambda later=later: now + later)
            begun = time.perf_counter()
            report = tick(settings, reservations=lab, spawn=lambda _: None)
            took = 1000 * (time.perf_counter() - begun)
            due = len(report.ended) + len(report.begun)
            print(f"  {f'{name}, {due} due, {report.mails} mails':<35}{took:8.1f}", flush=True)
            for problem in report.problems:
                print(f"  problem: {problem}")


def controller(url: str, number: int, jobs: range, ran: Path, seconds: float) -> None:
    """Ask for nodes for some jobs, and do what is to be done for anybody's, until there is nothing left.

    After so many seconds it asks for none of those that are left.
    """
    end = time.monotonic() + seconds
    nodes = [Node(f"n{one:04}", has_bmc=True) for one in range(WORKED_NODES)]
    lab = Reservations(Database(url), "jobs", nodes)
    work, orders, me = Work(lab, f"controller {number}"), NodeOrders(lab), Actor("perfci")
    chance = random.Random(number)  # noqa: S311 - who begins where, no secret
    todo, idle = deque(jobs), 0
    with ran.open("a") as record, lab.database.kept_open():
        while todo or idle < 3:  # noqa: PLR2004 - others may still make work
            if time.monotonic() > end:
                todo.clear()
            due = list(work.due(AT_ONCE))
            # What was asked for is done before more is: else the queue grows as long as there are jobs.
            made = []
            while todo and len(due) + len(made) < AT_ONCE:
                try:
                    wish = Request(NodeWish(1), 3600, f"job {todo[0]}", priority=Priority.BISECT)
                    made.append(lab.reserve(wish, me).id)
                except NoSuchSlot:
                    break
                todo.popleft()
            # Anybody's work: the controllers meet there.
            chance.shuffle(due)
            due = [*made, *due]
            for one in due:
                _do(lab, work, orders, one, record)
            idle = 0 if due else idle + 1
            if not due:
                time.sleep(0.05)


def _do(lab: Reservations, work: Work, orders: NodeOrders, one: str, record: object) -> None:
    booking = work.claim(one)
    if booking is None:
        return  # another controller has it
    if booking.state is BookingState.PREPARING:
        orders.passed(booking.nodes, steps_before_ready(has_bmc=True, cloud=""), reservation_id=one)
        if work.ready(one) is not None:
            print(booking.purpose, file=record, flush=True)  # type: ignore[call-overload]
            lab.release(one, Actor("perfci"))
    else:
        orders.passed(work.to_reclaim(booking), ["reclaim"], reservation_id=one)
        work.reclaimed(one)


def share_work(url: str, jobs: int, most_seconds: float) -> None:
    """Let three controllers run jobs, and count what became of each."""
    database = Database(url)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / str(number) for number in range(WORKERS)]
        workers = [
            context.Process(
                target=controller,
                args=(url, number, range(number, jobs, WORKERS), files[number], most_seconds),
            )
            for number in range(WORKERS)
        ]
        begun = time.perf_counter()
        for one in workers:
            one.start()
        for one in workers:
            one.join()
        seconds = time.perf_counter() - begun
        ran = [file.read_text().splitlines() for file in files]
    times = Counter(job for some in ran for job in some)
    with database.reading() as connection:
        table, place = schema.reservation.c, schema.reservation_node
        rows = connection.execute(sa.select(table.purpose, table.state).where(table.lab == "jobs")).all()
        other = place.alias()
        both = connection.scalar(
            sa.select(sa.func.count())
            .select_from(place.join(other, (place.c.node == other.c.node) & (place.c.id < other.c.id)))
            .where(place.c.starts_at < other.c.ends_at, other.c.starts_at < place.c.ends_at)
            .where(place.c.starts_at < place.c.ends_at, other.c.starts_at < other.c.ends_at)
        )
    asked, states = Counter(purpose for purpose, _ in rows), Counter(state for _, state in rows)
    print(
        f"{len(asked):,} of {jobs:,} jobs, {WORKED_NODES} nodes, {WORKERS} controllers: "
        f"{seconds:.0f} s, {len(times) / seconds:.1f} jobs/s"
    )
    print(f"  asked for twice {sum(count > 1 for count in asked.values())}, ", end="")
    print(f"lost {sum(job not in times for job in asked)}, ", end="")
    print(f"run twice {sum(count > 1 for count in times.values())}, nodes given twice {both}")
    print(f"  states of the reservations: {dict(states)}; exit codes {[one.exitcode for one in workers]}")
    print(f"  jobs by controller: {', '.join(str(len(some)) for some in ran)}")
    print(f"  load {os.getloadavg()[0]:.1f}")


def main() -> None:
    """Measure each size in a database of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--url", help="SQLAlchemy URL of an empty database")
    where.add_argument("--postgresql", action="store_true", help="start a PostgreSQL server, and stop it")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--jobs", type=int, help="run so many jobs by three controllers")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="ask for no more jobs after so many"
    )
    given = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        url = stack.enter_context(running_postgresql(durable=True)) if given.postgresql else given.url
        if given.jobs:
            share_work(url or f"sqlite:///{folder}/jobs.db", given.jobs, 60 * given.minutes)
            return
        print(f"  {'milliseconds':<26}{'median':>8} {'worst':>8}")
        for size in given.sizes:
            measure(url or f"sqlite:///{folder}/{size}.db", size)


if __name__ == "__main__":
    main()
