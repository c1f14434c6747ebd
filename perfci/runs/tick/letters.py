"""Which mails about a reservation are due, and what they say: pure on the reservation and its events."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from perfci.lab.errors import local_time, local_times
from perfci.lab.reservations.idle import IdlePolicy, idle_for, idle_since
from perfci.lab.reservations.model import BookingState

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from perfci.lab.model import Quarantine
    from perfci.lab.reservations.model import Booking, BookingEvent

STARTS_SOON = timedelta(hours=1)
ENDS_SOON = (timedelta(days=1), timedelta(hours=1), timedelta(minutes=15))
"""Before the end: one mail for each that is shorter than a third of the whole time."""
TOLD_FOR = timedelta(days=2)
"""What happened longer ago is no news any more: a controller that was down does not send it."""
NEVER_IDLE = IdlePolicy()
_BY_EVENT = {
    "moved": ("moved", "has another time"),
    "swapped": ("swapped", "has another node"),
    "stranded": ("stranded", "needs a node that is in quarantine"),
    "back in the queue": ("requeued", "waits again: its nodes could not be prepared"),
    "transferred": ("transferred", "has another holder"),
    "cloud failed": ("failed", "has ended: its cloud could not be deployed"),
    "put off": ("put off", "is not ready yet: the controller can't prepare its nodes"),
    "missed": ("missed", "was missed: no controller started it in time"),
}


class ReservationLetter(NamedTuple):
    """A mail about a reservation. `kind` and `about` name it: it is sent once."""

    kind: str
    about: str
    subject: str
    body: str


def letters_due(
    booking: Booking,
    events: Iterable[BookingEvent],
    now: datetime,
    idle: IdlePolicy = NEVER_IDLE,
) -> list[ReservationLetter]:
    """Return every mail that should have gone out by now; the caller knows which did."""
    found = []
    what = f"{', '.join(booking.nodes) or booking.wish} ({booking.id})"
    if booking.state in {BookingState.WAITING, BookingState.ASKED} and booking.job is None:
        found.append(_letter(booking, "granted", "", f"Reserved: {what}", _granted(booking)))
        if booking.asked_at + STARTS_SOON < booking.starts_at - STARTS_SOON <= now < booking.starts_at:
            about = booking.starts_at.isoformat()
            found.append(_letter(booking, "starts soon", about, f"Starts soon: {what}", _granted(booking)))
    if booking.state is BookingState.READY and booking.owner is None and booking.ready_at is not None:
        until = local_time(booking.ends_at)
        own = "".join(f"  ssh root@{node}\n" for node in booking.nodes) if booking.keys else ""
        body = f"They are ready, and yours until {until}.\n\n  perfci lab ssh {booking.id}\n{own}"
        found.append(_letter(booking, "ready", booking.ready_at.isoformat(), f"Ready: {what}", body))
        found += _ends_soon(booking, what, now)
        found += _idle(booking, what, idle)
    for one in events:
        # Which nodes a night gets is the lab's choice: nobody wants two weeks of mails about one that broke.
        if booking.job is not None and one.action == "swapped":
            continue
        if one.action in _BY_EVENT and now - one.at < TOLD_FOR:
            kind, words = _BY_EVENT[one.action]
            subject = f"Reservation {booking.id} {words}"
            body = f"{local_times(one.detail)}\n\n{_granted(booking)}"
            found.append(_letter(booking, kind, one.at.isoformat(), subject, body))
    ended = booking.released_at
    was_used = booking.ready_at is not None and booking.owner is None
    if ended is not None and was_used and now - ended < TOLD_FOR:
        lost = "perfci has taken its nodes back, and everything on them is lost."
        body = f"It ended at {local_time(ended)}. {lost}\n"
        found.append(_letter(booking, "ended", "", f"Ended: {what}", body))
    return found


def _ends_soon(booking: Booking, what: str, now: datetime) -> list[ReservationLetter]:
    """Return the last warning that is due: a late controller sends one, not three."""
    whole = booking.ends_at - booking.starts_at
    due = [one for one in ENDS_SOON if 3 * one < whole and booking.ends_at - one <= now < booking.ends_at]
    if not due:
        return []
    body = (
        f"It ends at {local_time(booking.ends_at)}. Everything on the nodes is lost then.\n"
        "If you need them longer:\n\n"
        f"  perfci lab extend {booking.id} --for 4h\n"
    )
    about = f"{booking.ends_at.isoformat()} {min(due)}"
    return [_letter(booking, "ends soon", about, f"Ends soon: {what}", body)]


def _idle(booking: Booking, what: str, policy: IdlePolicy) -> list[ReservationLetter]:
    """Warn of nodes on which nobody works, once each time that this begins."""
    since = idle_since(booking)
    if since is None or policy.warn is None or idle_for(booking) < policy.warn:
        return []
    after = f" perfci takes them back at {local_time(since + policy.end)}." if policy.end else ""
    body = (
        f"Nobody has logged in, typed or put load on them since {local_time(since)}.{after}\n"
        "If you don't need them any more:\n\n"
        f"  perfci lab release {booking.id}\n"
    )
    return [_letter(booking, "idle", since.isoformat(), f"Idle: {what}", body)]


def _granted(booking: Booking) -> str:
    if booking.state is BookingState.ASKED:
        return f"perfci can't plan a time for it now.\n\n  perfci lab why {booking.id}\n"
    return (
        f"From {local_time(booking.starts_at)} until {local_time(booking.ends_at)} on "
        f"{', '.join(booking.nodes)}.\n\n  perfci lab show {booking.id}\n"
    )


def quarantine_letter(lab: str, entry: Quarantine, *, has_bmc: bool) -> tuple[str, str]:
    """Return subject and body of the mail to the admins about a node that went into quarantine."""
    # A machine that failed has no system, as a rule: canaries need a fresh one.
    fresh = " --provision" if has_bmc else ""
    body = (
        f"{entry.reason}\n\nperfci has given it to nobody since {local_time(entry.since)}. See its history, "
        "and put it back into use after the repair:\n\n"
        f"  perfci lab history --node {entry.node}\n"
        f"  perfci lab node check {entry.node}{fresh}\n"
        f"  perfci lab node restore {entry.node}\n"
    )
    return f"[{lab}] In quarantine: {entry.node}", body


def _letter(booking: Booking, kind: str, about: str, subject: str, body: str) -> ReservationLetter:
    return ReservationLetter(
        kind, about, f"[{booking.lab}] {subject}", f"{body}\nReason: {booking.purpose}\n"
    )
