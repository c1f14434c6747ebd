"""A lab with a calendar, its tokens and its page, at a time that the test sets."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from perfci.database.engine import Database
from perfci.lab.model import Node
from perfci.lab.reservations.checks import Policy
from perfci.lab.reservations.model import Actor, NodeWish, Request
from perfci.lab.reservations.service import Reservations
from perfci.lab.reservations.tokens import Tokens
from perfci.lab.web.app import make_app

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
"""A Monday; 13:00 in Prague."""
HOUR = timedelta(hours=1)
NODES = tuple(Node(f"node-{number}", labels={"cores": str(number * 8)}) for number in (1, 2, 10))


class WebSite:
    """Nodes node-1, node-2 and node-10, without BMCs; root is an admin."""

    def __init__(self, folder, nodes=NODES, now=START, **options):
        self.now = now
        database = Database(f"sqlite:///{folder}/lab.db")
        policy = Policy(admins=frozenset({"root"}))
        self.lab = Reservations(database, "brno", nodes, policy=policy, clock=self.clock)
        self.tokens = Tokens(database, clock=self.clock)
        options = {"zone": ZoneInfo("Europe/Prague"), **options}
        self.app = make_app(self.lab, self.tokens, clock=self.clock, **options)

    def clock(self):
        return self.now

    def token(self, name):
        return self.tokens.create(Actor(name), "test")[1]

    def header(self, name):
        return {"Authorization": f"Bearer {self.token(name)}"}

    def reserve(self, name, *nodes, hours=4, start=None, reason="tuning"):
        wish = NodeWish(len(nodes), frozenset(nodes))
        return self.lab.reserve(Request(wish, hours * 3600, reason, starts_at=start), Actor(name))


def proof_in(page):
    """Return what the page's forms must send along."""
    return re.search(r'name="proof" value="([^"]+)"', page)[1]
