"""A WSGI filter that makes neutron's API slower by a known share of its own time; see precision.py.

Each request is answered, and then held back for that share of the time that answering took. What the client
spends is not in it, so that a whole iteration becomes slower by a little less.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Delay:
    """Holds each answer back for a share of the time that it took."""

    def __init__(self, application: Application, share: float) -> None:
        self._application = application
        self._share = share

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        since = time.perf_counter()
        answer = self._application(environ, start_response)
        time.sleep(self._share * (time.perf_counter() - since))
        return answer


def twenty_five_percent(_global: dict[str, str], **_local: str) -> Callable[[Application], Delay]:
    """Return the filter, as paste.filter_factory wants it."""
    return lambda application: Delay(application, 0.25)


def three_percent(_global: dict[str, str], **_local: str) -> Callable[[Application], Delay]:
    """Return the filter, as paste.filter_factory wants it."""
    return lambda application: Delay(application, 0.03)


def five_percent(_global: dict[str, str], **_local: str) -> Callable[[Application], Delay]:
    """Return the filter, as paste.filter_factory wants it."""
    return lambda application: Delay(application, 0.05)
