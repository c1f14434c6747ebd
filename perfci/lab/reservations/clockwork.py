"""What time does to reservations, whoever sees it first: they end, they run late, they begin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfci.database import schema
from perfci.lab import owners
from perfci.lab.reservations.ending import Ending
from perfci.lab.reservations.free_time import LATE
from perfci.lab.reservations.model import BookingState
from perfci.lab.reservations.store import moment
from perfci.lab.scheduling import over

if TYPE_CHECKING:
    from datetime import datetime

    from perfci.lab.reservations.model import Booking
    from perfci.lab.reservations.store import ReservationRows
    from perfci.lab.scheduling import EndReason


class Clockwork(Ending):
    """What every tick and many commands do first. Doing it again changes nothing."""

    def sweep(self) -> tuple[tuple[Booking, EndReason], ...]:
        """End what is over, and return it with the reason: its process on this host is gone, or its time.

        Time does not end what a process on this host works on: it keeps its nodes for another hour, but not
        beyond the time at which somebody else gets them. Another host's processes can't be seen: what they
        work on ends a day after its time (`scheduling.may_live`), and only their own host makes that later.
        Doing it again changes nothing.
        """
        with self.order() as (store, now):
            table = schema.reservation.c
            begun = store.bookings(
                table.released_at.is_(None)
                & (table.state != str(BookingState.ASKED))
                & ((table.ends_at <= now) | table.owner_pid.is_not(None))
            )
            here = owners.me().host
            dead, living = owners.of_leases(begun, now)
            found = over(begun, dead=dead, now=now, living=living)
            ended: dict[str, list[Booking]] = {}
            for one, reason in found:
                missed = one.job is not None and one.state is BookingState.WAITING
                ended.setdefault("missed" if missed else f"ended: {reason}", []).append(one)
            for action, some in ended.items():
                self.end_all(store, some, now, "perfci", action)
            for one in begun:
                if one.ends_at <= now and one.owner in living and one.owner.host == here:
                    self._prolong(store, one, now)
            if found:
                self._advance(store, now)
            now_are = store.named([one.id for one, _ in found])
            return tuple((now_are[one.id], reason) for one, reason in found)

    def _prolong(self, store: ReservationRows, one: Booking, now: datetime) -> None:
        """Let a run that is late keep its nodes, as far as nobody else has them."""
        until = now + LATE
        starts = [
            start for other, _, start, _ in store.intervals(one.ends_at, until, one.nodes) if other != one.id
        ]
        until = min(until, moment(min(starts))) if starts else until
        if until > one.ends_at:
            store.change(one.id, ends_at=until)
            store.move_end(one.id, until)
            store.note(one.id, now, "perfci", "extended", f"it runs late: until {until.isoformat()}")

    def begin(self) -> tuple[Booking, ...]:
        """Let reservations begin whose time has come, and return them. Nights are begun by the tick.

        One whose nodes may not be given out, are still worked on by a late run, or are just being taken back,
        waits. Doing it again changes nothing.
        """
        with self.order() as (store, now):
            table = schema.reservation.c
            due = store.bookings(
                (table.state == str(BookingState.WAITING))
                & (table.starts_at <= now)
                & (table.ends_at > now)
                & table.job.is_(None)
            )
            if not due:
                return ()
            usable = self.usable(store) - self.late_nodes(store) - self.taken_back(store, now)
            begun = [one for one in due if one.nodes and usable.issuperset(one.nodes)]
            ids = [one.id for one in begun]
            store.change_all(ids, state=str(BookingState.PREPARING))
            store.note_all(ids, now, "perfci", str(BookingState.PREPARING))
            done = [one.id for one in begun if not self._to_prepare(one)]
            store.change_all(done, state=str(BookingState.READY), ready_at=now)
            store.note_all(done, now, "perfci", str(BookingState.READY))
            now_are = store.named(ids)
            return tuple(now_are[one] for one in ids)
