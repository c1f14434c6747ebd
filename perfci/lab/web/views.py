"""The pages that people look at. Nothing here changes anything."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import HTMLResponse, Response

from perfci.errors import PerfciError
from perfci.lab.errors import NoSuchSlot
from perfci.lab.reservations.ics import calendar_file
from perfci.lab.reservations.keys import fingerprint
from perfci.lab.reservations.model import NodeState
from perfci.lab.web.errors import PageUnknown
from perfci.lab.web.filters import ROWS, SPANS, chosen, in_order, read_filters
from perfci.lab.web.forms import ReserveForm, instead, read_form
from perfci.lab.web.render import STATIC, advice_for_page, page, static_file, times_of
from perfci.lab.web.site import TheSite, TheVisitor
from perfci.lab.web.timeline import days_of, rows_of, window_of

if TYPE_CHECKING:
    from perfci.lab.reservations.model import NodeStatus, Slot

router = APIRouter(include_in_schema=False)
_NODE_DAYS = 14
_DONE = {
    "reserved": "Reserved.",
    "extend": "It ends later now.",
    "shorten": "It ends earlier now.",
    "release": "Given back.",
    "swap": "Another node is in its place.",
    "transfer": "Handed over.",
    "keys": "The machines have these keys within a minute.",
    "quarantine": "perfci gives it to nobody from now on.",
    "restore": "It is given out again.",
}
_HISTORY = 50
_ICS_PAST, _ICS_AHEAD = timedelta(days=30), timedelta(days=366)


@router.get("/")
def calendar(request: Request, site: TheSite, visitor: TheVisitor) -> HTMLResponse:
    """Nodes by days."""
    times = times_of(request)
    filters = read_filters(request.query_params, times.today())
    first = filters.first or times.today()
    window = window_of(times, first, filters.days)
    every = site.reservations.nodes()
    nodes, problem = chosen(every, filters)
    pages = max(1, -(-len(nodes) // ROWS))
    number = min(filters.page, pages)
    shown = nodes[(number - 1) * ROWS : number * ROWS]
    names = [one.name for one in shown]
    bookings = site.reservations.calendar(window.starts_at, window.ends_at, nodes=names).bookings
    return page(
        request,
        "calendar",
        visitor,
        filters=filters,
        spans=SPANS,
        first=first,
        earlier=first - timedelta(days=filters.days),
        later=first + timedelta(days=filters.days),
        window=window,
        days=days_of(window, times),
        rows=rows_of(shown, bookings, window, times.now, visitor.name),
        found=len(nodes),
        total=len(every),
        number=number,
        pages=pages,
        counts=_counts(every),
        states=NodeState,
        problem=problem,
        form=ReserveForm(zone=times.name),
    )


def _counts(nodes: tuple[NodeStatus, ...]) -> dict[NodeState, int]:
    return {state: sum(one.state is state for one in nodes) for state in NodeState}


@router.get("/now")
def now(request: Request, site: TheSite, visitor: TheVisitor) -> HTMLResponse:
    """What is mine, and what is free: for a phone."""
    mine = site.reservations.of(visitor.name) if visitor.name else ()
    every = site.reservations.nodes()
    free = sorted(
        (one for one in every if one.state is NodeState.FREE),
        key=lambda one: (
            -one.free_until.timestamp() if one.free_until else float("-inf"),
            in_order(one.name),
        ),
    )
    return page(
        request,
        "now",
        visitor,
        mine=mine,
        free=free,
        counts=_counts(every),
        next_free=_next_free(every),
    )


def _next_free(nodes: tuple[NodeStatus, ...]) -> list[NodeStatus]:
    """Return the nodes that come free first, where none is."""
    held = [one for one in nodes if one.state is NodeState.HELD and one.booking is not None]
    return sorted(held, key=lambda one: (one.booking.ends_at, one.name) if one.booking else ())[:5]


@router.get("/nodes/{name}")
def node(
    request: Request, site: TheSite, visitor: TheVisitor, name: Annotated[str, Path(max_length=100)]
) -> HTMLResponse:
    """One node: health, who has it, what was done with it."""
    return node_page(request, site, visitor, name)


def node_page(
    request: Request,
    site: TheSite,
    visitor: TheVisitor,
    name: str,
    *,
    problem: PerfciError | None = None,
    status: int = 200,
) -> HTMLResponse:
    """Return the page of a node; `problem` says why an order was refused."""
    times = times_of(request)
    found = site.reservations.node(name)
    window = window_of(times, times.today(), _NODE_DAYS)
    mine = site.reservations.calendar(window.starts_at, window.ends_at, nodes=[name]).bookings
    return page(
        request,
        "node",
        visitor,
        status=status,
        node=found,
        health=site.reservations.health(name),
        window=window,
        days=days_of(window, times),
        rows=rows_of([found], mine, window, times.now, visitor.name),
        bookings=[one for one in mine if one.ends_at > times.now],
        events=site.reservations.node_history(name, limit=_HISTORY)[::-1],
        problem=problem,
        advice=advice_for_page(problem) if problem else "",
        done="" if problem else _DONE.get(request.query_params.get("done", ""), ""),
    )


@router.get("/calendar.ics")
def ics(
    site: TheSite,
    node: Annotated[str | None, Query(max_length=100)] = None,
    holder: Annotated[str | None, Query(max_length=100)] = None,
) -> Response:
    """Return the calendar for programs that subscribe to it: of the lab, of a node, of a person."""
    if node is not None:
        site.reservations.node(node)
    now = site.clock()
    title = " ".join(filter(None, (site.reservations.lab, "lab", node, holder)))
    found = site.reservations.calendar(
        now - _ICS_PAST, now + _ICS_AHEAD, nodes=None if node is None else [node]
    ).bookings
    mine = [one for one in found if holder is None or one.holder == holder]
    return Response(calendar_file(title, mine, now), media_type="text/calendar")


@router.get("/reservations/{reservation_id}")
def reservation(
    request: Request,
    site: TheSite,
    visitor: TheVisitor,
    reservation_id: Annotated[str, Path(max_length=60)],
) -> HTMLResponse:
    """One reservation, and what its holder may do with it."""
    return reservation_page(request, site, visitor, reservation_id)


def reservation_page(
    request: Request,
    site: TheSite,
    visitor: TheVisitor,
    reservation_id: str,
    *,
    problem: PerfciError | None = None,
    status: int = 200,
) -> HTMLResponse:
    """Return the page of a reservation; `problem` says why an order was refused."""
    why = site.reservations.why(reservation_id)
    found = why.booking
    actor = visitor.actor
    return page(
        request,
        "reservation",
        visitor,
        status=status,
        one=found,
        why=why,
        may=actor is not None and (actor.admin or actor.name == found.holder),
        machines=site.reservations.machines(found.nodes),
        prints=[fingerprint(key) for key in found.keys],
        events=site.reservations.history(reservation_id=found.id, limit=_HISTORY)[::-1],
        problem=problem,
        advice=advice_for_page(problem) if problem else "",
        done="" if problem else _DONE.get(request.query_params.get("done", ""), ""),
    )


@router.get("/reserve")
def reserve(request: Request, site: TheSite, visitor: TheVisitor) -> Response:
    """Ask for nodes; `find` in the URL lists the first times that would work."""
    query = {name: request.query_params.getlist(name) for name in request.query_params}
    form = read_form(query, times_of(request))
    return reserve_page(request, site, visitor, form, find="find" in query)


def reserve_page(
    request: Request,
    site: TheSite,
    visitor: TheVisitor,
    form: ReserveForm,
    *,
    find: bool = False,
    problem: PerfciError | None = None,
    status: int = 200,
) -> HTMLResponse:
    """Return the page with the form; `problem` says why it was refused."""
    times = times_of(request)
    slots: tuple[Slot, ...] = ()
    nearest = problem.slot if isinstance(problem, NoSuchSlot) else None
    if find and problem is None:
        try:
            wanted = form.request(times)
            slots = site.reservations.find(wanted.wish, wanted.length_seconds, earliest=wanted.starts_at)
        except PerfciError as error:
            problem = error
    return page(
        request,
        "reserve",
        visitor,
        status=status,
        form=form,
        slots=[(slot, instead(form, slot, times)) for slot in slots],
        nearest=nearest,
        instead=instead(form, nearest, times) if nearest else None,
        problem=problem,
        advice=advice_for_page(problem) if problem else "",
        nodes=site.reservations.nodes(),
    )


@router.get("/sign-in")
def sign_in(request: Request, visitor: TheVisitor) -> HTMLResponse:
    """Ask for a token."""
    return page(request, "sign_in", visitor, after=request.query_params.get("next", "/"), problem=None)


@router.get("/static/{name}")
def static(name: str) -> Response:
    """Return the style sheet, or the script."""
    if name not in STATIC:
        raise PageUnknown(path=f"/static/{name[:60]}")
    return Response(
        static_file(name), media_type=STATIC[name], headers={"cache-control": "public, max-age=300"}
    )
