"""Errors as answers: which HTTP status each has."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from perfci.errors import InternalError, LabError, PerfciError, ServiceError, UsageError
from perfci.lab.errors import (
    AdminsOnly,
    NodesUnknown,
    NotYours,
    ReservationNotFound,
    TokenUnknown,
)
from perfci.lab.web.errors import (
    HostUnknown,
    PageUnknown,
    RequestForged,
    RequestTooLarge,
    SignInNeeded,
    TooManyRequests,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_STATUS: Mapping[type[PerfciError], HTTPStatus] = {
    AdminsOnly: HTTPStatus.FORBIDDEN,
    HostUnknown: HTTPStatus.BAD_REQUEST,
    InternalError: HTTPStatus.INTERNAL_SERVER_ERROR,
    NodesUnknown: HTTPStatus.NOT_FOUND,
    NotYours: HTTPStatus.FORBIDDEN,
    PageUnknown: HTTPStatus.NOT_FOUND,
    RequestForged: HTTPStatus.FORBIDDEN,
    RequestTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ReservationNotFound: HTTPStatus.NOT_FOUND,
    SignInNeeded: HTTPStatus.UNAUTHORIZED,
    TokenUnknown: HTTPStatus.UNAUTHORIZED,
    TooManyRequests: HTTPStatus.TOO_MANY_REQUESTS,
    # Every other error of a kind.
    LabError: HTTPStatus.CONFLICT,
    ServiceError: HTTPStatus.SERVICE_UNAVAILABLE,
    UsageError: HTTPStatus.UNPROCESSABLE_ENTITY,
    PerfciError: HTTPStatus.INTERNAL_SERVER_ERROR,
}


def status_of(error: PerfciError) -> int:
    """Return the HTTP status of an error: that of its nearest class."""
    return next(int(_STATUS[kind]) for kind in type(error).__mro__ if kind in _STATUS)


def headers_of(error: PerfciError) -> dict[str, str]:
    """Return the headers that HTTP wants beside a status."""
    if isinstance(error, TooManyRequests):
        return {"Retry-After": str(error.fields["seconds"])}
    if status_of(error) == HTTPStatus.UNAUTHORIZED:
        return {"WWW-Authenticate": 'Bearer realm="perfci"'}
    return {}
