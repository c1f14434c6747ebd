"""What people and programs do with the lab's calendar: the one way in, for command line, web page and tick.

Every method is one transaction: it happens wholly or not at all, however many processes call it and wherever
they are killed. Decisions are made by the pure modules beside this one; the database refuses overlaps itself.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from perfci.database.engine import open_database
from perfci.lab.node_cache import nodes_of
from perfci.lab.reservations.asking import Asking
from perfci.lab.reservations.changing import Changing
from perfci.lab.reservations.checks import Policy, no_clouds
from perfci.lab.reservations.clockwork import Clockwork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from perfci.config import Settings
    from perfci.database.engine import Database
    from perfci.lab.model import Node


class Reservations(Asking, Changing, Clockwork):
    """The calendar of one lab. Threads and processes may use it at the same time.

    Times are aware datetimes; those returned are in UTC. Every method raises DatabaseUnavailable where the
    database does not answer. What only reads is in `views.Views`: `nodes`, `node`, `calendar`, `find`,
    `show`, `of`, `why`, `history`, `node_history`. Orders take an Actor, and refuse one who may not:
    NotYours or AdminsOnly (exit code 4). Text that is no single printable line is a ReservationInvalid.
    """

    def __init__(
        self,
        database: Database,
        lab: str,
        nodes: Iterable[Node],
        *,
        policy: Policy | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(database, lab, nodes, policy=policy or Policy(), clock=clock)


def open_reservations(
    settings: Settings, *, check_cloud: Callable[[str, int], None] = no_clouds
) -> Reservations:
    """Open the calendar of the lab that the settings name; `check_cloud` is that of its Policy.

    Raises DatabaseUnavailable, DatabaseTooNew, InventoryInvalid, SecretUnreadable.
    """
    rules = settings.reservations
    policy = Policy(
        admins=frozenset(rules.admins),
        longest_hours=rules.longest_hours,
        horizon_days=rules.horizon_days,
        nodes_per_person=rules.nodes_per_person,
        open_per_person=rules.open_per_person,
        patience_hours=rules.patience_hours,
        book_over_nights=rules.book_over_nights,
        mail_domain=rules.mail_domain,
        check_cloud=check_cloud,
    )
    return Reservations(open_database(settings), settings.lab, nodes_of(settings), policy=policy)
