"""`perfci lab`: who holds which nodes; take some, give them back."""

from __future__ import annotations

import getpass
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perfci.cli.access import settings_for
from perfci.cli.choices import ChoiceUnclear
from perfci.cli.durations import parse_duration
from perfci.cli.groups import Entry, lazy
from perfci.cli.output import Json, errors_reported, print_json, print_table
from perfci.lab.errors import held, local_time

if TYPE_CHECKING:
    from perfci.lab.health import OperationTally
    from perfci.lab.ledger import Ledger, Nodes
    from perfci.lab.model import Quarantine, Reservation

BMC_COMMANDS = (
    Entry("power", "perfci.cli.bmc:power", "Switch nodes on or off, and see that it happened."),
    Entry("boot", "perfci.cli.bmc:boot", "Set from where nodes boot, and read it back."),
    Entry("identify", "perfci.cli.bmc:identify", "Light the lamps of nodes, to find them in the rack."),
    Entry(
        "console",
        "perfci.cli.bmc:console",
        "Open the serial console of a node in this terminal. `~.` at the begin of a line ends it.",
    ),
    Entry("sensors", "perfci.cli.bmc:sensors", "Read the sensors of nodes."),
    Entry("events", "perfci.cli.bmc:events", "Read the event logs of nodes' BMCs, oldest first."),
)

app = typer.Typer(
    cls=lazy(BMC_COMMANDS),
    no_args_is_help=True,
    help="The lab's machines: who holds them, take some, give them back, switch them.",
)

COLUMNS = ("node", "state", "holder", "purpose", "since", "until", "reservation", "lock-ups per 100")


@app.command()
def nodes(as_json: Json = False) -> None:
    """Show the nodes, who holds which until when, and how often each BMC locks up.

    Reservations that are over are released first: their time has passed, or their process is gone.
    """
    from perfci.lab.health import open_health

    with errors_reported(as_json=as_json):
        ledger = _swept()
        shown = _shown(ledger, open_health(settings_for()).tallies())
        if as_json:
            print_json({"lab": ledger.lab, "nodes": [node.as_dict() for node in shown]})
        else:
            print_table(COLUMNS, [node.row() for node in shown], empty="no nodes")


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

    Exit code 0: they are yours.
    Exit code 3: somebody else holds them; perfci says who.
    """
    from perfci.lab import give_way

    with errors_reported(as_json=as_json):
        if count and names:
            raise ChoiceUnclear(choices="either --nodes or --node, not both", command="reserve")
        wanted: Nodes = frozenset(names) if names else count or 1
        duration = parse_duration(length)
        ledger = _swept()
        until = datetime.now(UTC) + duration
        # Who works in the nodes' free time gives them back first.
        taken = give_way.taken(
            lambda: ledger.reserve(nodes=wanted, holder=getpass.getuser(), purpose=purpose, until=until)
        )
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


@app.command()
def quarantine(
    node: Annotated[str, typer.Argument(metavar="NODE", help="Which node.")],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; others see it.")],
    as_json: Json = False,
) -> None:
    """Give a node to nobody until somebody restores it; who holds it now keeps it."""
    with errors_reported(as_json=as_json):
        entry = _ledger().quarantine(node, reason)
        if as_json:
            print_json(asdict(entry))
        else:
            sys.stdout.write(f"{node}: in quarantine since {local_time(entry.since)}: {entry.reason}\n")


@app.command()
def restore(
    node: Annotated[str, typer.Argument(metavar="NODE", help="Which node.")], as_json: Json = False
) -> None:
    """Give a node out again that was in quarantine."""
    with errors_reported(as_json=as_json):
        was = _ledger().restore(node)
        if as_json:
            print_json({"node": node, "restored": was})
        else:
            sys.stdout.write(f"{node}: {'given out again' if was else 'was not in quarantine'}\n")


@dataclass(frozen=True, slots=True)
class _Shown:
    """One node as `perfci lab nodes` shows it."""

    name: str
    reservation: Reservation | None
    quarantine: Quarantine | None
    tally: OperationTally

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "reservation": asdict(self.reservation) if self.reservation else None,
            "quarantine": asdict(self.quarantine) if self.quarantine else None,
            "bmc": {**asdict(self.tally), "lock_ups_per_100": self.tally.per_100},
        }

    def row(self) -> tuple[str, ...]:
        state = "held" if self.reservation else "free"
        who = ("", "", "", "", "")
        if self.quarantine:
            since = local_time(self.quarantine.since)
            state, who = "quarantined", ("", self.quarantine.reason, since, "", "")
        if one := self.reservation:
            since, until = local_time(one.starts_at), local_time(one.ends_at)
            who = (one.holder, one.purpose, since, until, one.id)
        tally = self.tally
        often = (
            "" if tally.per_100 is None else f"{tally.per_100:.1f} ({tally.lock_ups} of {tally.operations})"
        )
        return (self.name, state, *who, often)


def _ledger() -> Ledger:
    from perfci.lab.sql import open_ledger

    return open_ledger(settings_for())


def _shown(ledger: Ledger, tallies: dict[str, OperationTally]) -> list[_Shown]:
    from perfci.lab.health import OperationTally

    holders = {node: one for one in ledger.held() for node in one.nodes}
    withheld = {entry.node: entry for entry in ledger.quarantined()}
    names = [node.name for node in ledger.nodes]
    return [
        _Shown(name, holders.get(name), withheld.get(name), tallies.get(name, OperationTally()))
        for name in names
    ]


def _swept() -> Ledger:
    """Open the lab's book; tell on stderr what it found to be over."""
    ledger = _ledger()
    for reservation, reason in ledger.sweep():
        sys.stderr.write(f"released, {reason}: {held(reservation)}\n")
    return ledger


def _mine(ledger: Ledger) -> list[str]:
    user = getpass.getuser()
    return [one.id for one in ledger.held() if one.holder == user and one.owner is None]
