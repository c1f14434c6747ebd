"""How many messages wait in RabbitMQ's queues, from the figures that its plugin rabbitmq_prometheus gives.

The text format is that of https://prometheus.io/docs/instrumenting/exposition_formats/; without labels
RabbitMQ's figures are sums over all queues.
"""

from __future__ import annotations

import http.client
import re
import time
import urllib.request
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

PERIOD_SECONDS = 5.0
"""RabbitMQ renews its sums every five seconds."""
_TIMEOUT_SECONDS = 2.0
_SUMS = re.compile(r"^rabbitmq_queue_messages_(ready|unacked) ([0-9.e+]+)$", re.MULTILINE)
_NAMES = {"ready": "ready", "unacked": "unacknowledged"}


class Depths(Protocol):
    """Anything that tells how many messages wait."""

    def messages(self) -> dict[str, int]:
        """Return the messages that are `ready` and those `unacknowledged`; empty while unknown."""
        ...


class NoQueues:
    """For a node where nobody is to be asked."""

    def messages(self) -> dict[str, int]:
        """Return nothing."""
        return {}


class RabbitMq:
    """Asks RabbitMQ every five seconds; between two answers nothing is known."""

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._clock = clock
        self._next = clock()

    def messages(self) -> dict[str, int]:
        """Return a new answer, or nothing."""
        if self._clock() < self._next:
            return {}
        self._next = self._clock() + PERIOD_SECONDS
        try:
            with urllib.request.urlopen(self._url, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 - our own URL
                return sums(answer.read().decode(errors="replace"))
        except (OSError, http.client.HTTPException):
            return {}


def sums(text: str) -> dict[str, int]:
    """Return the two sums out of the figures; empty where one is missing."""
    found = {_NAMES[name]: int(float(value)) for name, value in _SUMS.findall(text)}
    return found if len(found) == len(_NAMES) else {}
