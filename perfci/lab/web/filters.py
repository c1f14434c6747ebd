"""What the calendar shows, as its URL says it: pure, and forgiving, as people edit URLs."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from perfci.lab.errors import NodesUnmatched
from perfci.lab.labels import matching
from perfci.lab.model import Node
from perfci.lab.reservations.model import NodeState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from perfci.lab.reservations.model import NodeStatus

SPANS = {1: "day", 3: "3 days", 7: "week", 14: "2 weeks", 28: "4 weeks"}
DEFAULT_DAYS = 14
ROWS = 50
_LONGEST = 200
_FURTHEST = timedelta(days=3660)


@dataclass(frozen=True, slots=True)
class Filters:
    """Which days and which nodes are seen. `first` None is today; an empty text filters nothing."""

    first: date | None = None
    days: int = DEFAULT_DAYS
    text: str = ""
    where: str = ""
    state: NodeState | None = None
    holder: str = ""
    page: int = 1

    def query(self, **changes: object) -> str:
        """Return these filters, some of them changed, as the part of a URL behind its path."""
        now = replace(self, **changes)  # type: ignore[arg-type]
        values = {
            "from": now.first.isoformat() if now.first else "",
            "days": str(now.days) if now.days != DEFAULT_DAYS else "",
            "node": now.text,
            "where": now.where,
            "state": str(now.state or ""),
            "holder": now.holder,
            "page": str(now.page) if now.page > 1 else "",
        }
        return urlencode({name: value for name, value in values.items() if value})

    @property
    def narrow(self) -> bool:
        """Tell whether some nodes are left out."""
        return bool(self.text or self.where or self.state or self.holder)


def read_filters(query: Mapping[str, str], today: date) -> Filters:
    """Return the filters of a URL; what is no sensible value counts as left out."""
    days = _number(query.get("days", ""), DEFAULT_DAYS)
    state = query.get("state", "")
    return Filters(
        first=_day(query.get("from", ""), today),
        days=days if days in SPANS else DEFAULT_DAYS,
        text=_line(query.get("node", "")),
        where=_line(query.get("where", "")),
        state=NodeState(state) if state in {str(one) for one in NodeState} else None,
        holder=_line(query.get("holder", "")),
        page=max(1, _number(query.get("page", ""), 1)),
    )


def in_order(name: str) -> list[tuple[int, str]]:
    """Return what sorts names as people do: node-2 before node-10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]{1,18})", name)]


def chosen(nodes: Iterable[NodeStatus], filters: Filters) -> tuple[tuple[NodeStatus, ...], str]:
    """Return the nodes that the filters let through, in order, and what is wrong with the filters."""
    found, problem = tuple(sorted(nodes, key=lambda one: in_order(one.name))), ""
    if filters.where:
        try:
            names = matching([Node(one.name, labels=one.facts) for one in found], filters.where)
            found = tuple(one for one in found if one.name in names)
        except NodesUnmatched as error:
            found, problem = (), str(error)
        except ValueError as error:
            found, problem = (), f"the filter {filters.where!r}: {error}"
    if filters.text:
        found = tuple(one for one in found if filters.text.lower() in one.name.lower())
    if filters.state:
        found = tuple(one for one in found if one.state is filters.state)
    if filters.holder:
        found = tuple(
            one
            for one in found
            if filters.holder in {two.holder for two in (one.booking, one.next_booking) if two is not None}
        )
    return found, problem


def _line(text: str) -> str:
    text = text.strip()[:_LONGEST]
    return text if text.isprintable() else ""


def _number(text: str, otherwise: int) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 7 else otherwise  # noqa: PLR2004


def _day(text: str, today: date) -> date | None:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        return None
    return found if abs(found - today) <= _FURTHEST and found != today else None
