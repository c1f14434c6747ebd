"""The calendar as a picture: for each node, what stands where between two times. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from perfci.lab.reservations.model import BookingState, NodeState, Priority

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from perfci.lab.reservations.model import Booking, NodeStatus
    from perfci.lab.web.zones import Times

_LEAST = timedelta(minutes=1)
"""Shorter gaps can't be reserved, and are not shown."""
_SATURDAY = 5


class SlotKind(StrEnum):
    """What a slot of the picture is; it decides the colour."""

    FREE = "free"
    MINE = "mine"
    HELD = "held"
    NIGHT = "night"
    QUEUED = "queued"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Window:
    """What is seen: whole days, from `starts_at` to `ends_at` (aware, UTC)."""

    starts_at: datetime
    ends_at: datetime

    def share(self, when: datetime) -> float:
        """Return where a time lies, in percent of the width; what lies outside is at the edge."""
        whole = (self.ends_at - self.starts_at) / _LEAST
        return round(100 * min(1.0, max(0.0, (when - self.starts_at) / _LEAST / whole)), 4)


@dataclass(frozen=True, slots=True)
class TimelineSlot:
    """One piece of a node's row. `left` and `width` are percent; a free one may end with the window."""

    kind: SlotKind
    starts_at: datetime
    ends_at: datetime
    left: float
    width: float
    booking: Booking | None = None
    open_end: bool = False
    """Nothing is booked up to the end of the window."""
    past: bool = False


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """One node with its slots, by their time."""

    node: NodeStatus
    slots: tuple[TimelineSlot, ...]


@dataclass(frozen=True, slots=True)
class Day:
    """One day of the head line."""

    date: date
    left: float
    width: float
    weekend: bool
    today: bool


def window_of(times: Times, first: date, days: int) -> Window:
    """Return the window of so many days; a day on which clocks change is as long as it is."""
    return Window(times.midnight(first), times.midnight(first + timedelta(days=days)))


def days_of(window: Window, times: Times) -> tuple[Day, ...]:
    """Return the days of a window."""
    found, day = [], times.here(window.starts_at).date()
    while (begin := times.midnight(day)) < window.ends_at:
        left, right = window.share(begin), window.share(times.midnight(day + timedelta(days=1)))
        found.append(Day(day, left, round(right - left, 4), day.weekday() >= _SATURDAY, day == times.today()))
        day += timedelta(days=1)
    return tuple(found)


def rows_of(
    nodes: Iterable[NodeStatus], bookings: Iterable[Booking], window: Window, now: datetime, me: str | None
) -> tuple[TimelineRow, ...]:
    """Return a row for each node, in the order given. Free time begins now: nobody can have the past."""
    taken: dict[str, list[tuple[datetime, datetime, Booking]]] = {}
    for one in bookings:
        for place in one.places:
            start, end = max(place.starts_at, window.starts_at), min(place.ends_at, window.ends_at)
            if start < end:
                taken.setdefault(place.node, []).append((start, end, one))
    return tuple(
        TimelineRow(
            node, tuple(_slots(node, sorted(taken.get(node.name, ()), key=_by_start), window, now, me))
        )
        for node in nodes
    )


def _by_start(one: tuple[datetime, datetime, Booking]) -> tuple[datetime, str]:
    return one[0], one[2].id


def _slots(
    node: NodeStatus,
    taken: Sequence[tuple[datetime, datetime, Booking]],
    window: Window,
    now: datetime,
    me: str | None,
) -> Iterator[TimelineSlot]:
    usable = node.state in {NodeState.FREE, NodeState.HELD}
    reached = max(window.starts_at, now)
    for start, end, booking in taken:
        if start - reached >= _LEAST:
            yield _slot(window, SlotKind.FREE if usable else SlotKind.BLOCKED, reached, start)
        reached = max(reached, end)
        kind = kind_of(booking, me)
        yield _slot(window, kind, start, end, booking=booking, past=end <= now)
    if window.ends_at - reached >= _LEAST:
        yield _slot(
            window, SlotKind.FREE if usable else SlotKind.BLOCKED, reached, window.ends_at, open_end=True
        )


def _slot(
    window: Window,
    kind: SlotKind,
    start: datetime,
    end: datetime,
    *,
    booking: Booking | None = None,
    open_end: bool = False,
    past: bool = False,
) -> TimelineSlot:
    left, right = window.share(start), window.share(end)
    return TimelineSlot(kind, start, end, left, round(right - left, 4), booking, open_end, past)


def kind_of(booking: Booking, me: str | None) -> SlotKind:
    """Return how a reservation looks to somebody; None is nobody in particular."""
    if me is not None and booking.holder == me:
        return SlotKind.MINE
    if booking.job is not None:
        return SlotKind.NIGHT  # also before it begins: its window is its own
    if booking.state in {BookingState.ASKED, BookingState.WAITING} and not booking.firm:
        return SlotKind.QUEUED
    return SlotKind.HELD if booking.priority is Priority.PEOPLE else SlotKind.NIGHT
