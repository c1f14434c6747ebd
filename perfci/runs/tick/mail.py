"""Mails about reservations: each goes into the outbox once, with the note that it did."""

from __future__ import annotations

from datetime import timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from typing import TYPE_CHECKING

import sqlalchemy as sa

from perfci.alerts.outbox import Outbox
from perfci.database.schema import reservation, reservation_event, reservation_notice
from perfci.lab.reservations.ics import calendar_file
from perfci.lab.reservations.idle import IdlePolicy
from perfci.lab.reservations.model import BookingState
from perfci.runs.tick.letters import STARTS_SOON, TOLD_FOR, letters_due, quarantine_letter

if TYPE_CHECKING:
    from datetime import datetime

    from perfci.config import Settings
    from perfci.lab.reservations.model import Booking, BookingEvent
    from perfci.lab.reservations.service import Reservations
    from perfci.lab.reservations.store import ReservationRows
    from perfci.runs.tick.letters import ReservationLetter

_LONGEST_SUBJECT = 150
_AT_ONCE = 500


def idle_policy(settings: Settings) -> IdlePolicy:
    """Return when nodes on which nobody works are warned of, and taken back."""
    warn, end = settings.reservations.idle_hours, settings.reservations.idle_end_hours
    return IdlePolicy(
        None if warn is None else timedelta(hours=warn), None if end is None else timedelta(hours=end)
    )


def post_due(settings: Settings, reservations: Reservations) -> int:
    """Put the mails that are due into the outbox, and return how many; doing it again puts none."""
    # The same database object: the mail and the note of it are one transaction.
    outbox, policy = Outbox(reservations.database), idle_policy(settings)
    with reservations.order() as (store, now):
        told = _concerned(store, now)
        known, events = _known(store, told)
        # One mail says what happened twice at one moment.
        found = {
            (booking.id, letter.kind, letter.about): (booking, letter)
            for booking in told
            for letter in letters_due(booking, events.get(booking.id, ()), now, policy)
        }
        due = [one for name, one in found.items() if name not in known]
        if due:
            store.connection.execute(
                reservation_notice.insert(),
                [
                    {"reservation_id": one.id, "kind": letter.kind, "about": letter.about, "at": now}
                    for one, letter in due
                ],
            )
        mails = (
            (
                f"reservation-{one.id}-{letter.kind}-{letter.about}",
                _message(letter, one, settings, now),
                one.contact,
            )
            for one, letter in due
        )
        count = outbox.put_all(mails, sender=settings.mail.from_address, now=now)
        if settings.mail.admins:
            count += _quarantines(settings, outbox, store, now)
    return count


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


def _known(
    store: ReservationRows, told: list[Booking]
) -> tuple[set[tuple[str, str, str]], dict[str, list[BookingEvent]]]:
    """Return which letters about these reservations went out, and what was done to each of them."""
    known: set[tuple[str, str, str]] = set()
    events: dict[str, list[BookingEvent]] = {}
    for first in range(0, len(told), _AT_ONCE):
        ids = [one.id for one in told[first : first + _AT_ONCE]]
        of_them = sa.select(reservation_notice).where(reservation_notice.c.reservation_id.in_(ids))
        known |= {(row.reservation_id, row.kind, row.about) for row in store.connection.execute(of_them)}
        for event in store.events(reservation_event.c.reservation_id.in_(ids)):
            events.setdefault(event.subject, []).append(event)
    return known, events


def _quarantines(settings: Settings, outbox: Outbox, store: ReservationRows, now: datetime) -> int:
    """Tell the admins of nodes that went into quarantine, each once; return of how many."""
    count = 0
    for node, entry in sorted(store.quarantined().items()):
        if now - entry.since < TOLD_FOR:
            subject, body = quarantine_letter(store.lab, entry)
            count += outbox.put(
                f"quarantine-{store.lab}-{node}-{entry.since.isoformat()}",
                _plain(settings, settings.mail.admins, subject, body, now),
                sender=settings.mail.from_address,
                recipients=settings.mail.admins,
                now=now,
            )
    return count


def _plain(settings: Settings, to: tuple[str, ...], subject: str, body: str, now: datetime) -> EmailMessage:
    message = EmailMessage()
    message["From"] = Address("perfci", addr_spec=settings.mail.from_address)
    message["To"] = ", ".join(to)
    message["Subject"] = subject[:_LONGEST_SUBJECT]
    message["Date"] = now
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(body)
    return message


def _message(letter: ReservationLetter, booking: Booking, settings: Settings, now: datetime) -> EmailMessage:
    message = _plain(settings, (booking.contact,), letter.subject, letter.body, now)
    attached = calendar_file(f"reservation {booking.id}", [booking], now)
    message.add_attachment(attached, maintype="text", subtype="calendar", filename=f"{booking.id}.ics")
    return message
