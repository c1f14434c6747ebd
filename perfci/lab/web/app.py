"""The web application: pages, API and what guards both."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from perfci import __version__
from perfci.errors import InternalError, PerfciError
from perfci.lab.reservations.node_orders import NodeOrders
from perfci.lab.web import api, orders, views
from perfci.lab.web.documents import problem_fields
from perfci.lab.web.errors import PageUnknown, RequestInvalid, SignInNeeded
from perfci.lab.web.guard import Guard
from perfci.lab.web.problems import headers_of, status_of
from perfci.lab.web.render import page, problem_page
from perfci.lab.web.site import Site, Visitor, visitor_of
from perfci.lab.web.zones import machine_zone

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from zoneinfo import ZoneInfo

    from perfci.lab.reservations.service import Reservations
    from perfci.lab.reservations.tokens import Tokens

_LOG = logging.getLogger(__name__)


def make_app(
    reservations: Reservations,
    tokens: Tokens,
    *,
    root: str = "",
    names: Collection[str] = (),
    zone: ZoneInfo | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    log: object = "the controller's log",
) -> Guard:
    """Return the application for one lab.

    `root` is the path below which a proxy serves it, `names` the host names by which it may be asked for
    (empty: any), `zone` the time zone of visitors who chose none, `log` where people find tracebacks.
    """
    app = FastAPI(
        title=f"perfci lab {reservations.lab}",
        version=__version__,
        description="Who has which machines, and when which are free.",
        openapi_url="/api/openapi.json",
        docs_url=None,  # it would load its scripts from elsewhere
        redoc_url=None,
        servers=[{"url": root or "/"}],
    )
    app.state.site = Site(
        reservations, NodeOrders(reservations), tokens, zone or machine_zone(), clock, root.rstrip("/")
    )
    app.include_router(api.router)
    app.include_router(views.router)
    app.include_router(orders.router)

    @app.exception_handler(PerfciError)
    def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, PerfciError)  # noqa: S101 - for the type checker
        return refusal(request, error)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        problems = "; ".join(f"{_place(one['loc'])}: {one['msg']}" for one in error.errors()[:10])
        return refusal(request, RequestInvalid(problems=problems))

    @app.exception_handler(HTTPException)
    def unknown(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        if error.status_code in {404, 405}:
            return refusal(request, PageUnknown(path=request.url.path[:200]), status=error.status_code)
        return refusal(request, RequestInvalid(problems=str(error.detail)), status=error.status_code)

    @app.exception_handler(Exception)
    def unexpected(request: Request, error: Exception) -> Response:
        _LOG.error("%s %s", request.method, request.url.path, exc_info=error)
        return refusal(request, InternalError.of(error, log=log))

    # Around everything, so that the answer to an unexpected error has its headers, too.
    return Guard(app, names=names, refuse=refusal)


def refusal(request: Request, error: PerfciError, *, status: int | None = None) -> Response:
    """Return the answer that says why a request was refused: JSON for the API, else a page."""
    if request.url.path.startswith("/api/"):
        return JSONResponse(problem_fields(error), status or status_of(error), headers_of(error))
    if isinstance(error, SignInNeeded):
        return page(request, "sign_in", Visitor(), status=status_of(error), after="/", problem=error)
    answer = problem_page(request, error, _visitor(request))
    answer.status_code = status or answer.status_code
    return answer


def _visitor(request: Request) -> Visitor:
    """Return who looks at the page of a problem, which may be that nobody can be looked up."""
    try:
        return visitor_of(request)
    except PerfciError:
        return Visitor()


def _place(location: tuple[int | str, ...]) -> str:
    """Return where in a request something is wrong, without the word for the whole."""
    return ".".join(str(part) for part in location[1:]) or str(location[0])
