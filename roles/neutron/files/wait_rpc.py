"""Wait until neutron's RPC server listens: an agent that asks earlier waits a minute, and gets no answer.

usage: wait_rpc.py NEUTRON_CONF SECONDS QUEUE...
"""

from __future__ import annotations

import sys
import time
from configparser import RawConfigParser
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import amqp

POLL_SECONDS = 0.5
CONNECT_SECONDS = 5


def broker(file: Path) -> SplitResult:
    """Return the address of RabbitMQ, from a configuration of neutron."""
    config = RawConfigParser(strict=False, allow_no_value=True)
    config.read_string(file.read_text())
    return urlsplit(config.get("DEFAULT", "transport_url"))


def listened(url: SplitResult, queue: str) -> bool:
    """Say whether somebody takes what is put into a queue. Raises OSError where RabbitMQ can't be reached."""
    with amqp.Connection(
        host=f"{url.hostname}:{url.port}",
        userid=url.username,
        password=url.password,
        connect_timeout=CONNECT_SECONDS,
    ) as connection:
        try:
            consumers: int = connection.channel().queue_declare(queue=queue, passive=True).consumer_count
        except amqp.NotFound:
            return False
        return consumers > 0


def main() -> int:
    url, seconds, queues = broker(Path(sys.argv[1])), float(sys.argv[2]), sys.argv[3:]
    deadline = time.monotonic() + seconds
    while missing := [queue for queue in queues if not listened(url, queue)]:
        if time.monotonic() > deadline:
            late = f"nobody listens to {', '.join(missing)} after {seconds:.0f} s"
            print(f"{late}; see logs/neutron-rpc.log", file=sys.stderr)
            return 1
        time.sleep(POLL_SECONDS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
