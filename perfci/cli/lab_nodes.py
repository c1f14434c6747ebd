"""`perfci lab node`: what admins do with nodes."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from perfci.cli.access import lab_services, settings_for
from perfci.cli.lab_calendar import actor, reservations
from perfci.cli.output import Json, errors_reported, print_json, print_table
from perfci.errors import PerfciError, UsageError
from perfci.lab.errors import local_time

if TYPE_CHECKING:
    from perfci.lab.reservations.model import Actor
    from perfci.lab.reservations.node_orders import NodeOrders

node_app = typer.Typer(
    no_args_is_help=True, help="Take nodes out of use, put them back, and show their health."
)
Name = Annotated[str, typer.Argument(metavar="NODE", help="Which node.")]
Why = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; others see it.")]


class FactInvalid(UsageError):
    """A hardware fact has the wrong form."""

    template = "expected --fact NAME=VALUE such as cores=32, got {text!r}"
    help = "A name consists of letters, digits and _. Filters (`--where`) compare the value."


def _orders() -> tuple[NodeOrders, Actor]:
    from perfci.lab.reservations.node_orders import NodeOrders

    service = reservations()
    return NodeOrders(service), actor(service, settings_for())


@node_app.command()
def add(
    node: Name,
    reason: Why,
    facts: Annotated[
        list[str] | None,
        typer.Option("--fact", metavar="NAME=VALUE", help="A hardware fact for filters; may be repeated."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Put a node of the inventory into use, or back into use, and record facts about its hardware.

    perfci uses every node of the inventory that is not retired. Admins only.

    Exit code 4: you are not an admin.
    """
    with errors_reported(as_json=as_json):
        orders, who = _orders()
        given = dict(map(_fact, facts or ()))
        orders.add(node, reason, who, facts=given)
        _said(node, "in use", as_json=as_json, facts=given)


def _fact(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier() or not value:
        raise FactInvalid(text=text[:60])
    return name, value


@node_app.command()
def retire(node: Name, reason: Why, as_json: Json = False) -> None:
    """Take a node out of use for good, and move planned reservations to other nodes. Admins only.

    Exit code 4: you are not an admin.
    """
    with errors_reported(as_json=as_json):
        orders, who = _orders()
        orders.retire(node, reason, who)
        _said(node, "retired", as_json=as_json)


@node_app.command()
def quarantine(node: Name, reason: Why, as_json: Json = False) -> None:
    """Take a node out of use until an admin restores it. Its present holder keeps it. Admins only.

    Planned reservations get another node that fits. If there is none, their history says so.

    Exit code 4: you are not an admin.
    """
    with errors_reported(as_json=as_json):
        orders, who = _orders()
        entry = orders.quarantine(node, reason, who)
        if as_json:
            print_json(asdict(entry))
        else:
            sys.stdout.write(f"{node}: in quarantine since {local_time(entry.since)}: {entry.reason}\n")


@node_app.command()
def restore(
    node: Name,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="What was repaired.")] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Restore it without a canary; perfci records that.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Put a node from quarantine back into use, once a canary has passed on it. Admins only.

    Exit code 4: you are not an admin.
    Exit code 5: no canary has passed on it since it went into quarantine.
    """
    with errors_reported(as_json=as_json):
        orders, who = _orders()
        was = orders.restore(node, who, reason=reason, force=force)
        if as_json:
            print_json({"node": node, "restored": was})
        else:
            sys.stdout.write(f"{node}: {'given out again' if was else 'was not in quarantine'}\n")


@node_app.command()
def check(
    node: Name,
    provision: Annotated[
        bool,
        typer.Option(
            "--provision",
            help="Give a machine in quarantine a fresh system first, and switch it off afterwards. This "
            "erases its disk.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Run the canaries on a node, record the result, and read its BMC's alarms. Admins only.

    perfci mails new alarms of its sensors and event log to the admins.

    Exit code 3: somebody has the machine that `--provision` would erase, or could get it meanwhile.
    Exit code 4: you are not an admin.
    Exit code 5: the canaries did not pass.
    """
    from threading import Event

    from perfci.lab import inventory
    from perfci.runs.publish.hardware_alarms import HardwareLook, look_at_hardware
    from perfci.runs.publish.notify import deliver
    from perfci.runs.tick.node_check import check_node
    from perfci.runs.tick.node_playbooks import NodePlaybooks

    with errors_reported(as_json=as_json):
        settings = settings_for()
        service = reservations()
        who = actor(service, settings)
        plays = NodePlaybooks(settings, inventory.nodes(settings.inventory_dir), Event())
        failed = check_node(service, node, who, plays.play, provision=provision)
        try:
            look = look_at_hardware(settings, service.machines([node]))
        except PerfciError as error:  # what the canary found is noted, and is what was asked for
            look = HardwareLook(silent={node: str(error)})
        if look.alarms:
            deliver(lab_services())
        if as_json:
            print_json(
                {
                    "node": node,
                    "passed": not failed,
                    "detail": failed,
                    "alarms": [one.text for one in look.alarms.get(node, ())],
                    "bmc_error": look.silent.get(node, ""),
                }
            )
        else:
            sys.stdout.write(f"{node}: {failed or 'its canaries passed'}\n")
            sys.stdout.write(f"{node}: its BMC: {look.text.removeprefix(f'{node}: ')}\n")
    raise typer.Exit(5 if failed else 0)


@node_app.command()
def health(node: Name, as_json: Json = False) -> None:
    """Show a node's last 90 days: failures per 100 operations, and hours used, idle and broken."""
    with errors_reported(as_json=as_json):
        found = reservations().health(node)
        per_100 = found.failures_per_100
        if as_json:
            print_json({"node": node, **asdict(found), "failures_per_100": per_100})
            return
        rate = "" if per_100 is None else f"{per_100:.1f}"
        hours = (f"{one:.0f}" for one in (found.used_hours, found.idle_hours, found.broken_hours))
        print_table(
            ("node", "operations", "failed", "failures per 100", "hours used", "idle", "broken"),
            [(node, str(found.operations), str(found.failures), rate, *hours)],
            empty="",
        )


def _said(node: str, what: str, *, as_json: bool, facts: dict[str, str] | None = None) -> None:
    if as_json:
        print_json({"node": node, "state": what, **({"facts": facts} if facts else {})})
    else:
        sys.stdout.write(f"{node}: {what}\n")
