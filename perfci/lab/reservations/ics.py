"""Reservations as an iCalendar file (RFC 5545), for calendar programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icalendar import Calendar, Event

from perfci.lab.reservations.model import BookingState

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from perfci.lab.reservations.model import Booking


def calendar_file(title: str, bookings: Iterable[Booking], now: datetime) -> bytes:
    """Return the file. An event keeps its UID for ever, so that a program that reads it again moves it."""
    calendar = Calendar()
    calendar.add("prodid", "-//perfci//reservations//EN")
    calendar.add("version", "2.0")
    calendar.add("x-wr-calname", title)
    for one in bookings:
        event = Event()
        event.add("uid", f"{one.id}@{one.lab}.perfci")
        event.add("dtstamp", now)
        event.add("dtstart", one.starts_at)
        event.add(
            "dtend", one.released_at if one.released_at and one.released_at > one.starts_at else one.ends_at
        )
        event.add("summary", f"{one.holder}: {', '.join(one.nodes) or one.wish}")
        event.add("description", f"{one.purpose}\nreservation {one.id}, {one.state}")
        event.add(
            "status",
            "TENTATIVE"
            if one.state in {BookingState.ASKED, BookingState.WAITING} and not one.firm
            else "CONFIRMED",
        )
        calendar.add_component(event)
    written: bytes = calendar.to_ical()
    return written
