"""The queue in the database: who waits, who may be moved for whom, and who moves up."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from perfci.database.schema import reservation
from perfci.lab.reservations.calendar import Item, Span, advance, busy_of, displaced, place
from perfci.lab.reservations.model import BookingState, Place
from perfci.lab.reservations.store import moment, ticks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from perfci.lab.reservations.checks import Policy
    from perfci.lab.reservations.model import Booking, NodeWish, Priority
    from perfci.lab.reservations.store import ReservationRows

_QUEUED = (str(BookingState.WAITING), str(BookingState.ASKED))


class Queue:
    """The reservations of a lab that wait and may still move. Lives inside one transaction.

    `fits` returns the nodes that a wish allows and that may be given out now.
    """

    def __init__(
        self,
        store: ReservationRows,
        fits: Callable[[NodeWish], frozenset[str]],
        now: datetime,
        policy: Policy,
    ) -> None:
        self._store = store
        self._fits = fits
        self._now = now
        self._patience = timedelta(hours=policy.patience_hours)
        waiting = store.bookings(reservation.c.state.in_(_QUEUED) & reservation.c.firm.is_(False))
        # One whose time has come is about to be prepared, and stays.
        self._waiting = {
            one.id: one for one in waiting if one.state is BookingState.ASKED or one.starts_at > now
        }
        self._over_nights = policy.book_over_nights
        self._to_place: list[Booking] = []

    def rank(self, priority: Priority, asked_at: datetime) -> tuple[int, ...]:
        """Return what sorts the queue: priority, then who came first. Who waited long is before all."""
        patient = self._now - asked_at >= self._patience
        return (-1 if patient else int(priority), ticks(asked_at))

    def after(self, priority: Priority, asked_at: datetime) -> frozenset[str]:
        """Return the ids of those that rank after a request, and make room for it.

        A planned night does only where the lab allows that people book over nights.
        """
        mine = self.rank(priority, asked_at)
        return frozenset(
            one.id
            for one in self._waiting.values()
            if self.rank(one.priority, one.asked_at) > mine and (one.job is None or self._over_nights)
        )

    def make_room(self, span: Span, movable: Iterable[str]) -> None:
        """Take the nodes of a span from those of `movable` that have them then; `settle` plans them again."""
        candidates = [self._waiting[one] for one in movable]
        hit = displaced(
            Item("", (), frozenset(), 0, 0, 0),
            span,
            [(self._item(one), _span(one)) for one in candidates if one.nodes],
        )
        self._to_place += [self._waiting[item.id] for item, _ in hit]
        self._store.drop_places([item.id for item, _ in hit])

    def settle(self) -> None:
        """Plan those whose nodes were taken, each as early as possible, by rank."""
        if not self._to_place:
            return
        busy = busy_of(one[1:] for one in self._store.intervals(self._now))
        planned = place([self._item(one) for one in self._to_place], busy)
        for one in self._to_place:
            self._write(one, planned[one.id])
        self._to_place = []

    def replan(self, one: Booking) -> None:
        """Plan one again that has lost its nodes; its places were dropped."""
        self._to_place = [one]
        self.settle()

    def move_up(self) -> None:
        """Bring those that wait forward into time that came free; none gets later."""
        if not self._waiting:
            return
        planned = [one for one in self._waiting.values() if one.nodes]
        stranded = [one for one in self._waiting.values() if not one.nodes]
        latest = max((one.ends_at for one in planned), default=self._now)
        if planned:
            fixed = busy_of(
                (node, start, end)
                for owner, node, start, end in self._store.intervals(self._now, latest)
                if owner not in self._waiting
            )
            moved = advance([(self._item(one), _span(one)) for one in planned], fixed)
            # All leave their old places before the first takes a new one.
            self._store.drop_places(list(moved))
            for one in planned:
                if one.id in moved:
                    self._write(one, moved[one.id])
        self._to_place = stranded
        self.settle()

    def _item(self, one: Booking) -> Item:
        rank = self.rank(one.priority, one.asked_at)
        earliest = max(ticks(self._now), ticks(one.earliest_at))
        length = ticks(one.ends_at) - ticks(one.starts_at)
        return Item(one.id, rank, self._fits(one.wish), one.wish.size, earliest, length)

    def _write(self, one: Booking, span: Span | None) -> None:
        if span is None:
            if one.state is not BookingState.ASKED:
                self._store.change(one.id, state=str(BookingState.ASKED), firm=False)
                self._store.note(one.id, self._now, "perfci", "asked", "no time can be planned for it now")
            return
        starts_at, ends_at = moment(span.start), moment(span.end)
        self._store.change(
            one.id, state=str(BookingState.WAITING), starts_at=starts_at, ends_at=ends_at, firm=False
        )
        self._store.add_places(one.id, [Place(node, starts_at, ends_at) for node in span.nodes])
        detail = f"to {starts_at.isoformat()} on {', '.join(span.nodes)}"
        action = "planned" if starts_at == one.starts_at else "moved"
        self._store.note(one.id, self._now, "perfci", action, detail)


def _span(one: Booking) -> Span:
    return Span(ticks(one.starts_at), ticks(one.ends_at), one.nodes)
