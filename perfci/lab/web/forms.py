"""The form with which people reserve, and what it asks for. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from perfci.lab.errors import ReservationInvalid
from perfci.lab.reservations.keys import LONGEST_KEY, MOST_KEYS
from perfci.lab.reservations.model import NodeWish, Request, Wipe
from perfci.lab.web.zones import typed_time, zone_called

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perfci.lab.reservations.model import Slot
    from perfci.lab.web.zones import Times

UNITS = {"minutes": 60, "hours": 3600, "days": 86400}
_LONGEST = 2000


@dataclass(frozen=True, slots=True)
class ReserveForm:
    """The values of the fields, as the user typed them. `zone` is the one that `start` is in."""

    by: str = "count"
    nodes: str = ""
    count: str = "1"
    where: str = ""
    when: str = "soon"
    start: str = ""
    length: str = "4"
    unit: str = "hours"
    reason: str = ""
    os: str = ""
    cloud: str = ""
    contact: str = ""
    keys: str = ""
    wipe: str = ""
    zone: str = "UTC"

    def request(self, times: Times) -> Request:
        """Return what is asked for. Raises ReservationInvalid where a field is not of the form needed."""
        start = None
        if self.when == "at":
            start = typed_time(self.start, zone_called(self.zone) or times.zone)
            # Who chose the minute that it is means now.
            if times.now - timedelta(minutes=1) < start < times.now:
                start = times.now
        return Request(
            wish=self.wish(),
            length_seconds=seconds_of(self.length, self.unit),
            purpose=self.reason,
            starts_at=start,
            wait_seconds=None,
            os=self.os,
            cloud=self.cloud,
            contact=self.contact,
            keys=tuple(self.keys.splitlines()),
            wipe=_wipe_of(self.wipe),
        )

    def wish(self) -> NodeWish:
        """Return which nodes are wanted. Raises ReservationInvalid."""
        if self.by == "names":
            names = frozenset(self.nodes.replace(",", " ").split())
            if not names:
                raise ReservationInvalid(reason="name the nodes, or ask for a number of them")
            return NodeWish(len(names), names)
        if not (self.count.isascii() and self.count.isdecimal() and len(self.count) < 6):  # noqa: PLR2004
            raise ReservationInvalid(
                reason=f"the number of nodes must be a whole number, got {self.count[:20]!r}"
            )
        return NodeWish(int(self.count), where=self.where)

    def query(self) -> str:
        """Return the fields as the part of a URL behind its path."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return urlencode({name: text for name, text in fields.items() if text})


def read_form(values: Mapping[str, Sequence[str]], times: Times) -> ReserveForm:
    """Return the fields of a URL or of a form that was sent. Several `node` stand for `nodes`."""

    def one(name: str, otherwise: str, longest: int = _LONGEST) -> str:
        found = values.get(name)
        return found[0].strip()[:longest] if found else otherwise

    named = ", ".join(values.get("node", ())) or one("nodes", "")
    start = one("start", "")
    return ReserveForm(
        by=one("by", "names" if named else "count"),
        nodes=named[:_LONGEST],
        count=one("count", "1"),
        where=one("where", ""),
        when=one("when", "at" if start else "soon"),
        start=start,
        length=one("length", "4"),
        unit=one("unit", "hours"),
        reason=one("reason", ""),
        os=one("os", ""),
        cloud=one("cloud", ""),
        contact=one("contact", ""),
        keys=one("keys", "", MOST_KEYS * LONGEST_KEY),
        wipe=one("wipe", ""),
        zone=one("zone", times.name),
    )


def _wipe_of(text: str) -> Wipe:
    try:
        return Wipe(text or Wipe.NONE)
    except ValueError as error:
        reason = f"what is wiped: expected {', '.join(Wipe)}, got {text[:20]!r}"
        raise ReservationInvalid(reason=reason) from error


def seconds_of(length: str, unit: str) -> float:
    """Return a length that was typed as a number and a unit. Raises ReservationInvalid."""
    try:
        found = float(length.replace(",", ".")) * UNITS[unit]
    except (ValueError, KeyError) as error:
        raise ReservationInvalid(
            reason=f"how long: expected a number of minutes, hours or days, got {length[:20]!r}"
        ) from error
    return found


def instead(form: ReserveForm, slot: Slot, times: Times) -> ReserveForm:
    """Return the same wish for the time of a slot, in the zone of the page."""
    return ReserveForm(
        **{
            **{name: getattr(form, name) for name in form.__slots__},
            "when": "at",
            "start": times.field(slot.starts_at),
            "zone": times.name,
        }
    )


def length_fields(start: datetime, end: datetime) -> tuple[str, str]:
    """Return the number and the unit that say a length best."""
    seconds = (end - start).total_seconds()
    for unit in ("days", "hours"):
        if seconds >= UNITS[unit] and seconds % UNITS[unit] == 0:
            return f"{seconds / UNITS[unit]:g}", unit
    return f"{seconds / 60:g}", "minutes"
