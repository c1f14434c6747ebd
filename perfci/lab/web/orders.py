"""What the pages' forms do. Each comes from a page of this site, for whoever signed in, or does nothing."""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING, Annotated
from urllib.parse import parse_qs, quote, urlsplit

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import RedirectResponse, Response

from perfci.errors import PerfciError
from perfci.lab.errors import TokenUnknown
from perfci.lab.reservations.model import Actor
from perfci.lab.web.errors import RequestForged, RequestInvalid, SignInNeeded
from perfci.lab.web.forms import read_form, seconds_of
from perfci.lab.web.problems import status_of
from perfci.lab.web.render import page, times_of
from perfci.lab.web.site import COOKIE, TheSite, TheVisitor, address_of
from perfci.lab.web.views import node_page, reservation_page, reserve_page
from perfci.lab.web.zones import typed_time, zone_called

if TYPE_CHECKING:
    from perfci.lab.web.site import Site

router = APIRouter(include_in_schema=False)
_MOST_FIELDS = 500
_SEE_OTHER = 303
_SIGNED_IN_SECONDS = 30 * 86400
_OWN_PATH = re.compile(r"/(?![/\\])[^\x00-\x20\\]*")

Fields = dict[str, list[str]]


async def fields_of(request: Request) -> Fields:
    """Return the fields of a form. Raises RequestInvalid."""
    try:
        return parse_qs((await request.body()).decode("utf-8"), max_num_fields=_MOST_FIELDS)
    except (ValueError, UnicodeDecodeError) as error:
        raise RequestInvalid(problems="the form can't be read") from error


def _check_origin(request: Request) -> None:
    """Raise RequestForged where the browser says that another site's page sent the form."""
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise RequestForged
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise RequestForged


def signed_in(request: Request, visitor: TheVisitor, fields: Annotated[Fields, Depends(fields_of)]) -> Actor:
    """Return who sent a form. Raises SignInNeeded and RequestForged."""
    _check_origin(request)
    if visitor.actor is None:
        raise SignInNeeded
    if not hmac.compare_digest(_one(fields, "proof").encode(), visitor.proof.encode()):
        raise RequestForged
    return visitor.actor


TheFields = Annotated[Fields, Depends(fields_of)]
SignedIn = Annotated[Actor, Depends(signed_in)]
ReservationId = Annotated[str, Path(max_length=60)]
NodeName = Annotated[str, Path(max_length=100)]


@router.post("/reserve")
def reserve(
    request: Request, site: TheSite, visitor: TheVisitor, actor: SignedIn, fields: TheFields
) -> Response:
    """Take nodes."""
    times = times_of(request)
    form = read_form(fields, times)
    try:
        made = site.reservations.reserve(form.request(times), actor)
    except PerfciError as error:
        return reserve_page(request, site, visitor, form, problem=error, status=status_of(error))
    return _to(site, f"/reservations/{made.id}?done=reserved")


@router.post("/reservations/{reservation_id}/{order}")
def change(
    request: Request,
    *,
    site: TheSite,
    visitor: TheVisitor,
    actor: SignedIn,
    fields: TheFields,
    reservation_id: ReservationId,
    order: str,
) -> Response:
    """Extend, shorten, give back, swap a node, hand over, change who may log in."""
    try:
        _change(request, site, actor, fields=fields, reservation_id=reservation_id, order=order)
    except PerfciError as error:
        return reservation_page(
            request, site, visitor, reservation_id, problem=error, status=status_of(error)
        )
    return _to(site, f"/reservations/{reservation_id}?done={order}")


def _change(
    request: Request, site: Site, actor: Actor, *, fields: Fields, reservation_id: str, order: str
) -> None:
    service, node = site.reservations, _one(fields, "node")
    match order:
        case "extend":
            service.extend(reservation_id, seconds_of(_one(fields, "length"), _one(fields, "unit")), actor)
        case "shorten":
            zone = zone_called(_one(fields, "zone")) or times_of(request).zone
            service.shorten(reservation_id, typed_time(_one(fields, "ends"), zone), actor)
        case "release":
            service.release(reservation_id, actor, node=node or None, force="force" in fields)
        case "swap":
            service.swap(reservation_id, node, actor, to=_one(fields, "to") or None)
        case "transfer":
            service.transfer(reservation_id, _one(fields, "to"), actor)
        case "keys":
            service.admit(reservation_id, _one(fields, "keys").splitlines(), actor)
        case _:
            raise RequestInvalid(problems=f"there is no order {order[:40]!r}")


@router.post("/nodes/{name}/{order}")
def change_node(
    request: Request,
    *,
    site: TheSite,
    visitor: TheVisitor,
    actor: SignedIn,
    fields: TheFields,
    name: NodeName,
    order: str,
) -> Response:
    """Put a node into quarantine, or give it out again: for admins."""
    try:
        match order:
            case "quarantine":
                site.node_orders.quarantine(name, _one(fields, "reason"), actor)
            case "restore":
                site.node_orders.restore(name, actor, force="force" in fields)
            case _:
                raise RequestInvalid(problems=f"there is no order {order[:40]!r}")
    except PerfciError as error:
        return node_page(request, site, visitor, name, problem=error, status=status_of(error))
    return _to(site, f"/nodes/{quote(name, safe='')}?done={order}")


@router.post("/sign-in")
def sign_in(request: Request, site: TheSite, visitor: TheVisitor, fields: TheFields) -> Response:
    """Keep a token in a cookie that no script can read, and that no other site's form sends."""
    _check_origin(request)
    secret, after = _one(fields, "token").strip(), _one(fields, "next")
    try:
        site.actor_of(secret, address_of(request))
    except TokenUnknown as error:
        return page(request, "sign_in", visitor, status=status_of(error), after=after, problem=error)
    answer = _to(site, after)
    answer.set_cookie(
        COOKIE,
        secret,
        max_age=_SIGNED_IN_SECONDS,
        path=site.root or "/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )
    return answer


@router.post("/sign-out")
def sign_out(request: Request, site: TheSite) -> Response:
    """Forget the token in this browser; `perfci lab token revoke` ends it everywhere."""
    _check_origin(request)
    answer = _to(site, "/")
    answer.delete_cookie(COOKIE, path=site.root or "/", httponly=True, samesite="lax")
    return answer


def _one(fields: Fields, name: str) -> str:
    return fields.get(name, [""])[0]


def _to(site: Site, path: str) -> RedirectResponse:
    """Lead to a page of this site, and to no other."""
    return RedirectResponse(site.root + (path if _OWN_PATH.fullmatch(path) else "/"), _SEE_OTHER)
