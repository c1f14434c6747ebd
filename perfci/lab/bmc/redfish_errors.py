"""What went wrong with a Redfish service, as a kind of BmcError."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from requests import exceptions as requested
from sushy import exceptions

from perfci.lab.bmc.errors import (
    BmcCertificateUntrusted,
    BmcCredentialsWrong,
    BmcError,
    BmcGarbled,
    BmcRefused,
    BmcRightsMissing,
    BmcSessionsFull,
    BmcSilent,
    BmcUnreachable,
    BmcUnsupported,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfci.lab.bmc.base import Target

MALFORMED = (LookupError, ValueError, TypeError, AttributeError, RecursionError)
"""What reading an answer raises that is not as the schemas say; sushy reads many of them by itself."""
_FULL = ("SessionLimitExceeded", "CreateLimitReachedForResource")
_PASSING = frozenset({409, 423, 429, 500, 502, 503, 504})
"""HTTP statuses of a BMC that is busy, starting, or whose machine is on its way to another state."""
_UNAUTHORIZED, _FORBIDDEN = 401, 403
_NOT_SET_UP = frozenset({errno.ECONNREFUSED, errno.ENETUNREACH, errno.EACCES, errno.EPERM})
"""What the network says where no BMC can be meant: a closed port, no route from here, a firewall."""
_HTTPS, _HTTP = 443, 80


def error_for(target: Target, order: str, error: Exception, *, logged_in: bool) -> BmcError:
    """Return the error that a person sees. `order` is what was asked of the BMC."""
    if isinstance(error, BmcError):
        return error
    if isinstance(error, exceptions.ConnectionError):
        return _no_answer(target, error, logged_in=logged_in)
    if isinstance(error, exceptions.HTTPError):
        return _refusal(target, order, error, logged_in=logged_in)
    can_not = (exceptions.MissingActionError, exceptions.InvalidParameterValueError)
    if isinstance(error, can_not):
        return unsupported(target, f"it can't {order}: {_words(error)}")
    return garbled(target, f"{_words(error)} to {order!r}")


def unsupported(target: Target, reason: str) -> BmcUnsupported:
    """Return the error for what a BMC does not have."""
    return BmcUnsupported(node=target.node, address=target.address, reason=reason)


def garbled(target: Target, reason: str) -> BmcGarbled:
    """Return the error for an answer that makes no sense."""
    return BmcGarbled(node=target.node, address=target.address, reason=reason)


def _refusal(target: Target, order: str, error: exceptions.HTTPError, *, logged_in: bool) -> BmcError:
    status = error.status_code
    where = {"node": target.node, "address": target.address}
    words = _words(error)
    if any(name in f"{error.code} {error.extended_info}" for name in _FULL):
        return BmcSessionsFull(**where, reason=words)
    if status == _UNAUTHORIZED or (status == _FORBIDDEN and not logged_in):
        return BmcCredentialsWrong(**where, username=target.username, reason=words)
    if status == _FORBIDDEN:
        return BmcRightsMissing(**where, username=target.username, order=order, reason=words)
    return BmcRefused(
        node=target.node, order=order, reason=words, code=f"HTTP {status}", passing=status in _PASSING
    )


def _no_answer(target: Target, error: Exception, *, logged_in: bool) -> BmcError:
    causes = tuple(_causes(error))
    where = {"node": target.node, "address": target.address}
    if any(isinstance(one, requested.SSLError) for one in causes):
        return BmcCertificateUntrusted(**where, reason=_words(causes[-1]))
    numbers = {one.errno for one in causes if isinstance(one, OSError)}
    nameless = any(isinstance(one, socket.gaierror) for one in causes)
    if not logged_in and (nameless or numbers & _NOT_SET_UP):
        reason = next(
            (one.strerror for one in causes if isinstance(one, OSError) and one.strerror), "no way there"
        )
        return BmcUnreachable(**where, port=f"TCP port {_port(target)}", reason=str(reason).lower())
    return BmcSilent(**where, reason=_words(causes[-1]), deaf=not logged_in)


def _port(target: Target) -> int:
    parts = urlsplit(target.redfish_url or "https://")
    return parts.port or (_HTTP if parts.scheme == "http" else _HTTPS)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Give an error and all that led to it; requests and urllib3 wrap what the system said several times."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]


def _words(error: BaseException) -> str:
    """Return what it says, in one short line."""
    said = getattr(error, "detail", None) or str(error) or type(error).__name__
    line = " ".join(str(said).split())
    return (line[:1].lower() + line[1:])[:200].rstrip(".")
