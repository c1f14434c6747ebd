"""The calendar and the lives of reservations on the command line."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from perfci.cli.access import settings_for
from perfci.cli.choices import ChoiceUnclear
from perfci.cli.durations import parse_duration, shown_duration
from perfci.cli.output import Json, errors_reported, on_terminal, print_json, print_table
from perfci.cli.times import parse_moment
from perfci.lab import people
from perfci.lab.errors import local_time, local_times
from perfci.lab.reservations.documents import booking_document, event_document
from perfci.lab.reservations.model import Actor, NodeWish, Wipe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perfci.config import Settings
    from perfci.lab.reservations.model import Booking, BookingEvent, Slot
    from perfci.lab.reservations.service import Reservations

Count = Annotated[int | None, typer.Option("--nodes", min=1, help="How many nodes. Default: 1.")]
Names = Annotated[
    list[str] | None, typer.Option("--node", metavar="NAME", help="This node; may be repeated.")
]
Where = Annotated[
    str, typer.Option("--where", metavar="EXPR", help="Only nodes like these: 'cores>=32 and rack != \"3\"'.")
]
Length = Annotated[str, typer.Option("--for", metavar="TIME", help="How long: 90m, 4h, 2d, 1h30.")]
From = Annotated[
    str | None,
    typer.Option("--from", metavar="WHEN", help="Not before: 'tomorrow 09:00', 'fri 14:00', +2h, ISO 8601."),
]
System = Annotated[
    str, typer.Option("--os", metavar="NAME", help="The machines' operating system: debian12.")
]
Cloud = Annotated[
    str,
    typer.Option(
        "--cloud",
        metavar="NAME",
        help="Deploy this cloud on them first: the cloud of a job, or embedded, multinode or devstack.",
    ),
]
WipeDisks = Annotated[
    Wipe,
    typer.Option(
        "--wipe-disks",
        help="What to wipe on the machines' disks when perfci takes them back: both ends, or everything.",
    ),
]
Keys = Annotated[
    list[str] | None,
    typer.Option(
        "--key",
        metavar="FILE",
        help="SSH public keys that open the machines; may be repeated. Default: ~/.ssh/id_*.pub.",
    ),
]
ID = Annotated[str, typer.Argument(metavar="ID", help="Reservation, as `lab nodes` shows it.")]
COLUMNS = ("reservation", "state", "holder", "nodes", "from", "until", "for", "left", "reason")
BRIEF = ("reservation", "state", "holder", "nodes", "from", "until", "reason", "for", "left")
"""On a terminal: the times say how long, so the last two give way to what others have to read."""
NEEDED = 7


def reservations() -> Reservations:
    """Open the calendar of the lab; raises what settings, inventory and database raise."""
    from perfci.lab.reservations.service import open_reservations

    settings = settings_for()

    def check_cloud(name: str, nodes: int) -> None:
        from perfci.runs.tick.clouds import cloud_check  # most commands ask for no cloud

        cloud_check(settings)(name, nodes)

    return open_reservations(settings, check_cloud=check_cloud)


def actor(service: Reservations, settings: Settings) -> Actor:
    """Return who runs this command: an admin where the settings say so.

    Root and the owner of the state folder always are: they can change the database anyway.
    """
    name, user = people.me(), os.getuid()
    folder = settings.state_dir
    owner = folder.stat().st_uid if folder.exists() else user
    return Actor(name, admin=service.actor(name).admin or user in {0, owner})


def wish_of(count: int | None, names: list[str] | None, where: str, command: str) -> NodeWish:
    """Return the wish that the options make. Raises ChoiceUnclear."""
    if names and (count or where):
        raise ChoiceUnclear(choices="--nodes with --where, or --node; not both", command=command)
    return NodeWish(len(names) if names else count or 1, frozenset(names or ()), where)


def booking_row(one: Booking, now: datetime) -> tuple[str, ...]:
    """Return one reservation as a row of a table with COLUMNS."""
    left = shown_duration(max(timedelta(), one.ends_at - now)) if one.starts_at <= now else ""
    return (
        one.id,
        str(one.state),
        one.holder,
        ", ".join(one.nodes),
        local_time(one.starts_at),
        local_time(one.ends_at),
        shown_duration(one.ends_at - one.starts_at),
        "" if one.released_at else left,
        one.purpose,
    )


def print_bookings(bookings: Iterable[Booking], now: datetime, *, empty: str) -> None:
    """Print reservations as a table; on a narrow terminal without their lengths."""
    rows = [booking_row(one, now) for one in bookings]
    if not on_terminal():
        print_table(COLUMNS, rows, empty=empty)
        return
    places = [COLUMNS.index(name) for name in BRIEF]
    print_table(BRIEF, [tuple(row[place] for place in places) for row in rows], empty=empty, needed=NEEDED)


def calendar(  # noqa: PLR0917 - typer takes them by name
    days: Annotated[int, typer.Option(min=1, max=366, help="How many days from now.")] = 14,
    html: Annotated[
        str | None, typer.Option("--html", metavar="FILE", help="Write an HTML page to this file.")
    ] = None,
    ics: Annotated[
        str | None, typer.Option("--ics", metavar="FILE", help="Write an iCalendar file; - is stdout.")
    ] = None,
    node: Annotated[str | None, typer.Option(metavar="NAME", help="Only this node.")] = None,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Only this person.")] = None,
    as_json: Json = False,
) -> None:
    """Show who has or will have which nodes.

    It covers at most a year. Calendar programs can subscribe to the file that `--ics` writes.
    """
    with errors_reported(as_json=as_json):
        service, now = reservations(), datetime.now(UTC)
        if node is not None:
            service.node(node)
        shown = service.calendar(now, now + timedelta(days=days), nodes=None if node is None else [node])
        bookings = [one for one in shown.bookings if user is None or one.holder == user]
        if ics is not None:
            from perfci.lab.reservations.ics import calendar_file

            written = calendar_file(f"{service.lab} lab", bookings, now)
            _write(ics, written)
        if html is not None:
            from perfci.lab.reservations.page import calendar_page

            page = calendar_page(service.lab, service.nodes(), bookings, shown.starts_at, shown.ends_at)
            _write(html, page.encode())
        if as_json:
            print_json(
                {
                    "lab": service.lab,
                    "from": now,
                    "until": shown.ends_at,
                    "reservations": [booking_document(one) for one in bookings],
                }
            )
        elif html is None and ics is None:
            print_bookings(bookings, now, empty="nothing is reserved in that time")


def _write(file: str, content: bytes) -> None:
    from pathlib import Path

    from perfci.files import write_whole

    if file == "-":
        sys.stdout.write(content.decode())
    else:
        write_whole(Path(file), content.decode())
        sys.stderr.write(f"written: {file}\n")


def find(  # noqa: PLR0917 - typer takes them by name
    length: Length,
    count: Count = None,
    names: Names = None,
    where: Where = "",
    start: From = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many start times to show.")] = 5,
    as_json: Json = False,
) -> None:
    """Show the earliest times at which nodes are free together.

    Exit code 5: the request needs nodes that are in quarantine.
    """
    with errors_reported(as_json=as_json):
        wish = wish_of(count, names, where, "find")
        now = datetime.now(UTC)
        earliest = parse_moment(start, now) if start else None
        seconds = parse_duration(length).total_seconds()
        found = reservations().find(wish, seconds, earliest=earliest, limit=limit)
        if as_json:
            print_json({"slots": [slot.as_dict() for slot in found]})
        else:
            print_table(("from", "until", "nodes"), map(_slot_row, found), empty="no such time")


def _slot_row(slot: Slot) -> tuple[str, ...]:
    return (local_time(slot.starts_at), local_time(slot.ends_at), ", ".join(slot.nodes))


def show(reservation: ID, as_json: Json = False) -> None:
    """Show one reservation: its nodes, its times and its history."""
    with errors_reported(as_json=as_json):
        service = reservations()
        found = service.show(reservation)
        events = service.history(reservation_id=reservation)
        if as_json:
            print_json({**booking_document(found), "events": [event_document(one) for one in events]})
            return
        print_table(COLUMNS, [booking_row(found, datetime.now(UTC))], empty="")
        sys.stdout.write("\n")
        _print_events(events, of_one=on_terminal())


def mine(
    everything: Annotated[bool, typer.Option("--all", help="Include those that are over.")] = False,
    as_json: Json = False,
) -> None:
    """Show your reservations."""
    with errors_reported(as_json=as_json):
        found = reservations().of(people.me(), over=everything)
        if as_json:
            print_json({"reservations": [booking_document(one) for one in found]})
        else:
            print_bookings(found, datetime.now(UTC), empty="you have no reservations")


def why(reservation: ID, as_json: Json = False) -> None:
    """Say why a reservation waits: who is ahead of it, when it begins, and how it could begin sooner."""
    with errors_reported(as_json=as_json):
        told = reservations().why(reservation)
        one = told.booking
        if as_json:
            print_json(
                {
                    "reservation": booking_document(one),
                    "before": [booking_document(other) for other in told.before],
                    "sooner": [{"ask_for": words, **slot.as_dict()} for words, slot in told.sooner],
                }
            )
            return
        nodes = ", ".join(one.nodes) or "no nodes: those that it needs are in quarantine"
        sys.stdout.write(f"{one.id} is {one.state}: from {local_time(one.starts_at)} on {nodes}\n")
        if told.before:
            sys.stdout.write("\nBefore it, on nodes that would do:\n")
            print_bookings(told.before, datetime.now(UTC), empty="")
        for words, slot in told.sooner:
            sys.stdout.write(
                f"sooner with {words}: {local_time(slot.starts_at)} on {', '.join(slot.nodes)}\n"
            )


def history(
    reservation: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Id of a reservation. Default: all of them.")
    ] = None,
    node: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only what was done with this node.")
    ] = None,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Only what this person did.")] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=10000, help="Show only this many events, the newest.")
    ] = 100,
    as_json: Json = False,
) -> None:
    """Show who did what to reservations, or what was done with a node; oldest first."""
    with errors_reported(as_json=as_json):
        service = reservations()
        if node is not None and (reservation is not None or user is not None):
            raise ChoiceUnclear(choices="--node, or an ID and --user; not both", command="history")
        if node is not None:
            events = service.node_history(node, limit=limit)
        else:
            events = service.history(reservation_id=reservation, holder=user, limit=limit)
        if as_json:
            print_json({"events": [event_document(one) for one in events]})
        else:
            _print_events(events)


def _print_events(events: tuple[BookingEvent, ...], *, of_one: bool = False) -> None:
    """Print events; what is `of_one` reservation does not name it again."""
    rows = [
        (
            local_time(one.at),
            "" if of_one else one.subject,
            one.actor,
            one.action if one.ok or one.action == "quarantine" else f"{one.action}: failed",
            local_times(one.detail),
        )
        for one in events
    ]
    print_table(("when", "of", "who", "what", "detail"), rows, empty="nothing was done yet")
