"""A calendar of three nodes with a clock that a test moves, on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from perfci.lab.model import Node
from perfci.lab.reservations.model import Actor, NodeWish, Request

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ANN, BOB, ROOT = Actor("ann"), Actor("bob"), Actor("root", admin=True)
PLAIN = tuple(Node(name, labels={"cores": cores}) for name, cores in (("a", "32"), ("b", "8"), ("c", "32")))
MACHINES = tuple(Node(node.name, has_bmc=True, labels=node.labels) for node in PLAIN)
ANNS_KEY, BOBS_KEY = (
    f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{letter * 43} {name}"
    for letter, name in (("A", "ann@x"), ("B", "bob"))
)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


def wants(count: int = 1, hours: float = 2, *, names: str = "", where: str = "", **fields: object) -> Request:
    wish = NodeWish(count, frozenset(names), where)
    return Request(wish, hours * 3600, "tuning", **fields)


def at(hours: float) -> datetime:
    return START + hours * HOUR
