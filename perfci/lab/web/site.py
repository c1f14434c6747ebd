"""What every request of the page works on, and who asks."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from perfci.lab.errors import TokenUnknown
from perfci.lab.reservations.model import Actor
from perfci.lab.web.errors import SignInNeeded, TooManyRequests
from perfci.lab.web.limits import RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable

    from perfci.lab.reservations.node_orders import NodeOrders
    from perfci.lab.reservations.service import Reservations
    from perfci.lab.reservations.tokens import Tokens

COOKIE = "perfci_token"


def _guesses() -> RateLimit:
    # A token has 256 bits: this bounds the work of the database, and the noise of a wrong script.
    return RateLimit(1 / 6, 20)


@dataclass(frozen=True, slots=True)
class Site:
    """One lab's page. `root` is the path below which it is served, without a slash at its end."""

    reservations: Reservations
    node_orders: NodeOrders
    tokens: Tokens
    zone: ZoneInfo
    clock: Callable[[], datetime]
    root: str = ""
    guesses: RateLimit = field(default_factory=_guesses)

    def actor_of(self, secret: str, address: str) -> Actor:
        """Return who shows this token. Raises TokenUnknown, and TooManyRequests for one who guesses."""
        try:
            return self.reservations.actor(self.tokens.owner_of(secret))
        except TokenUnknown:
            if seconds := self.guesses.take(address):
                raise TooManyRequests(seconds=round(seconds) + 1) from None
            raise


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who looks at a page: somebody who signed in, or nobody in particular."""

    actor: Actor | None = None
    proof: str = ""
    """Stands in each form of this visitor's pages; another site can't know it."""

    @property
    def name(self) -> str | None:
        """Return the visitor's name, None where nobody signed in."""
        return self.actor.name if self.actor else None


def proof_of(secret: str) -> str:
    """Return what shows that a form came from a page that was made for the owner of this token."""
    return hmac.new(secret.encode(), b"perfci form", hashlib.sha256).hexdigest()


def site_of(request: Request) -> Site:
    """Return the site of a request."""
    site: Site = request.app.state.site
    return site


def address_of(request: Request) -> str:
    """Return from which address a request came; behind a proxy on this machine the one that it names."""
    return request.client.host if request.client else "unknown"


def visitor_of(request: Request) -> Visitor:
    """Return who looks at a page; a token that is no longer good is nobody's."""
    secret = request.cookies.get(COOKIE, "")
    if not secret:
        return Visitor()
    try:
        return Visitor(site_of(request).actor_of(secret, address_of(request)), proof_of(secret))
    except TokenUnknown:
        return Visitor()


_bearer = HTTPBearer(auto_error=False, description="A token, as `perfci lab token add` shows it once.")


def caller_of(
    request: Request, shown: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Actor:
    """Return who gives an order to the API: by header alone, so that no other site can give it.

    Raises SignInNeeded, TokenUnknown.
    """
    if shown is None:
        raise SignInNeeded
    return site_of(request).actor_of(shown.credentials, address_of(request))


TheSite = Annotated[Site, Depends(site_of)]
TheVisitor = Annotated[Visitor, Depends(visitor_of)]
Caller = Annotated[Actor, Depends(caller_of)]
