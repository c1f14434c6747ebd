"""The calendar as one page without a script: nodes by days, to be read at a glance or printed."""

from __future__ import annotations

from datetime import timedelta
from importlib import resources
from typing import TYPE_CHECKING

from jinja2 import Environment

from perfci.lab.errors import local_time

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from perfci.lab.reservations.model import Booking, NodeStatus


def calendar_page(
    lab: str, nodes: Sequence[NodeStatus], bookings: Sequence[Booking], start: datetime, end: datetime
) -> str:
    """Return the page. Whatever people wrote is shown as text."""
    whole = (end - start).total_seconds()

    def share(moment: datetime) -> float:
        return round(100 * min(1.0, max(0.0, (moment - start).total_seconds() / whole)), 3)

    def entry(one: Booking) -> dict[str, object]:
        kind = "night" if one.job or one.priority else "person"
        if one.state in {"asked", "waiting"} and not one.firm and not one.job:
            kind = "waiting"
        title = (
            f"{', '.join(one.nodes)}: {one.holder}, {local_time(one.starts_at)} "
            f"to {local_time(one.ends_at)}, {one.state}: {one.purpose} ({one.id})"
        )
        return {"id": one.id, "holder": one.holder, "kind": kind, "title": title}

    rows = [
        {
            "name": node.name,
            "state": str(node.state),
            "note": node.quarantine.reason if node.quarantine else node.retired_reason,
            "bookings": [
                {
                    **entry(one),
                    "left": share(place.starts_at),
                    "width": round(share(place.ends_at) - share(place.starts_at), 3),
                }
                for one in bookings
                for place in one.places
                if place.node == node.name and place.ends_at > start and place.starts_at < end
            ],
        }
        for node in nodes
    ]
    midnight = start.astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    days = []
    for ahead in range(1, (end - start).days + 2):
        day = midnight + timedelta(days=ahead)
        if day < end:
            days.append({"left": share(day), "text": day.strftime("%a %d")})
    source = resources.files("perfci.lab.reservations").joinpath("calendar.html").read_text(encoding="utf-8")
    template = Environment(autoescape=True).from_string(source)
    return template.render(
        lab=lab,
        start=local_time(start),
        end=local_time(end),
        days=days,
        nodes=rows,
        listed=[entry(one) for one in bookings],
    )
