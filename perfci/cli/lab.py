"""`perfci lab`: who has which nodes; take some, give them back, switch them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import typer

from perfci.cli.access import settings_for
from perfci.cli.durations import shown_duration
from perfci.cli.groups import Entry, lazy
from perfci.cli.output import Json, errors_reported, print_json, print_table
from perfci.lab.errors import local_time

if TYPE_CHECKING:
    from perfci.lab.health import OperationTally
    from perfci.lab.reservations.model import NodeStatus

COMMANDS = (
    Entry("calendar", "perfci.cli.lab_calendar:calendar", "Show who has or will have which nodes."),
    Entry(
        "find", "perfci.cli.lab_calendar:find", "Show the earliest times at which nodes are free together."
    ),
    Entry(
        "reserve",
        "perfci.cli.lab_reserve:reserve",
        "Reserve nodes now, for later (`--from`), or as soon as they are free (`--queue`, `--wait`).",
    ),
    Entry(
        "run",
        "perfci.cli.lab_run:run",
        "Reserve nodes, wait until they are ready, run a command, and always give them back.",
    ),
    Entry(
        "extend",
        "perfci.cli.lab_reserve:extend",
        "Extend a reservation, if nobody else has its nodes then.",
    ),
    Entry("shorten", "perfci.cli.lab_reserve:shorten", "End a reservation earlier. Those who wait move up."),
    Entry(
        "release",
        "perfci.cli.lab_reserve:release",
        "Give back a whole reservation, or one node of it.",
    ),
    Entry(
        "swap",
        "perfci.cli.lab_reserve:swap",
        "Replace one node by another that fits the request, until the same end.",
    ),
    Entry(
        "transfer",
        "perfci.cli.lab_reserve:transfer",
        "Hand a reservation over to somebody else. Your SSH keys no longer open its machines.",
    ),
    Entry(
        "show",
        "perfci.cli.lab_calendar:show",
        "Show one reservation: its nodes, its times and its history.",
    ),
    Entry("mine", "perfci.cli.lab_calendar:mine", "Show your reservations."),
    Entry(
        "why",
        "perfci.cli.lab_calendar:why",
        "Say why a reservation waits: who is ahead of it, when it begins, and how it could begin sooner.",
    ),
    Entry(
        "history",
        "perfci.cli.lab_calendar:history",
        "Show who did what to reservations, or what was done with a node; oldest first.",
    ),
    Entry(
        "ssh",
        "perfci.cli.lab_run:ssh",
        "Log in on a node of your reservation, or run a command there.",
        ends_in_command=True,
    ),
    Entry(
        "keys",
        "perfci.cli.ssh_keys:keys",
        "Show or change the SSH keys that open the machines of a reservation: `ssh root@NODE`.",
    ),
    Entry(
        "env",
        "perfci.cli.lab_run:env",
        'Print what a shell needs to work on a reservation: `eval "$(perfci lab env ID)"`.',
    ),
    Entry(
        "node",
        "perfci.cli.lab_nodes:node_app",
        "Take nodes out of use, put them back, and show their health.",
    ),
    Entry(
        "inspect",
        "perfci.cli.lab_inspect:inspect",
        "Read the hardware of nodes: network cards, disks, memory, NUMA, CPU, firmware.",
    ),
    Entry("power", "perfci.cli.bmc:power", "Switch nodes on or off, and check that it happened."),
    Entry("boot", "perfci.cli.bmc:boot", "Set what nodes boot from, and read it back."),
    Entry(
        "identify",
        "perfci.cli.bmc:identify",
        "Switch on the identify LEDs of nodes, to find them in the rack.",
    ),
    Entry(
        "console",
        "perfci.cli.bmc:console",
        "Open the serial console of a node in this terminal. Type `~.` at the start of a line to end it.",
    ),
    Entry("sensors", "perfci.cli.bmc:sensors", "Read the sensors of nodes."),
    Entry("events", "perfci.cli.bmc:events", "Read the event logs of nodes' BMCs, oldest first."),
)
WEB_COMMANDS = (
    Entry("serve", "perfci.cli.lab_serve:serve", "Serve the lab's calendar as a web page with a JSON API."),
    Entry("token", "perfci.cli.lab_token:app", "Tokens for the web page and its API."),
)

app = typer.Typer(
    cls=lazy((*COMMANDS, *WEB_COMMANDS)),
    no_args_is_help=True,
    help="The lab's machines: see who holds them, reserve, release and switch them.",
)

COLUMNS = (
    "node",
    "state",
    "left",
    "holder",
    "until",
    "reservation",
    "reason",
    "next",
    "facts",
    "lock-ups per 100",
)


@app.command()
def nodes(as_json: Json = False) -> None:
    """Show the nodes: who has each one and until when, who is next, and how often its BMC locks up.

    It first releases reservations whose time has passed or whose process is gone.
    """
    from perfci.cli.lab_calendar import reservations
    from perfci.cli.lab_reserve import begin_work, swept
    from perfci.lab.health import OperationTally, open_health

    with errors_reported(as_json=as_json):
        service = reservations()
        swept(service)
        begin_work(service.begin())
        tallies = open_health(settings_for()).tallies()
        shown = [(one, tallies.get(one.name, OperationTally())) for one in service.nodes()]
        if as_json:
            print_json({"lab": service.lab, "nodes": [_document(one, tally) for one, tally in shown]})
        else:
            now = datetime.now(UTC)
            print_table(COLUMNS, [_row(one, tally, now) for one, tally in shown], empty="no nodes")


def _document(one: NodeStatus, tally: OperationTally) -> dict[str, Any]:
    from perfci.lab.reservations.documents import node_document

    return {**node_document(one), "bmc": {**asdict(tally), "lock_ups_per_100": tally.per_100}}


def _row(one: NodeStatus, tally: OperationTally, now: datetime) -> tuple[str, ...]:
    left = holder = until = reservation = reason = ""
    if one.quarantine is not None:
        reason = f"{one.quarantine.reason} (since {local_time(one.quarantine.since)})"
    if one.retired_reason:
        reason = one.retired_reason
    if (held := one.booking) is not None:
        left = shown_duration(max(timedelta(), held.ends_at - now))
        holder, until, reservation = held.holder, local_time(held.ends_at), held.id
        reason = reason or held.purpose
    elif one.free_until is not None:
        left = shown_duration(one.free_until - now)
    coming = one.next_booking
    following = f"{coming.holder} {local_time(coming.starts_at)}" if coming else ""
    facts = ", ".join(f"{name}={value}" for name, value in sorted(one.facts.items()))
    per_100 = tally.per_100
    often = "" if per_100 is None else f"{per_100:.1f} ({tally.lock_ups} of {tally.operations})"
    state = str(one.state)
    return (one.name, state, left, holder, until, reservation, reason, following, facts, often)
