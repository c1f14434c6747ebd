"""The queue in the database: who waits, who may be moved for whom, and who moves up."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from perfci.database.schema import reservation
from perfci.lab.reservations.calendar import (
    NO_QUOTA,
    Item,
    Quota,
    Span,
    advance,
    busy_of,
    displaced,
    place,
)
from perfci.lab.reservations.model import BookingState, Place, Priority
from perfci.lab.reservations.store import moment, ticks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from datetime import datetime

    from perfci.lab.reservations.calendar import Share
    from perfci.lab.reservations.checks import Policy
    from perfci.lab.reservations.model import Booking, NodeWish
    from perfci.lab.reservations.store import ReservationRows

_QUEUED = (str(BookingState.WAITING), str(BookingState.ASKED))


class Queue:
    """The reservations of a lab that wait and may still move. Lives inside one transaction.

    `fits` returns the nodes that a wish allows and that may be given out now, `late` says until when some are
    not free though nobody has a right to them: (node, start, end).
    """

    def __init__(
        self,
        store: ReservationRows,
        fits: Callable[[NodeWish], frozenset[str]],
        now: datetime,
        policy: Policy,
        *,
        late: Sequence[tuple[str, int, int]] = (),
    ) -> None:
        self._store = store
        self._fits = fits
        self._now = now
        self._policy = policy
        self._late = late
        self._patience = timedelta(hours=policy.patience_hours)
        self._waiting: dict[str, Booking] = {}
        self._read_until: datetime | None = now
        self._to_place: list[Booking] = []

    def _read(self, until: datetime | None = None) -> dict[str, Booking]:
        """Return those that wait and begin before `until`; None: all of them. What was read is kept."""
        read = self._read_until
        if read is not None and (until is None or until > read):
            self._read_until = until
            table = reservation.c
            queued = table.state.in_(_QUEUED) & table.firm.is_(False)
            waiting = self._store.bookings(queued if until is None else queued & (table.starts_at < until))
            # One whose time has come is about to be prepared, and stays.
            self._waiting = {
                one.id: one for one in waiting if one.state is BookingState.ASKED or one.starts_at > self._now
            }
        return self._waiting

    def rank(self, priority: Priority, asked_at: datetime) -> tuple[int, ...]:
        """Return what sorts the queue: priority, then who came first. Who waited long is before all."""
        patient = self._now - asked_at >= self._patience
        return (-1 if patient else int(priority), ticks(asked_at))

    def after(
        self, priority: Priority, asked_at: datetime, *, until: datetime | None = None
    ) -> frozenset[str]:
        """Return the ids of those that rank after a request and make room for it before `until`.

        A planned night does only where the lab allows that people book over nights.
        """
        mine, over_nights = self.rank(priority, asked_at), self._policy.book_over_nights
        return frozenset(
            one.id
            for one in self._read(until).values()
            if self.rank(one.priority, one.asked_at) > mine and (one.job is None or over_nights)
        )

    def make_room(self, span: Span, movable: Iterable[str]) -> None:
        """Take the nodes of a span from those of `movable` that have them then; `settle` plans them again.

        `movable` are some that `after` has returned.
        """
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
        busy = busy_of([*(one[1:] for one in self._store.intervals(self._now)), *self._late])
        quota = self._quota(self._to_place, but={one.id for one in self._to_place})
        planned = place([self._item(one) for one in self._to_place], busy, quota)
        for one in self._to_place:
            self._write(one, planned[one.id])
        self._to_place = []

    def replan(self, one: Booking) -> None:
        """Plan one again that has lost its nodes; its places were dropped."""
        self._to_place = [one]
        self.settle()

    def move_up(self) -> None:
        """Bring those that wait forward into time that came free; none gets later."""
        queued = self._read()
        if not queued:
            return
        planned = [one for one in queued.values() if one.nodes]
        stranded = [one for one in queued.values() if not one.nodes]
        latest = max((one.ends_at for one in planned), default=self._now)
        if planned:
            taken = self._store.intervals(self._now, latest)
            fixed = busy_of([*(one[1:] for one in taken if one[0] not in queued), *self._late])
            quota = self._quota(planned, but=queued.keys())
            moved = advance([(self._item(one), _span(one)) for one in planned], fixed, quota)
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
        return Item(one.id, rank, self._fits(one.wish), one.wish.size, earliest, length, one.holder)

    def _quota(self, some: Iterable[Booking], *, but: Collection[str]) -> Quota:
        """Return the limits of those who wait, with what they have beside the reservations `but`.

        Nights have no limits, nor have the admins that the settings name.
        """
        most = self._policy.nodes_per_person
        holders = {one.holder for one in some if one.priority is Priority.PEOPLE} - self._policy.admins
        if most is None or not holders:
            return NO_QUOTA
        held: dict[str, list[Share]] = {}
        table = reservation.c
        for one in self._store.bookings(table.holder.in_(sorted(holders)) & (table.ends_at > self._now)):
            if one.id not in but and one.released_at is None and one.priority is Priority.PEOPLE:
                share = (ticks(one.starts_at), ticks(one.ends_at), len(one.nodes))
                held.setdefault(one.holder, []).append(share)
        return Quota(dict.fromkeys(holders, most), held)

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
