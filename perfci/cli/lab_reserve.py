"""Taking nodes, changing what was taken, and giving it back."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from perfci.cli.access import settings_for
from perfci.cli.choices import ChoiceUnclear
from perfci.cli.durations import parse_duration, shown_duration
from perfci.cli.lab_calendar import (
    ID,
    Cloud,
    Count,
    From,
    Keys,
    Length,
    Names,
    System,
    Where,
    WipeDisks,
    actor,
    reservations,
    wish_of,
)
from perfci.cli.output import Json, errors_reported, print_json
from perfci.cli.ssh_keys import keys_of
from perfci.cli.times import parse_moment
from perfci.lab import people
from perfci.lab.errors import NodesBusy, NoSuchSlot, local_time
from perfci.lab.model import Reservation
from perfci.lab.reservations.documents import booking_document
from perfci.lab.reservations.model import BookingState, Request, Wipe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perfci.lab.reservations.model import Actor, Booking
    from perfci.lab.reservations.service import Reservations

Reason = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="What the nodes are for; others see it.")
]
NO_REASON = "no reason given"


def reserve(  # noqa: PLR0917 - typer takes them by name
    length: Length,
    count: Count = None,
    names: Names = None,
    where: Where = "",
    start: From = None,
    os: System = "",
    cloud: Cloud = "",
    reason: Reason = NO_REASON,
    wait: Annotated[
        str | None,
        typer.Option("--wait", metavar="TIME", help="Wait this long for them to be ready, then give up."),
    ] = None,
    queue: Annotated[
        bool, typer.Option("--queue", help="Take the earliest possible time, and return.")
    ] = False,
    mail: Annotated[
        str,
        typer.Option(
            "--mail",
            metavar="ADDRESS",
            help="Address for mails about it; `none`: no mails. Default: you at the lab's `mail_domain`.",
        ),
    ] = "",
    keys: Keys = None,
    wipe: WipeDisks = Wipe.NONE,
    as_json: Json = False,
) -> None:
    """Reserve nodes now, for later (`--from`), or as soon as they are free (`--queue`, `--wait`).

    You never get nodes other than those you asked for. Machines are ready when they are provisioned and have
    passed a canary; with `--cloud`, when the cloud is deployed and a server has booted in it. `perfci lab
    show ID` shows how far they are. Log in as root with your SSH key: `ssh root@NODE`.

    Exit code 0: the nodes are yours, now or at the time that perfci prints.
    Exit code 3: the nodes are not free then; perfci prints the earliest time that would work.
    Exit code 5: the request needs nodes that are in quarantine.
    """
    with errors_reported(as_json=as_json):
        if start is not None and (queue or wait):
            raise ChoiceUnclear(choices="--from, or --queue, or --wait; not several", command="reserve")
        service, settings = reservations(), settings_for()
        bound = parse_duration(wait).total_seconds() if wait else 0.0
        request = Request(
            wish=wish_of(count, names, where, "reserve"),
            length_seconds=parse_duration(length).total_seconds(),
            purpose=reason,
            starts_at=parse_moment(start, datetime.now(UTC)) if start else None,
            wait_seconds=None if queue else bound,
            contact=mail,
            os=os,
            cloud=cloud,
            keys=keys_of(keys),
            wipe=wipe,
        )
        who = actor(service, settings)
        swept(service)
        made = _taken(service, request, who)
        if keys and not made.keys:
            sys.stderr.write("perfci puts no SSH keys on nodes without a BMC\n")
        begin_work([made])
        if wait:
            from perfci.cli.lab_run import wait_until_ready

            made = wait_until_ready(service, made, who, bound)
        if as_json:
            print_json(booking_document(made))
        else:
            _say(made)


def _taken(service: Reservations, request: Request, who: Actor) -> Booking:
    """Reserve; who works in the nodes' free time is asked to give them back first, where that is enough."""
    from perfci.lab import give_way
    from perfci.lab.sql import open_ledger

    made: list[Booking] = []

    def take() -> Reservation:
        try:
            made.append(service.reserve(request, who))
        except NoSuchSlot as refused:
            fitting = service.fitting(request.wish)
            held = [one for one in open_ledger(settings_for()).held() if not fitting.isdisjoint(one.nodes)]
            giving = [one for one in held if one.purpose.endswith(give_way.GIVES_WAY)]
            kept = {node for one in held if one not in giving for node in one.nodes}
            if request.starts_at or not giving or len(fitting - kept) < request.wish.size:
                raise
            raise NodesBusy(wanted=str(request.wish), reservations=giving) from refused
        one = made[0]
        return Reservation(one.id, one.lab, one.nodes, one.holder, one.purpose, one.starts_at, one.ends_at)

    give_way.taken(take)
    return made[0]


def _say(made: Booking) -> None:
    nodes = ", ".join(made.nodes)
    until = f"until {local_time(made.ends_at)} ({shown_duration(made.ends_at - made.starts_at)})"
    if made.state is BookingState.READY:
        sys.stdout.write(f"{nodes}: yours {until}\n")
    elif made.state is BookingState.PREPARING:
        sys.stdout.write(f"{nodes}: being prepared, yours {until}\nhow far: perfci lab show {made.id}\n")
    else:
        sys.stdout.write(f"{nodes}: yours from {local_time(made.starts_at)} {until}\n")
        if not made.firm:
            sys.stdout.write(f"sooner if others give back earlier: perfci lab why {made.id}\n")
    sys.stdout.write(f"give back with: perfci lab release {made.id}\n")


def extend(
    reservation: ID,
    length: Annotated[str, typer.Option("--for", metavar="TIME", help="By how much: 4h, 1d.")],
    as_json: Json = False,
) -> None:
    """Extend a reservation, if nobody else has its nodes then.

    Exit code 3: somebody else has them; perfci says until when you can keep them.
    Exit code 4: the reservation is not yours.
    """
    with errors_reported(as_json=as_json):
        service = reservations()
        who = actor(service, settings_for())
        _changed(service.extend(reservation, parse_duration(length).total_seconds(), who), as_json=as_json)


def shorten(
    reservation: ID,
    until: Annotated[str, typer.Option("--until", metavar="WHEN", help="The new end: '17:00', '+2h'.")],
    as_json: Json = False,
) -> None:
    """End a reservation earlier. Those who wait move up.

    Exit code 4: the reservation is not yours.
    """
    with errors_reported(as_json=as_json):
        service = reservations()
        end = parse_moment(until, datetime.now(UTC))
        _changed(service.shorten(reservation, end, actor(service, settings_for())), as_json=as_json)


def _changed(one: Booking, *, as_json: bool) -> None:
    if as_json:
        print_json(booking_document(one))
    else:
        sys.stdout.write(
            f"{one.id}: {', '.join(one.nodes) or 'no nodes yet'} from {local_time(one.starts_at)} "
            f"until {local_time(one.ends_at)} ({shown_duration(one.ends_at - one.starts_at)}), "
            f"{one.holder}'s, {one.state}\n"
        )


def release(  # noqa: PLR0917 - typer takes them by name
    reservation: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Reservation, as `lab nodes` shows it.")
    ] = None,
    node: Annotated[str | None, typer.Argument(metavar="[NODE]", help="Give back only this node.")] = None,
    mine: Annotated[
        bool, typer.Option("--mine", help="Give back everything that you reserved; not what runs hold.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Also take nodes from a run that is going on, and so spoil it; admins only."
        ),
    ] = False,
    wipe: WipeDisks = Wipe.NONE,
    as_json: Json = False,
) -> None:
    """Give back a whole reservation, or one node of it.

    perfci does not release the nodes of a run that is going on: end the run instead.

    Exit code 4: the reservation is not yours.
    """
    with errors_reported(as_json=as_json):
        if (reservation is None) != mine:
            raise ChoiceUnclear(choices="the ID of a reservation, or --mine", command="release")
        service = reservations()
        who = actor(service, settings_for())
        swept(service)
        if reservation is not None:
            before = [service.show(reservation)]
        else:
            before = [one for one in service.of(people.me()) if one.owner is None]
        released = [service.release(one.id, who, node=node, force=force, wipe=wipe) for one in before]
        begin_work(released)
        if node is not None:
            begin_reclaim(service)
        if as_json:
            print_json({"released": [booking_document(one) for one in released]})
            return
        for was, one in zip(before, released, strict=True):
            nodes = node or ", ".join(was.nodes)
            after = "; it is being cleaned" if one.state is BookingState.ENDING else ""
            sys.stdout.write(f"{nodes}: given back ({one.purpose}){after}\n")
        if not released:
            sys.stdout.write("you hold no nodes\n")


def swap(
    reservation: ID,
    node: Annotated[str, typer.Argument(metavar="NODE", help="The node to give back.")],
    to: Annotated[
        str | None, typer.Option(metavar="NAME", help="The node to get. Default: any that fits.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Replace one node by another that fits the request, until the same end.

    Exit code 3: no node that fits is free for that long.
    Exit code 4: the reservation is not yours.
    """
    with errors_reported(as_json=as_json):
        service = reservations()
        changed = service.swap(reservation, node, actor(service, settings_for()), to=to)
        begin_reclaim(service)
        _changed(changed, as_json=as_json)


def transfer(
    reservation: ID,
    to: Annotated[str, typer.Option(metavar="USER", help="The new holder.")],
    mail: Annotated[
        str,
        typer.Option(
            "--mail",
            metavar="ADDRESS",
            help="Address for mails about it; `none`: no mails. Default: USER at the lab's `mail_domain`.",
        ),
    ] = "",
    keys: Annotated[
        list[str] | None,
        typer.Option("--key", metavar="FILE", help="That user's SSH public keys; may be repeated."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Hand a reservation over to somebody else. Your SSH keys no longer open its machines.

    Exit code 4: the reservation is not yours.
    """
    with errors_reported(as_json=as_json):
        service = reservations()
        who = actor(service, settings_for())
        _changed(
            service.transfer(reservation, to, who, contact=mail, keys=keys_of(keys or ())), as_json=as_json
        )


def begin_work(bookings: Iterable[Booking]) -> None:
    """Prepare or take back machines in the background, so that it happens also where no timer runs ticks."""
    to_do = [one for one in bookings if one.state in {BookingState.PREPARING, BookingState.ENDING}]
    if to_do:
        from perfci.runs.state.background import in_background

        spawn = in_background(settings_for())
        for one in to_do:
            spawn(["tick", "--work", one.id])


def begin_reclaim(service: Reservations) -> None:
    """Take back machines that left a reservation before the others, and prepare those that came instead."""
    from perfci.lab.reservations.work import Work

    begin_work([service.show(one) for one in Work(service, "lab").due()])


def swept(service: Reservations) -> None:
    """Release what is over, and say on stderr what that was."""
    for one, reason in service.sweep():
        sys.stderr.write(
            f"released, {reason}: {', '.join(one.nodes)}: held by {one.holder} ({one.purpose}) "
            f"since {local_time(one.starts_at)} until {local_time(one.ends_at)}\n"
        )
