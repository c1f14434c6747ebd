"""Mails about reservations: each goes into the outbox once, with the note that it did."""

from __future__ import annotations

import email.policy
import secrets
from datetime import timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from perfci.alerts.outbox import Outbox, on_the_wire
from perfci.database.schema import reservation, reservation_event, reservation_notice
from perfci.lab.reservations.ics import calendar_file
from perfci.lab.reservations.idle import IdlePolicy
from perfci.lab.reservations.model import BookingState
from perfci.lab.reservations.store import batched
from perfci.runs.tick.letters import STARTS_SOON, TOLD_FOR, letters_due, quarantine_letter

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from perfci.config import Settings
    from perfci.lab.reservations.model import Booking, BookingEvent
    from perfci.lab.reservations.service import Reservations
    from perfci.lab.reservations.store import ReservationRows
    from perfci.runs.tick.letters import ReservationLetter

_LONGEST_SUBJECT = 150
_TIMES_ARE_NEW = frozenset({"granted", "moved", "requeued", "swapped", "transferred", "ready"})
"""Kinds of letters with a calendar file: what its reader did not know before."""
_Name = tuple[str, str, str]
"""What names a letter about a reservation: its id, the kind of the letter, what exactly it is about."""


def idle_policy(settings: Settings) -> IdlePolicy:
    """Return when nodes on which nobody works are warned of, and taken back."""
    warn, end = settings.reservations.idle_hours, settings.reservations.idle_end_hours
    return IdlePolicy(
        None if warn is None else timedelta(hours=warn), None if end is None else timedelta(hours=end)
    )


def post_due(settings: Settings, reservations: Reservations) -> int:
    """Put the mails that are due into the outbox, and return how many; doing it again puts none."""
    # The same database object: the mail and the note of it are one transaction.
    outbox = Outbox(reservations.database)
    with reservations.reading() as store:
        now = reservations.now()
        due = _due(store, now, idle_policy(settings))
    # Writing hundreds of mails takes a second: nobody's order in the calendar waits for that.
    mails = _written(due, settings, now)
    with reservations.order() as (store, now):
        # Another controller may have posted some of them meanwhile.
        sent = _sent(store, {one.id for one, _ in due})
        new = [name for name in mails if name not in sent]
        if new:
            store.connection.execute(
                reservation_notice.insert(),
                [
                    {"reservation_id": one, "kind": kind, "about": about, "at": now}
                    for one, kind, about in new
                ],
            )
        count = outbox.put_all(
            [(f"reservation-{'-'.join(name)}", *mails[name]) for name in new],
            sender=settings.mail.from_address,
            now=now,
        )
        if settings.mail.admins:
            count += _quarantines(settings, outbox, reservations, store, now)
    return count


def _due(
    store: ReservationRows, now: datetime, policy: IdlePolicy
) -> list[tuple[Booking, ReservationLetter]]:
    """Return the letters that are due and were not posted; one says what happened twice at one moment."""
    told = _concerned(store, now)
    ids = [one.id for one in told]
    sent, events = _sent(store, ids), _events(store, ids)
    found = {
        (booking.id, letter.kind, letter.about): (booking, letter)
        for booking in told
        for letter in letters_due(booking, events.get(booking.id, ()), now, policy)
    }
    return [one for name, one in found.items() if name not in sent]


def _written(
    due: list[tuple[Booking, ReservationLetter]], settings: Settings, now: datetime
) -> dict[_Name, tuple[str, str]]:
    """Return by (reservation, kind, about) each mail as it is sent, with its recipient."""
    common = _common_headers(settings, now)
    return {
        (one.id, letter.kind, letter.about): (on_the_wire(_message(letter, one, common, now)), one.contact)
        for one, letter in due
    }


def _concerned(store: ReservationRows, now: datetime) -> list[Booking]:
    """Return the reservations about which a mail may be due: of thousands in the calendar, a few.

    Something happened to them lately, or they begin soon, or somebody has their nodes.
    """
    table = reservation.c
    lately = sa.select(reservation_event.c.reservation_id).where(
        reservation_event.c.lab == store.lab, reservation_event.c.at > now - TOLD_FOR
    )
    soon = (table.state == str(BookingState.WAITING)) & (table.starts_at < now + STARTS_SOON)
    with_holder = table.state.in_([str(BookingState.PREPARING), str(BookingState.READY)])
    found = {
        one.id: one
        for condition in (table.id.in_(lately), soon, with_holder)
        for one in store.bookings((table.contact != "") & condition)
    }
    return list(found.values())


def _sent(store: ReservationRows, ids: Collection[str]) -> set[_Name]:
    """Return which letters about these reservations went out, as (reservation, kind, about)."""
    found: set[_Name] = set()
    for part in batched(ids):
        of_them = sa.select(reservation_notice).where(reservation_notice.c.reservation_id.in_(part))
        found |= {(row.reservation_id, row.kind, row.about) for row in store.connection.execute(of_them)}
    return found


def _events(store: ReservationRows, ids: Collection[str]) -> dict[str, list[BookingEvent]]:
    """Return what was done to each of these reservations."""
    found: dict[str, list[BookingEvent]] = {}
    for part in batched(ids):
        for event in store.events(reservation_event.c.reservation_id.in_(part)):
            found.setdefault(event.subject, []).append(event)
    return found


def _quarantines(
    settings: Settings, outbox: Outbox, reservations: Reservations, store: ReservationRows, now: datetime
) -> int:
    """Tell the admins of nodes that went into quarantine, each once; return of how many."""
    count = 0
    for node, entry in sorted(store.quarantined().items()):
        if now - entry.since < TOLD_FOR:
            has_bmc = bool(reservations.machines([node]))
            subject, body = quarantine_letter(store.lab, entry, has_bmc=has_bmc)
            count += outbox.put(
                f"quarantine-{store.lab}-{node}-{entry.since.isoformat()}",
                _plain(_common_headers(settings, now), settings.mail.admins, subject, body),
                sender=settings.mail.from_address,
                recipients=settings.mail.admins,
                now=now,
            )
    return count


def _common_headers(settings: Settings, now: datetime) -> list[Any]:
    """Return the headers that all mails of one tick have, parsed once."""
    parsed = email.policy.default.header_factory
    return [
        parsed("From", Address("perfci", addr_spec=settings.mail.from_address)),
        parsed("Date", now),
        parsed("Auto-Submitted", "auto-generated"),
    ]


def _plain(common: Sequence[Any], to: tuple[str, ...], subject: str, body: str) -> EmailMessage:
    message = EmailMessage()
    for header in common:
        message[header.name] = header
    message["To"] = ", ".join(to)
    message["Subject"] = subject[:_LONGEST_SUBJECT]
    message.set_content(body)
    return message


def _message(
    letter: ReservationLetter, booking: Booking, common: Sequence[Any], now: datetime
) -> EmailMessage:
    message = _plain(common, (booking.contact,), letter.subject, letter.body)
    if letter.kind in _TIMES_ARE_NEW:
        attached = calendar_file(f"reservation {booking.id}", [booking], now)
        # Without a boundary the library searches the mail for one that does not occur in it.
        message.make_mixed(boundary=secrets.token_hex(16))
        message.add_attachment(attached, maintype="text", subtype="calendar", filename=f"{booking.id}.ics")
    return message
