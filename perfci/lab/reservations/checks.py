"""Whether what somebody typed is a reservation at all, and who may do what: no effects."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from perfci.lab.errors import AdminsOnly, NotYours, ReservationInvalid, local_time
from perfci.lab.labels import check_expression
from perfci.lab.reservations.model import Wipe
from perfci.validation import MAIL_ADDRESS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from perfci.lab.reservations.model import Actor, Booking, NodeWish, Request

NOBODY = "none"
"""In the place of a mail address: send no mails."""
LONGEST_LINE = 500
"""Characters of a purpose, a reason or a name."""
MOST_NODES = 10_000
SHORTEST = timedelta(minutes=1)
SYSTEMS = ("debian12",)
"""The operating systems that machines can be given; the first is what they get where nobody asks."""
_GRACE = timedelta(minutes=1)
"""A start may lie so far back: people type the minute that it is."""


def no_clouds(cloud: str, nodes: int) -> None:
    """Refuse every cloud: nothing here knows how to deploy one."""
    raise ReservationInvalid(reason=f"no cloud can be prepared here, got {cloud[:60]!r} on {nodes} nodes")


@dataclass(frozen=True, slots=True)
class Policy:
    """What the lab allows. `None` is no limit; hours and days are lengths of time.

    `nodes_per_person` is how many nodes one person may have at one time, `open_per_person` how many
    reservations that are not over. After `patience_hours` in the queue nobody is put before a reservation.
    `book_over_nights` lets people take the time of a planned night, which then moves. People who name no
    address get mail at `mail_domain`; without one, they get none. `check_cloud` gets the
    name of a cloud and the number of nodes, and raises a PerfciError where it can't be deployed on so many.
    """

    admins: frozenset[str] = frozenset()
    longest_hours: float = 30 * 24
    horizon_days: float = 366
    nodes_per_person: int | None = None
    open_per_person: int | None = None
    patience_hours: float = 48
    book_over_nights: bool = False
    mail_domain: str | None = None
    check_cloud: Callable[[str, int], None] = no_clouds


def contact_of(holder: str, asked: str, policy: Policy) -> str:
    """Return where mail about a reservation goes, given the address that was `asked` for; empty is nobody."""
    if asked == NOBODY:
        return ""
    usual = f"{holder}@{policy.mail_domain}" if policy.mail_domain else ""
    # A name that a directory service gives may hold what no address can.
    return asked or (usual if re.fullmatch(MAIL_ADDRESS, usual) else "")


def check_line(name: str, text: str) -> str:
    """Return the text without spaces around it. Raises ReservationInvalid where it is no printable line."""
    text = text.strip()
    if len(text) > LONGEST_LINE:
        reason = f"the {name} may have {LONGEST_LINE} characters, this has {len(text)}"
        raise ReservationInvalid(reason=reason)
    if not text or not text.isprintable():
        raise ReservationInvalid(reason=f"the {name} must be one line of text, got {text!r}")
    return text


def check_contact(address: str) -> None:
    """Raise ReservationInvalid where mail can't be sent there; empty is the lab's default."""
    if address not in {"", NOBODY} and not re.fullmatch(MAIL_ADDRESS, address):
        raise ReservationInvalid(reason=f"{address[:60]!r} is no mail address")


def check_request(request: Request, now: datetime, policy: Policy) -> None:
    """Raise ReservationInvalid where a request makes no sense; nothing was looked up for it yet."""
    check_line("purpose", request.purpose)
    check_contact(request.contact)
    if request.os not in {"", *SYSTEMS}:
        there = ", ".join(SYSTEMS)
        raise ReservationInvalid(reason=f"machines can be given {there}, not {request.os[:60]!r}")
    check_wish(request.wish)
    if request.cloud:
        check_line("cloud", request.cloud)
        policy.check_cloud(request.cloud, request.wish.size)
    check_length(request.length_seconds, policy)
    wait = request.wait_seconds
    if wait is not None and not (math.isfinite(wait) and 0 <= wait <= policy.horizon_days * 86400):
        reason = f"the time to wait must be from 0 to {policy.horizon_days:g} days"
        raise ReservationInvalid(reason=reason)
    if request.starts_at is not None:
        _check_start(request.starts_at, now, policy)


def check_wish(wish: NodeWish) -> None:
    """Raise ReservationInvalid where a wish for nodes makes no sense."""
    if wish.names and wish.where:
        raise ReservationInvalid(reason="give names of nodes or a filter, not both")
    if not 1 <= wish.size <= MOST_NODES:
        raise ReservationInvalid(
            reason=f"the number of nodes must be from 1 to {MOST_NODES}, got {wish.size}"
        )
    if wish.where:
        try:
            check_expression(wish.where)
        except ValueError as error:
            raise ReservationInvalid(reason=f"the filter: {error}") from error


def _check_start(start: datetime, now: datetime, policy: Policy) -> None:
    if start.tzinfo is None:
        raise ReservationInvalid(reason="the start has no time zone")
    if start < now - _GRACE:
        raise ReservationInvalid(reason=f"its start {local_time(start)} is in the past")
    if start > now + timedelta(days=policy.horizon_days):
        raise ReservationInvalid(reason=f"its start is more than {policy.horizon_days:g} days ahead")


def check_length(seconds: float, policy: Policy) -> timedelta:
    """Return the length. Raises ReservationInvalid where it is too short or longer than the lab allows."""
    # Compared as numbers: a timedelta can't be so long.
    if not SHORTEST.total_seconds() <= seconds <= policy.longest_hours * 3600:
        reason = (
            f"the length must be from 1 minute to {policy.longest_hours:g} hours, got {seconds:g} seconds"
        )
        raise ReservationInvalid(reason=reason)
    return timedelta(seconds=round(seconds))


def check_wipe(wipe: Wipe, bare: Sequence[str]) -> None:
    """Raise ReservationInvalid where disks are to be wiped of nodes that can't be booted for that."""
    if bare and wipe is not Wipe.NONE:
        raise ReservationInvalid(reason=f"no disk can be wiped without a BMC: {', '.join(bare)}")


def check_may(actor: Actor, booking: Booking) -> None:
    """Raise NotYours where a person may not change a reservation."""
    if booking.holder != actor.name and not actor.admin:
        raise NotYours(id=booking.id, holder=booking.holder, actor=actor.name)


def check_admin(actor: Actor, lab: str, order: str) -> None:
    """Raise AdminsOnly for everybody else."""
    if not actor.admin:
        raise AdminsOnly(actor=actor.name, lab=lab, order=order)
