"""Serving the page: one process on one address, which a signal ends cleanly."""

from __future__ import annotations

import errno
import signal
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

from perfci.lab.web.errors import AddressUnusable, PortTaken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp

END_SECONDS = 5
"""For so long requests that are being answered may go on after a signal."""
_MOST_AT_ONCE = 256
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there; port 0 is any. Raises PortTaken and AddressUnusable."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a host name"
        raise AddressUnusable(host=host, port=port, reason=reason or error) from error
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(128)
    except OSError as error:
        found.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(host=host, port=port) from error
        raise AddressUnusable(host=host, port=port, reason=error.strerror) from error
    return found


def serve(app: ASGIApp, listening: socket.socket) -> None:
    """Answer requests until SIGTERM or SIGINT comes; what is being answered then may end."""
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        log_level="critical",  # unexpected errors are in perfci's own log
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=True,
        forwarded_allow_ips="127.0.0.1,::1",
        limit_concurrency=_MOST_AT_ONCE,
        timeout_graceful_shutdown=END_SECONDS,
    )
    _Server(config).run(sockets=[listening])


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End by a signal with exit code 0: uvicorn's own raises it once more, and dies of it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {one: signal.signal(one, self.handle_exit) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)
