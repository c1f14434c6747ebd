"""What stands before every request: known names only, not too often, not too large; and headers after it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.requests import Request

from perfci.lab.web.errors import HostUnknown, RequestTooLarge, TooManyRequests
from perfci.lab.web.limits import RateLimit
from perfci.lab.web.site import address_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from perfci.errors import PerfciError

MOST_BYTES = 65_536
BODY_SECONDS = 20
READS = (20.0, 300)
"""A second in the long run, and at once: a page with its style sheet and script are three."""
ORDERS = (1.0, 40)
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

# Only numbers get into attributes `style`: where a slot lies in the calendar.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; "
    "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "cache-control": "no-store",
}


class Guard:
    """ASGI middleware around the whole application.

    `names` are the host names by which the page may be asked for; empty: any. Without that check a page on
    the Internet could point its own name at a loopback address and read the calendar.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        names: Collection[str],
        refuse: Callable[[Request, PerfciError], Response],
    ) -> None:
        self._app = app
        self._names = frozenset(names)
        self._refuse = refuse
        self._reads = RateLimit(*READS)
        self._orders = RateLimit(*ORDERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["app"] = self._app  # refusals are pages of it
        request = Request(scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.encode(), value.encode())
                        for name, value in HEADERS.items()
                        if name.encode() not in there
                    ),
                ]
            await send(message)

        problem = self._problem(request)
        body = b""
        if problem is None and request.method not in _SAFE:
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    body = await _body(request, receive)
            except (TimeoutError, _TooLarge):
                problem = RequestTooLarge(most=MOST_BYTES, seconds=BODY_SECONDS)
        if problem is not None:
            await self._refuse(request, problem)(scope, receive, send_with_headers)
            return
        await self._app(scope, _replayed(body, receive), send_with_headers)

    def _problem(self, request: Request) -> PerfciError | None:
        host = request.headers.get("host", "")
        if self._names and _name(host) not in self._names:
            return HostUnknown(host=host[:100])
        limit = self._reads if request.method in _SAFE else self._orders
        if seconds := limit.take(address_of(request)):
            return TooManyRequests(seconds=round(seconds) + 1)
        return None


class _TooLarge(Exception):
    pass


def _name(host: str) -> str:
    """Return a host's name without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


async def _body(request: Request, receive: Receive) -> bytes:
    """Read the body of an order whole. Raises _TooLarge before more than MOST_BYTES are kept."""
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length[:20]) > MOST_BYTES:
        raise _TooLarge
    found = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return bytes(found)
        found += message.get("body", b"")
        if len(found) > MOST_BYTES:
            raise _TooLarge
        if not message.get("more_body", False):
            return bytes(found)


def _replayed(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
