"""How often the BMCs of a lab lock up: counted by node and day, kept for a while.

A lock-up is an operation for which more than a plain retry of the BMC was, or would have been, needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

import sqlalchemy as sa

from perfci.database.engine import open_database
from perfci.database.schema import operation_day

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import date

    from perfci.config import Settings
    from perfci.database.engine import Database
    from perfci.lab.bmc.orders import Result
    from perfci.lab.ledger import Ledger

KEPT_DAYS = 90
"""Older days are dropped: a BMC is judged by what it does now."""


@dataclass(frozen=True, slots=True)
class OperationTally:
    """Operations of one BMC, and in how many of them it locked up."""

    operations: int = 0
    lock_ups: int = 0

    @property
    def per_100(self) -> float | None:
        """Lock-ups in 100 operations; None where there were none."""
        return 100 * self.lock_ups / self.operations if self.operations else None

    def __add__(self, other: OperationTally) -> OperationTally:
        """Return both together."""
        return OperationTally(self.operations + other.operations, self.lock_ups + other.lock_ups)


class Health(Protocol):
    """The tallies of one lab's BMCs, by the names of their nodes."""

    def count(self, tallies: Mapping[str, OperationTally]) -> None:
        """Add to today's."""

    def tallies(self) -> dict[str, OperationTally]:
        """Return those of the last KEPT_DAYS days together."""


class MemoryHealth:
    """Tallies that live as long as their object."""

    def __init__(self) -> None:
        self._tallies: dict[str, OperationTally] = {}

    def count(self, tallies: Mapping[str, OperationTally]) -> None:
        """Add to what was counted."""
        for node, tally in tallies.items():
            self._tallies[node] = self._tallies.get(node, OperationTally()) + tally

    def tallies(self) -> dict[str, OperationTally]:
        """Return all."""
        return dict(self._tallies)


class SqlHealth:
    """Tallies in the lab's database. Every method raises DatabaseUnavailable."""

    def __init__(
        self, database: Database, lab: str, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._database = database
        self._lab = lab
        self._clock = clock

    def count(self, tallies: Mapping[str, OperationTally]) -> None:
        """Add to today's (in UTC), and drop what is older than KEPT_DAYS."""
        with self._database.transaction() as connection:
            here = operation_day.c.lab == self._lab
            connection.execute(operation_day.delete().where(here, operation_day.c.day < self._first_day))
            today = self._clock().astimezone(UTC).date()
            counted = connection.scalars(
                sa.select(operation_day.c.node).where(here, operation_day.c.day == today)
            )
            known = set(counted)
            if new := [
                {"lab": self._lab, "node": node, "day": today, "operations": 0, "lock_ups": 0}
                for node in tallies.keys() - known
            ]:
                connection.execute(operation_day.insert(), new)
            if tallies:
                connection.execute(
                    operation_day.update()
                    .where(here, operation_day.c.day == today, operation_day.c.node == sa.bindparam("which"))
                    .values(
                        operations=operation_day.c.operations + sa.bindparam("more_operations"),
                        lock_ups=operation_day.c.lock_ups + sa.bindparam("more_lock_ups"),
                    ),
                    [
                        {
                            "which": node,
                            "more_operations": tally.operations,
                            "more_lock_ups": tally.lock_ups,
                        }
                        for node, tally in tallies.items()
                    ],
                )

    def tallies(self) -> dict[str, OperationTally]:
        """Return those of the last KEPT_DAYS days together."""
        wanted = (
            sa.select(
                operation_day.c.node,
                sa.func.sum(operation_day.c.operations),
                sa.func.sum(operation_day.c.lock_ups),
            )
            .where(operation_day.c.lab == self._lab, operation_day.c.day >= self._first_day)
            .group_by(operation_day.c.node)
        )
        with self._database.reading() as connection:
            return {
                node: OperationTally(int(operations), int(lock_ups))
                for node, operations, lock_ups in connection.execute(wanted)
            }

    @property
    def _first_day(self) -> date:
        return self._clock().astimezone(UTC).date() - timedelta(days=KEPT_DAYS - 1)


def write_down(results: Sequence[Result], health: Health, ledger: Callable[[], Ledger]) -> None:
    """Count what was done, and put into quarantine what no rung of the ladder has helped.

    `ledger` is asked for only where there is such a node. Raises what the two raise.
    """
    health.count({result.node: OperationTally(1, int(result.locked_up)) for result in results})
    for result in results:
        if result.quarantined:
            reason = "".join(letter if letter.isprintable() else " " for letter in str(result.error))
            ledger().quarantine(result.node, reason)


def open_health(settings: Settings) -> SqlHealth:
    """Open the tallies of the lab that the settings name.

    Raises DatabaseUnavailable, DatabaseTooNew, SecretUnreadable.
    """
    return SqlHealth(open_database(settings), settings.lab)
