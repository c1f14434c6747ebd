"""One of several processes that fight for nodes: `rival.py URL NODES SECONDS LOG`.

It takes a node and gives it back again and again, and writes each change to LOG, a line in one write:
`+node` after it was taken, `-node` before it is given back. With SECONDS 0 it takes one and waits.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime, timedelta

from perfci.database.engine import Database
from perfci.lab.errors import NodesBusy
from perfci.lab.model import Node
from perfci.lab.sql import SqlLedger


def main(url: str, nodes: str, seconds: float, log: str) -> None:
    ledger = SqlLedger(Database(url), "lab", [Node(name) for name in nodes.split(",")])
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    end = time.monotonic() + seconds
    while True:
        until = datetime.now(UTC) + timedelta(hours=1)
        try:
            with ledger.lease(nodes=1, holder=f"rival {os.getpid()}", purpose="race", until=until) as lease:
                os.write(descriptor, f"+{lease.nodes[0]}\n".encode())
                time.sleep(0.002 if seconds else 3600)
                os.write(descriptor, f"-{lease.nodes[0]}\n".encode())
        except NodesBusy:
            time.sleep(0.001)
        if time.monotonic() > end:
            return


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4])
