"""A thousand ports for a whole lab, of which none is taken."""

from __future__ import annotations

import os
import random
import re
import socket
from contextlib import closing
from pathlib import Path

SERVICES = Path(__file__).parents[1] / "inventory" / "embedded" / "group_vars" / "all.yml"
OFFSETS = tuple(int(found) for found in re.findall(r"perfci_port_base \| int \+ (\d+)", SERVICES.read_text()))
# Below the ports that Linux gives to clients, which come and go.
BASES = range(20_000, 32_000, 1000)


def port_base() -> int:
    """Return the base of the first such thousand, from a random one on, so that two test runs hardly meet.

    The processes of one test run choose among thousands of their own.
    """
    assert OFFSETS
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    mine = BASES[worker :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]
    start = random.randrange(len(mine))  # noqa: S311
    bases = (*mine[start:], *mine[:start])
    return next(base for base in bases if all(_free(base + one) for one in OFFSETS))


def _free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
