"""What the JSON API takes and returns. Times are ISO 8601 with a zone, lengths are seconds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from perfci.lab.reservations.keys import LONGEST_KEY, MOST_KEYS, fingerprint
from perfci.lab.reservations.model import BookingState, NodeState, NodeWish, Request, Wipe

if TYPE_CHECKING:
    from perfci.lab.model import Quarantine
    from perfci.lab.reservations.model import Booking, BookingEvent, NodeHealth, NodeStatus, Slot
    from perfci.lab.reservations.views import BookingOutlook

_FIRST_YEAR, _LAST_YEAR = 2000, 2999
"""Beyond them arithmetic with times ends."""
Line = Annotated[str, Field(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""One line of text; what else it must be is checked where it is used."""
Word = Annotated[str, Field(max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]

Keys = Annotated[list[Annotated[str, Field(max_length=LONGEST_KEY)]], Field(max_length=MOST_KEYS)]
"""SSH public keys, each one line as in `~/.ssh/id_ed25519.pub`."""


def _moment(when: datetime) -> datetime:
    if not _FIRST_YEAR <= when.year <= _LAST_YEAR:
        msg = f"must lie from {_FIRST_YEAR} to {_LAST_YEAR}"
        raise ValueError(msg)
    return when.astimezone(UTC)


Moment = Annotated[AwareDatetime, AfterValidator(_moment)]
"""A time with its zone; in UTC from here on."""
Seconds = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]


class _Order(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class _Document(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class ReserveOrder(_Order):
    """What nodes are wanted, for how long, from when, and what for."""

    count: Annotated[int, Field(ge=1, le=10_000)] = 1
    """How many nodes, where none is named."""
    names: Annotated[list[Word], Field(max_length=1000)] = []
    """These nodes, and no others."""
    where: Line = ""
    """A filter over the nodes' labels and facts: `cores >= 32 and rack == "3"`."""
    length_seconds: Seconds
    """For how long."""
    reason: Line
    """What for; others see it."""
    starts_at: Moment | None = None
    """From when; left out: as soon as possible."""
    wait_seconds: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] | None = 0
    """How long the start may be away where `starts_at` is left out; null: any time will do."""
    os: Word = ""
    """The operating system to be installed; empty: the lab's own."""
    cloud: Word = ""
    """The job whose cloud is to be deployed; empty: none."""
    contact: Annotated[str, Field(max_length=254)] = ""
    """The address of mails about it; empty: no mail."""
    keys: Keys = []
    """SSH public keys that open its machines: `ssh root@NODE`."""
    wipe_disks: Wipe = Wipe.NONE
    """What is wiped of the disks when the machines are taken back: both ends (`headers`), or all (`full`)."""

    def request(self) -> Request:
        """Return what the calendar takes."""
        return Request(
            wish=NodeWish(self.count, frozenset(self.names), self.where),
            length_seconds=self.length_seconds,
            purpose=self.reason,
            starts_at=self.starts_at,
            wait_seconds=self.wait_seconds,
            os=self.os,
            cloud=self.cloud,
            contact=self.contact,
            keys=tuple(self.keys),
            wipe=self.wipe_disks,
        )


class ExtendOrder(_Order):
    """By how much longer."""

    seconds: Seconds


class ShortenOrder(_Order):
    """The new end."""

    ends_at: Moment


class ReleaseOrder(_Order):
    """Which node; left out: all of them."""

    node: Word | None = None
    wipe_disks: Wipe = Wipe.NONE
    """What is wiped of the disks, where more than was asked for before."""


class SwapOrder(_Order):
    """Which node goes, and which one comes; left out: any that fits."""

    node: Word
    to: Word | None = None


class TransferOrder(_Order):
    """Who gets it, and the address of mails from then on."""

    to: Word
    contact: Annotated[str, Field(max_length=254)] = ""
    keys: Keys = []
    """That person's SSH public keys, in place of those before."""


class KeysOrder(_Order):
    """Whose SSH keys open the machines, beside the controller's: these, and no others."""

    keys: Keys


class ReasonOrder(_Order):
    """Why; others see it."""

    reason: Line


class RestoreOrder(_Order):
    """Whether the node is given out again though no canary has passed on it."""

    force: bool = False


class ProblemDocument(_Document):
    """Why an order was refused. `error` is a section of docs/errors.md."""

    error: str
    message: str
    help: str
    slot: SlotDocument | None = None
    """The earliest time that would work, where the nodes can't be had then."""


class SlotDocument(_Document):
    """Nodes that are free together."""

    starts_at: datetime
    ends_at: datetime
    nodes: list[str]


class WishDocument(_Document):
    """Which nodes were asked for."""

    count: int
    names: list[str]
    where: str


class ReservationDocument(_Document):
    """A reservation. `starts_at` and `ends_at` are planned where it waits; a `firm` one keeps its time."""

    id: str
    lab: str
    holder: str
    reason: str
    state: BookingState
    priority: str
    firm: bool
    nodes: list[str]
    wish: WishDocument
    asked_at: datetime
    starts_at: datetime
    ends_at: datetime
    length_seconds: float
    ready_at: datetime | None
    released_at: datetime | None
    os: str
    cloud: str
    keys: list[str]
    """Fingerprints of the SSH keys that open its machines."""
    wipe_disks: Wipe
    job: str | None


class QuarantineDocument(_Document):
    """Since when a node is given to nobody, and why."""

    reason: str
    since: datetime


class NodeDocument(_Document):
    """A node as it is now."""

    name: str
    state: NodeState
    has_bmc: bool
    facts: dict[str, str]
    reservation: ReservationDocument | None
    next: ReservationDocument | None
    free_until: datetime | None
    quarantine: QuarantineDocument | None
    retired_reason: str


class HealthDocument(_Document):
    """How a node did in the last 90 days."""

    operations: int
    failures: int
    failures_per_100: float | None
    used_hours: float
    idle_hours: float
    broken_hours: float


class EventDocument(_Document):
    """Who did what to a reservation or to a node, when."""

    at: datetime
    actor: str
    action: str
    detail: str
    subject: str
    ok: bool


class CalendarDocument(_Document):
    """Who has what between two times."""

    starts_at: datetime
    ends_at: datetime
    nodes: list[str]
    reservations: list[ReservationDocument]


class SoonerDocument(_Document):
    """Something smaller that would begin sooner."""

    instead: str
    slot: SlotDocument


class WhyDocument(_Document):
    """Who is before a reservation, and what would make it begin sooner."""

    reservation: ReservationDocument
    before: list[ReservationDocument]
    sooner: list[SoonerDocument]


class RestoredDocument(_Document):
    """Whether the node was in quarantine."""

    restored: bool


class CallerDocument(_Document):
    """Whose token was shown."""

    name: str
    admin: bool


def slot_document(one: Slot) -> SlotDocument:
    """Return a slot for JSON."""
    return SlotDocument(starts_at=one.starts_at, ends_at=one.ends_at, nodes=list(one.nodes))


def reservation_document(one: Booking) -> ReservationDocument:
    """Return a reservation for JSON."""
    return ReservationDocument(
        id=one.id,
        lab=one.lab,
        holder=one.holder,
        reason=one.purpose,
        state=one.state,
        priority=one.priority.name.lower(),
        firm=one.firm,
        nodes=list(one.nodes),
        wish=WishDocument(count=one.wish.size, names=sorted(one.wish.names), where=one.wish.where),
        asked_at=one.asked_at,
        starts_at=one.starts_at,
        ends_at=one.ends_at,
        length_seconds=one.length_seconds,
        ready_at=one.ready_at,
        released_at=one.released_at,
        os=one.os,
        cloud=one.cloud,
        keys=[fingerprint(key) for key in one.keys],
        wipe_disks=one.wipe,
        job=one.job,
    )


def quarantine_document(one: Quarantine) -> QuarantineDocument:
    """Return an entry of the quarantine for JSON."""
    return QuarantineDocument(reason=one.reason, since=one.since)


def node_document(one: NodeStatus) -> NodeDocument:
    """Return a node for JSON."""
    return NodeDocument(
        name=one.name,
        state=one.state,
        has_bmc=one.has_bmc,
        facts=dict(one.facts),
        reservation=reservation_document(one.booking) if one.booking else None,
        next=reservation_document(one.next_booking) if one.next_booking else None,
        free_until=one.free_until,
        quarantine=quarantine_document(one.quarantine) if one.quarantine else None,
        retired_reason=one.retired_reason,
    )


def health_document(one: NodeHealth) -> HealthDocument:
    """Return the health of a node for JSON."""
    return HealthDocument(
        operations=one.operations,
        failures=one.failures,
        failures_per_100=one.failures_per_100,
        used_hours=one.used_hours,
        idle_hours=one.idle_hours,
        broken_hours=one.broken_hours,
    )


def event_document(one: BookingEvent) -> EventDocument:
    """Return an event for JSON."""
    return EventDocument(
        at=one.at, actor=one.actor, action=one.action, detail=one.detail, subject=one.subject, ok=one.ok
    )


def why_document(one: BookingOutlook) -> WhyDocument:
    """Return for JSON why a reservation waits."""
    return WhyDocument(
        reservation=reservation_document(one.booking),
        before=[reservation_document(before) for before in one.before],
        sooner=[SoonerDocument(instead=words, slot=slot_document(slot)) for words, slot in one.sooner],
    )


def problem_fields(error: Any) -> dict[str, Any]:
    """Return an error as JSON has it: a ProblemDocument."""
    shown: dict[str, Any] = error.as_dict()
    shown.pop("class", None)
    return {"slot": None, **shown}
