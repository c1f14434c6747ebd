"""Pages from templates: escaped by default, with times in the visitor's zone."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from perfci.lab.errors import NoSuchSlot
from perfci.lab.reservations.states import OPEN
from perfci.lab.web.problems import headers_of, status_of
from perfci.lab.web.site import Visitor, site_of
from perfci.lab.web.timeline import kind_of
from perfci.lab.web.zones import Times, length_text, zone_called

if TYPE_CHECKING:
    from perfci.errors import PerfciError

ZONE_COOKIE = "perfci_zone"
STATIC = {
    "style.css": "text/css; charset=utf-8",
    "calendar.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


@cache
def static_file(name: str) -> str:
    """Return a style sheet or script of the pages."""
    return (files("perfci.lab.web") / "static" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("perfci.lab.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["lasting"] = length_text
    environment.filters["segment"] = lambda text: quote(text, safe="")
    environment.globals |= {"OPEN": OPEN, "kind_of": kind_of}
    return environment


def times_of(request: Request) -> Times:
    """Return the time now, in the zone that the URL or the visitor's choice names, else the lab's."""
    site = site_of(request)
    asked = request.query_params.get("zone") or request.cookies.get(ZONE_COOKIE, "")
    return Times(zone_called(asked) or site.zone, site.clock())


def page(request: Request, name: str, visitor: Visitor, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page. `values` are what its template shows."""
    site, times = site_of(request), times_of(request)
    text = (
        _environment()
        .get_template(f"{name}.html.j2")
        .render(
            root=site.root,
            lab=site.reservations.lab,
            visitor=visitor,
            times=times,
            lab_zone=site.zone.key,
            here=here(request),
            **values,
        )
    )
    answer = HTMLResponse(text, status_code=status)
    chosen = request.query_params.get("zone")
    if chosen and zone_called(chosen):
        answer.set_cookie(
            ZONE_COOKIE, chosen, max_age=366 * 86400, samesite="lax", httponly=True, path=site.root or "/"
        )
    return answer


def here(request: Request) -> str:
    """Return the address of a page within the site, to come back to it."""
    query = request.url.query
    return request.url.path + (f"?{query}" if query else "")


def problem_page(request: Request, error: PerfciError, visitor: Visitor) -> HTMLResponse:
    """Return the page that says why something was refused."""
    answer = page(
        request, "problem", visitor, status=status_of(error), problem=error, advice=advice_for_page(error)
    )
    answer.headers.update(headers_of(error))
    return answer


def advice_for_page(error: PerfciError) -> str:
    """Return what a visitor can do; the advice of some errors is for the command line."""
    if isinstance(error, NoSuchSlot):
        return ""
    return error.advice
