"""`perfci virtual`: simulated machines behind simulated BMCs, for who has no hardware."""

from __future__ import annotations

import shlex
import sys
from ipaddress import IPv4Network
from typing import Annotated, Any

import typer

from perfci.cli.access import settings_for
from perfci.cli.output import Json, errors_reported, print_json, print_table
from perfci.errors import UsageError
from perfci.lab.virtual.plan import Firmware, MachineKind, Plan

app = typer.Typer(no_args_is_help=True, help="A virtual lab: simulated machines behind simulated BMCs.")

COLUMNS = ("node", "power", "does", "next boot", "BMC", "address", "sessions", "faults")
DEFAULT_NETWORK = "192.168.240.0/24"

Node = Annotated[str, typer.Argument(metavar="NODE", help="The node, such as node-1.")]


class NetworkInvalid(UsageError):
    """The provisioning network is not a valid IPv4 network."""

    template = "{text!r} is not an IPv4 network: {reason}"
    help = "Write it with its prefix length: --network 192.168.240.0/24."


class FaultUnclear(UsageError):
    """The command has faults and --clear together, or neither."""

    template = "expected either faults or --clear"
    help = "`perfci virtual fault --help` explains every fault."


@app.command()
def up(
    nodes: Annotated[int, typer.Option(min=1, help="How many nodes.")] = 4,
    kind: Annotated[
        MachineKind,
        typer.Option(help="nspawn: a real systemd and sshd; qemu: real firmware; null: state only."),
    ] = MachineKind.NSPAWN,
    network: Annotated[
        str, typer.Option(metavar="CIDR", help="The provisioning network; visible only inside the lab.")
    ] = DEFAULT_NETWORK,
    firmware: Annotated[
        list[Firmware] | None,
        typer.Option(help="Firmware of qemu nodes. If repeated, nodes take them in turn. [default: bios]"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a virtual lab. All its nodes are off and have no system yet.

    It first removes what a killed lab left behind. If the wanted lab is already up, it changes nothing. It
    writes inventory/virtual/hosts.yml. Needs root.
    """
    from perfci.lab.virtual import lab

    with errors_reported(as_json=as_json):
        settings = settings_for()
        plan = Plan(
            project=settings.root_dir,
            state_dir=settings.state_dir,
            kind=kind,
            size=nodes,
            network=_network(network),
            firmwares=tuple(firmware or [Firmware.BIOS]),
        )
        now = lab.up(plan)
        if as_json:
            print_json(now)
            return
        inside = shlex.join(lab.entering(settings.state_dir))
        typer.echo(f"Up: {plan.describe()}.")
        typer.echo(f"Its network is {now['namespace']}; to run something there: {inside} COMMAND")


@app.command()
def down(as_json: Json = False) -> None:
    """Remove the virtual lab: every process, network, file and the inventory. Needs root."""
    from perfci.lab.virtual import lab

    with errors_reported(as_json=as_json):
        settings = settings_for()
        removed = lab.down(settings.state_dir, settings.root_dir)
        if as_json:
            print_json({"removed": removed.as_dict()})
        elif removed:
            typer.echo(f"Down. Ended {len(removed.processes)} process(es); nothing of it is left.")
        else:
            typer.echo("There was no virtual lab.")


@app.command()
def status(as_json: Json = False) -> None:
    """Show the nodes of the virtual lab, and what each is doing now. Needs root."""
    from perfci.lab.virtual import lab

    with errors_reported(as_json=as_json):
        now = lab.status(settings_for().state_dir)
        if as_json:
            print_json(now)
        else:
            print_table(COLUMNS, [_row(node) for node in now["nodes"]], empty="no nodes")


@app.command()
def fault(
    node: Node,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME[=VALUE]]...", help="Faults. The default value is true."),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="End all faults of the node.")] = False,
    as_json: Json = False,
) -> None:
    """Give a node faults, or end them. Needs root.

    Of the BMC, from the next packet on:

    hang, half_hung, sessions_full, stale_sessions=N, ok_without_effect, wrong_credentials, power_on_never,
    drop=SHARE (of the packets, 0 to 1), delay_seconds=S, privilege=2|3|4 (the user is user, operator or
    administrator), switch_seconds=S (the machine takes this long to switch); recovers_by=warm|cold|power|none
    says which reset cures its firmware.

    Of the machine, from its next POST on:

    reboot_loop, pxe_nak (DHCP does not know it), disk_full, dies_in_deploy.
    """
    from perfci.lab.virtual import lab

    with errors_reported(as_json=as_json):
        if bool(words) == clear:
            raise FaultUnclear
        state_dir = settings_for().state_dir
        now = lab.set_faults(state_dir, node, words) if words else lab.clear_faults(state_dir, node)
        _show(now, as_json=as_json)


@app.command()
def outlet(node: Node, as_json: Json = False) -> None:
    """Cut a node's mains and restore them, as a PDU outlet does. Needs root."""
    from perfci.lab.virtual import lab

    with errors_reported(as_json=as_json):
        _show(lab.cycle_outlet(settings_for().state_dir, node), as_json=as_json)


def _network(text: str) -> IPv4Network:
    try:
        return IPv4Network(text)
    except ValueError as error:
        raise NetworkInvalid(text=text, reason=error) from error


def _show(node: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(node)
    else:
        sys.stdout.write(f"{node['name']}: {_faults(node) or 'no faults'}\n")


def _faults(node: dict[str, Any]) -> str:
    return " ".join(name if value is True else f"{name}={value}" for name, value in node["faults"].items())


def _row(node: dict[str, Any]) -> tuple[str, ...]:
    return (
        node["name"],
        node["power"],
        node["stage"],
        node["next_boot"],
        node["bmc_address"],
        node["address"],
        str(node["sessions"]),
        _faults(node),
    )
