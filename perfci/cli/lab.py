"""`perfci lab`: who holds which nodes; take some, give them back."""

from __future__ import annotations

import getpass
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perfci import config
from perfci.cli.durations import parse_duration
from perfci.cli.output import Json, errors_reported, print_json, print_table
from perfci.errors import UsageError
from perfci.lab.errors import held, local_time
from perfci.lab.sql import open_ledger

if TYPE_CHECKING:
    from perfci.lab.ledger import Ledger, Nodes
    from perfci.lab.model import Reservation

app = typer.Typer(no_args_is_help=True, help="The lab's machines: who holds them, take some, give them back.")

COLUMNS = ("node", "state", "holder", "purpose", "since", "until", "reservation")


class ChoiceUnclear(UsageError):
    """Two options were given that exclude each other, or none of them."""

    template = "expected {choices}"
    help = "`perfci lab {command} --help` shows both forms."


@app.command()
def nodes(as_json: Json = False) -> None:
    """Show the nodes, and who holds which until when.

    Reservations that are over are released first: their time has passed, or their process is gone.
    """
    with errors_reported(as_json=as_json):
        ledger = _swept()
        holders = {node: one for one in ledger.held() for node in one.nodes}
        names = [node.name for node in ledger.nodes]
        if as_json:
            print_json({"lab": ledger.lab, "nodes": [_node(name, holders.get(name)) for name in names]})
        else:
            print_table(COLUMNS, [_row(name, holders.get(name)) for name in names], empty="no nodes")


@app.command()
def reserve(
    length: Annotated[str, typer.Option("--for", metavar="TIME", help="How long: 90m, 4h, 2d.")],
    purpose: Annotated[str, typer.Option(metavar="TEXT", help="What for; others see it.")],
    count: Annotated[
        int | None, typer.Option("--nodes", min=1, help="How many nodes; 1 if left out.")
    ] = None,
    names: Annotated[
        list[str] | None, typer.Option("--node", metavar="NAME", help="This node; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Take nodes from now on, for yourself.

    Leaves with 3 if somebody else holds them, and says who.
    """
    with errors_reported(as_json=as_json):
        if count and names:
            raise ChoiceUnclear(choices="either --nodes or --node, not both", command="reserve")
        wanted: Nodes = frozenset(names) if names else count or 1
        duration = parse_duration(length)
        ledger = _swept()
        until = datetime.now(UTC) + duration
        taken = ledger.reserve(nodes=wanted, holder=getpass.getuser(), purpose=purpose, until=until)
        if as_json:
            print_json(asdict(taken))
        else:
            sys.stdout.write(
                f"{', '.join(taken.nodes)}: yours until {local_time(taken.ends_at)}\n"
                f"give back with: perfci lab release {taken.id}\n"
            )


@app.command()
def release(
    reservation: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Reservation, as `lab nodes` shows it.")
    ] = None,
    mine: Annotated[bool, typer.Option("--mine", help="All that you reserved; not what runs hold.")] = False,
    as_json: Json = False,
) -> None:
    """Give nodes back.

    What a run holds while it is going on is not released: end the run.
    """
    with errors_reported(as_json=as_json):
        if (reservation is None) != mine:
            raise ChoiceUnclear(choices="the ID of a reservation, or --mine", command="release")
        ledger = _swept()
        ids = [reservation] if reservation is not None else _mine(ledger)
        released = [ledger.release(one) for one in ids]
        if as_json:
            print_json({"released": [asdict(one) for one in released]})
            return
        for one in released:
            sys.stdout.write(f"{', '.join(one.nodes)}: given back ({one.purpose})\n")
        if not released:
            sys.stdout.write("you hold no nodes\n")


def _swept() -> Ledger:
    """Open the lab's book; tell on stderr what it found to be over."""
    ledger = open_ledger(config.load())
    for reservation, reason in ledger.sweep():
        sys.stderr.write(f"released, {reason}: {held(reservation)}\n")
    return ledger


def _mine(ledger: Ledger) -> list[str]:
    user = getpass.getuser()
    return [one.id for one in ledger.held() if one.holder == user and one.owner is None]


def _node(name: str, reservation: Reservation | None) -> dict[str, Any]:
    return {"name": name, "reservation": asdict(reservation) if reservation else None}


def _row(name: str, reservation: Reservation | None) -> tuple[str, ...]:
    if reservation is None:
        return (name, "free", "", "", "", "", "")
    since, until = local_time(reservation.starts_at), local_time(reservation.ends_at)
    return (name, "held", reservation.holder, reservation.purpose, since, until, reservation.id)
