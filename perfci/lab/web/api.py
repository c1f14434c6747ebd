"""The JSON API: the same calendar, for programs. Reading needs no token; orders take one in a header."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from perfci.lab.reservations.model import NodeWish
from perfci.lab.web.documents import (
    CalendarDocument,
    CallerDocument,
    EventDocument,
    ExtendOrder,
    HealthDocument,
    KeysOrder,
    Line,
    Moment,
    NodeDocument,
    ProblemDocument,
    QuarantineDocument,
    ReasonOrder,
    ReleaseOrder,
    ReservationDocument,
    ReserveOrder,
    RestoredDocument,
    RestoreOrder,
    Seconds,
    ShortenOrder,
    SlotDocument,
    SwapOrder,
    TransferOrder,
    WhyDocument,
    Word,
    event_document,
    health_document,
    node_document,
    quarantine_document,
    reservation_document,
    slot_document,
    why_document,
)
from perfci.lab.web.errors import RequestInvalid
from perfci.lab.web.site import Caller, TheSite

PREFIX = "/api/v1"
_MOST_DAYS = 400
_LIMIT = Query(ge=1, le=1000)
_KNOWN = {
    400: "The request uses a host name that is not the page's.",
    422: "The request has the wrong form.",
    429: "Too many requests; `Retry-After` says when to ask again.",
    503: "The database does not answer.",
}
_NAMED = {404: "There is no such node or reservation."}
_ORDERED = {
    401: "The token is missing or not valid.",
    403: "It is not yours.",
    409: "It can't be done now.",
    413: "The request is too large.",
}


def _problems(*more: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    told = {status: text for some in (_KNOWN, *more) for status, text in some.items()}
    return {status: {"model": ProblemDocument, "description": text} for status, text in sorted(told.items())}


READS = _problems()
READS_ONE = _problems(_NAMED)
ORDERS = _problems(_NAMED, _ORDERED)

router = APIRouter(prefix=PREFIX)
NodeName = Annotated[str, Path(max_length=100, pattern=r"^[^\x00-\x1f\x7f/]+$")]
ReservationId = Annotated[str, Path(max_length=60, pattern=r"^[A-Za-z0-9-]+$")]


@router.get("/nodes", responses=READS, tags=["nodes"])
def nodes(site: TheSite) -> list[NodeDocument]:
    """Every node: its state, who has it, hardware facts."""
    return [node_document(one) for one in site.reservations.nodes()]


@router.get("/nodes/{name}", responses=READS_ONE, tags=["nodes"])
def node(site: TheSite, name: NodeName) -> NodeDocument:
    """One node."""
    return node_document(site.reservations.node(name))


@router.get("/nodes/{name}/health", responses=READS_ONE, tags=["nodes"])
def health(site: TheSite, name: NodeName) -> HealthDocument:
    """How a node did in the last 90 days."""
    return health_document(site.reservations.health(name))


@router.get("/nodes/{name}/history", responses=READS_ONE, tags=["nodes"])
def node_history(site: TheSite, name: NodeName, limit: Annotated[int, _LIMIT] = 100) -> list[EventDocument]:
    """What was done with a node, oldest first: the newest `limit` events."""
    return [event_document(one) for one in site.reservations.node_history(name, limit=limit)]


@router.post("/nodes/{name}/quarantine", responses=ORDERS, tags=["admins"])
def quarantine(site: TheSite, caller: Caller, name: NodeName, order: ReasonOrder) -> QuarantineDocument:
    """Give a node to nobody until it is restored; who has it keeps it."""
    return quarantine_document(site.node_orders.quarantine(name, order.reason, caller))


@router.post("/nodes/{name}/restore", responses=ORDERS, tags=["admins"])
def restore(site: TheSite, caller: Caller, name: NodeName, order: RestoreOrder) -> RestoredDocument:
    """Give a node out again that was in quarantine."""
    return RestoredDocument(restored=site.node_orders.restore(name, caller, force=order.force))


@router.get("/calendar", responses=READS, tags=["calendar"])
def calendar(site: TheSite, start: Moment | None = None, end: Moment | None = None) -> CalendarDocument:
    """Who has what between two times: from now, for 14 days, where they are left out."""
    begin = start or site.clock()
    until = end or begin + timedelta(days=14)
    if not begin < until or (until - begin).days > _MOST_DAYS:
        raise RequestInvalid(problems=f"end: must lie after start, by {_MOST_DAYS} days at most")
    found = site.reservations.calendar(begin, until)
    return CalendarDocument(
        starts_at=found.starts_at,
        ends_at=found.ends_at,
        nodes=list(found.nodes),
        reservations=[reservation_document(one) for one in found.bookings],
    )


@router.get("/slots", responses=READS_ONE, tags=["calendar"])
def slots(
    site: TheSite,
    *,
    length_seconds: Annotated[Seconds, Query()],
    count: Annotated[int, Query(ge=1, le=10_000)] = 1,
    names: Annotated[list[Word], Query(max_length=1000)] = [],  # noqa: B006 - FastAPI copies it
    where: Line = "",
    start: Moment | None = None,
    limit: Annotated[int, Query(ge=1, le=50)] = 5,
) -> list[SlotDocument]:
    """The first times at which these nodes can be had."""
    wish = NodeWish(count, frozenset(names), where)
    found = site.reservations.find(wish, length_seconds, earliest=start, limit=limit)
    return [slot_document(one) for one in found]


@router.get("/me", responses=ORDERS, tags=["calendar"])
def me(caller: Caller) -> CallerDocument:
    """Whose token this is."""
    return CallerDocument(name=caller.name, admin=caller.admin)


@router.get("/reservations", responses=READS, tags=["reservations"])
def reservations(site: TheSite, holder: Word, *, over: bool = False) -> list[ReservationDocument]:
    """Somebody's reservations that are not over, by their start; with `over` all of them."""
    return [reservation_document(one) for one in site.reservations.of(holder, over=over)]


@router.post("/reservations", status_code=201, responses=ORDERS, tags=["reservations"])
def reserve(site: TheSite, caller: Caller, order: ReserveOrder) -> ReservationDocument:
    """Take nodes for a time, or a place in the queue. Nobody gets other nodes than they asked for."""
    return reservation_document(site.reservations.reserve(order.request(), caller))


@router.get("/reservations/{id}", responses=READS_ONE, tags=["reservations"])
def reservation(site: TheSite, id: ReservationId) -> ReservationDocument:  # noqa: A002 - the API's word
    """One reservation."""
    return reservation_document(site.reservations.show(id))


@router.get("/reservations/{id}/why", responses=READS_ONE, tags=["reservations"])
def why(site: TheSite, id: ReservationId) -> WhyDocument:  # noqa: A002
    """Who is before a reservation, and what would make it begin sooner."""
    return why_document(site.reservations.why(id))


@router.get("/reservations/{id}/history", responses=READS_ONE, tags=["reservations"])
def history(
    site: TheSite,
    id: ReservationId,  # noqa: A002
    limit: Annotated[int, _LIMIT] = 100,
) -> list[EventDocument]:
    """Who did what to a reservation, oldest first."""
    return [event_document(one) for one in site.reservations.history(reservation_id=id, limit=limit)]


@router.post("/reservations/{id}/extend", responses=ORDERS, tags=["reservations"])
def extend(site: TheSite, caller: Caller, id: ReservationId, order: ExtendOrder) -> ReservationDocument:  # noqa: A002
    """Let a reservation end later."""
    return reservation_document(site.reservations.extend(id, order.seconds, caller))


@router.post("/reservations/{id}/shorten", responses=ORDERS, tags=["reservations"])
def shorten(site: TheSite, caller: Caller, id: ReservationId, order: ShortenOrder) -> ReservationDocument:  # noqa: A002
    """Let a reservation end earlier."""
    return reservation_document(site.reservations.shorten(id, order.ends_at, caller))


@router.post("/reservations/{id}/release", responses=ORDERS, tags=["reservations"])
def release(site: TheSite, caller: Caller, id: ReservationId, order: ReleaseOrder) -> ReservationDocument:  # noqa: A002
    """Give a reservation back, or one of its nodes."""
    released = site.reservations.release(id, caller, node=order.node, wipe=order.wipe_disks)
    return reservation_document(released)


@router.post("/reservations/{id}/swap", responses=ORDERS, tags=["reservations"])
def swap(site: TheSite, caller: Caller, id: ReservationId, order: SwapOrder) -> ReservationDocument:  # noqa: A002
    """Give a node back and take another in its place."""
    return reservation_document(site.reservations.swap(id, order.node, caller, to=order.to))


@router.post("/reservations/{id}/transfer", responses=ORDERS, tags=["reservations"])
def transfer(site: TheSite, caller: Caller, id: ReservationId, order: TransferOrder) -> ReservationDocument:  # noqa: A002
    """Hand a reservation to somebody else."""
    return reservation_document(
        site.reservations.transfer(id, order.to, caller, contact=order.contact, keys=order.keys)
    )


@router.post("/reservations/{id}/keys", responses=ORDERS, tags=["reservations"])
def keys(site: TheSite, caller: Caller, id: ReservationId, order: KeysOrder) -> ReservationDocument:  # noqa: A002
    """Let these SSH keys open the machines of a reservation, and no others, from the next minute on."""
    return reservation_document(site.reservations.admit(id, order.keys, caller))
