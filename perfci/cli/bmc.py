"""`perfci lab power|boot|identify|console|sensors|events`: what BMCs can be asked."""

from __future__ import annotations

import asyncio
import sys
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from perfci.cli import terminal
from perfci.cli.access import settings_for
from perfci.cli.chosen_nodes import ChosenNodes
from perfci.cli.output import Json, errors_reported, print_json, print_table
from perfci.database.errors import DatabaseUnavailable
from perfci.errors import PerfciError
from perfci.lab.bmc.base import BmcProtocol, BootDevice, BootOrder, PowerOrder
from perfci.lab.bmc.fleet import CONCURRENCY, FleetLimits, each, run
from perfci.lab.bmc.operations import Order
from perfci.lab.errors import local_time

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from rich.console import Console as Screen
    from rich.progress import Progress, TaskID

    from perfci.lab.bmc.base import Bmc, Target
    from perfci.lab.bmc.fleet import NodeResult
    from perfci.lab.bmc.ladder import Step
    from perfci.lab.bmc.orders import Means, Result

Value = TypeVar("Value")
ASK_SECONDS = 60.0
CONSOLE_SECONDS = 30.0
"""How often an open console looks whether the node is still its user's."""

Nodes = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NODE|ID]...", help="Which nodes; the ID of a reservation is all of its nodes."),
]
All = Annotated[bool, typer.Option("--all", help="All nodes of the lab.")]
Recover = Annotated[
    bool,
    typer.Option(
        "--recover",
        help="Recover BMCs that fail: wait for a free session, restart the BMC, and for off and cycle cut "
        "the mains. If nothing helps, the node goes into quarantine.",
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Include nodes that somebody else holds (admins only, recorded). With --recover, cut the mains "
        "for any order.",
    ),
]
Deadline = Annotated[
    float | None,
    typer.Option(
        "--deadline",
        min=1,
        metavar="SECONDS",
        help="Time limit for each node and attempt. Default: 60 s, and the node's bmc_power_seconds for each "
        "switch.",
    ),
]
Concurrency = Annotated[int, typer.Option("--concurrency", min=1, help="How many BMCs to talk to at once.")]


class Switch(StrEnum):
    """What `perfci lab power` takes."""

    ON = "on"
    OFF = "off"
    CYCLE = "cycle"
    SOFT = "soft"
    STATUS = "status"


def power(
    order: Annotated[Switch, typer.Argument(help="soft: ask the system to shut down. status: only look.")],
    nodes: Nodes = None,
    *,
    everything: All = False,
    recover: Recover = False,
    force: Force = False,
    deadline: Deadline = None,
    concurrency: Concurrency = CONCURRENCY,
    as_json: Json = False,
) -> None:
    """Switch nodes on or off, and check that it happened.

    perfci does not touch a node that is already in the ordered state. `status` never switches anything.

    Exit code 3: not every node is in the ordered state, or somebody else holds one.
    """
    from perfci.lab.bmc.orders import Means

    wanted = Order() if order is Switch.STATUS else Order(power=PowerOrder(order.value))
    only_looks = order is Switch.STATUS
    chosen = ChosenNodes(nodes or [], everything, f"power {order}", force=force, looks=only_looks)
    means = Means(deadline, None, concurrency, recover=recover, force=force and not only_looks)
    _give(wanted, chosen, means, as_json=as_json)


def boot(
    device: Annotated[
        BootDevice, typer.Argument(help="What to boot from; default takes an earlier order back.")
    ],
    nodes: Nodes = None,
    *,
    everything: All = False,
    persistent: Annotated[
        bool, typer.Option("--persistent/--once", help="From now on, or only at the next start.")
    ] = False,
    uefi: Annotated[bool, typer.Option("--uefi", help="Boot by UEFI instead of BIOS.")] = False,
    recover: Recover = False,
    force: Force = False,
    deadline: Deadline = None,
    concurrency: Concurrency = CONCURRENCY,
    as_json: Json = False,
) -> None:
    """Set what nodes boot from, and read it back.

    Exit code 3: not every node boots as ordered, or somebody else holds one.
    """
    from perfci.lab.bmc.orders import Means

    wanted = Order(boot=BootOrder(device, persistent=persistent, uefi=uefi))
    chosen = ChosenNodes(nodes or [], everything, f"boot {device}", force=force)
    means = Means(deadline, None, concurrency, recover=recover, force=force)
    _give(wanted, chosen, means, as_json=as_json)


def identify(
    nodes: Nodes = None,
    everything: All = False,
    seconds: Annotated[int, typer.Option(min=1, max=255, help="How long.")] = 60,
    off: Annotated[bool, typer.Option("--off", help="Switch the LEDs off.")] = False,
    as_json: Json = False,
) -> None:
    """Switch on the identify LEDs of nodes, to find them in the rack."""

    async def light(bmc: Bmc) -> str:
        ends = await bmc.identify(0 if off else seconds)
        if off:
            return "off"
        return f"on for {seconds} s" if ends else "on, until `perfci lab identify --off`"

    with errors_reported(as_json=as_json):
        outcomes = _asked(
            ChosenNodes(nodes or [], everything, "identify", looks=True), light, as_json=as_json
        )
        _print(("node", "lamp"), outcomes, lambda one: [(one,)], lambda one: one, as_json=as_json)


def sensors(nodes: Nodes = None, everything: All = False, as_json: Json = False) -> None:
    """Read the sensors of nodes."""
    with errors_reported(as_json=as_json):
        chosen = ChosenNodes(nodes or [], everything, "sensors", looks=True)
        _print(
            ("node", "sensor", "value", "state", "health"),
            _asked(chosen, lambda bmc: bmc.sensors(), as_json=as_json),
            lambda readings: [
                (
                    one.sensor,
                    "" if one.value is None else f"{one.value:g} {one.units}".strip(),
                    ", ".join(one.states),
                    one.health,
                )
                for one in readings
            ],
            lambda readings: [asdict(one) for one in readings],
            as_json=as_json,
        )


def events(nodes: Nodes = None, everything: All = False, as_json: Json = False) -> None:
    """Read the event logs of nodes' BMCs, oldest first."""
    with errors_reported(as_json=as_json):
        chosen = ChosenNodes(nodes or [], everything, "events", looks=True)
        _print(
            ("node", "at", "component", "event", "health"),
            _asked(chosen, lambda bmc: bmc.events(), as_json=as_json),
            lambda log: [
                (local_time(one.at) if one.at else "", one.component, one.text, one.health) for one in log
            ],
            lambda log: [asdict(one) for one in log],
            as_json=as_json,
        )


def console(
    name: Annotated[str, typer.Argument(metavar="NODE|ID", help="A node, or your reservation.")],
    node: Annotated[
        str | None,
        typer.Argument(metavar="[NODE]", help="Which node of the reservation, if it has several."),
    ] = None,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Take it over if somebody else has it open.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Open the serial console of a node in this terminal. Type `~.` at the start of a line to end it.

    The console also ends when your reservation of the node ends.

    Exit code 4: you don't hold the node, or no longer do. Admins may open any console.
    """
    chosen = ChosenNodes([name], everything=False, order="console", force=True, one=True, node=node)

    async def lost() -> None:
        """Wait until the node is somebody else's. Raises NodesNotReserved, AdminsOnly."""
        while True:
            await asyncio.sleep(CONSOLE_SECONDS)
            with suppress(DatabaseUnavailable):  # it is asked again
                await asyncio.to_thread(chosen.check, record=False)

    async def attend(target: Target) -> None:
        from perfci.lab.bmc.protocols import connect

        # Redfish carries no console; most BMCs that have it speak IPMI beside it.
        if target.protocol is BmcProtocol.AUTO:
            target = replace(target, protocol=BmcProtocol.IPMI)
        async with connect(target) as bmc, bmc.console(take_over=take_over) as line:
            sys.stderr.write(f"console of {target.node}; type ~. at the start of a line to end it\n")
            await terminal.attach(line, sys.stdin.fileno(), sys.stdout.fileno(), lost)

    from perfci.lab.bmc_network import bmc_network

    with errors_reported(as_json=as_json):
        terminal.need_terminal()
        (target,) = chosen.targets()
        with bmc_network(settings_for()):
            run(attend(target))
    sys.stderr.write("\nconsole closed\n")


def _give(order: Order, chosen: ChosenNodes, means: Means, *, as_json: bool) -> None:
    from perfci.lab.bmc.orders import give
    from perfci.lab.bmc_network import bmc_network

    with errors_reported(as_json=as_json):
        targets = chosen.targets()
        with _watched(chosen.command, len(targets), quiet=as_json) as watch, bmc_network(settings_for()):
            results = run(
                give(
                    targets,
                    order,
                    means,
                    tell=lambda result: watch.done(ok=result.ok),
                    tell_step=watch.step,
                )
            )
        _record(results)
        if as_json:
            print_json({"nodes": {result.node: result.as_dict() for result in results}})
        else:
            print_table(("node", "power", "boot", "seconds", "result"), map(_row, results), empty="no nodes")
            _say_what_was_not_done(results)
    raise typer.Exit(0 if all(result.ok for result in results) else 3)


def _record(results: Sequence[Result]) -> None:
    """Count them in the lab's database; where that fails, what was done to the nodes is still printed."""
    from perfci.lab.health import open_health, write_down
    from perfci.lab.sql import open_ledger

    settings = settings_for()
    try:
        write_down(results, open_health(settings), lambda: open_ledger(settings))
    except PerfciError as error:
        sys.stderr.write(f"not counted: {error}\n")


def _say_what_was_not_done(results: Sequence[Result]) -> None:
    """Name the nodes whose mains were left alone, and the order that would have cut them."""
    if left := [result.node for result in results if result.outlet_withheld]:
        nodes = " ".join(left)
        sys.stderr.write(
            f"perfci did not cut the mains of {nodes}, because that switches a machine off; "
            f"`perfci lab power cycle {nodes} --recover` cuts them if nothing else helps\n"
        )


def _row(result: Result) -> tuple[str, ...]:
    if result.done is None:
        return (result.node, "", "", f"{result.seconds:.1f}", str(result.error))
    state = result.done.after
    said = "changed" if result.done.changed else "ok"
    return (result.node, str(state.power), str(state.boot or ""), f"{result.seconds:.1f}", said)


def _asked(
    chosen: ChosenNodes, ask: Callable[[Bmc], Awaitable[Value]], *, as_json: bool
) -> tuple[NodeResult[Value], ...]:
    from perfci.lab.bmc_network import bmc_network

    async def one(target: Target) -> Value:
        from perfci.lab.bmc.protocols import connect

        async with connect(target) as bmc:
            return await ask(bmc)

    targets = chosen.targets()
    with _watched(chosen.command, len(targets), quiet=as_json) as watch:
        work = each(
            targets,
            one,
            limits=FleetLimits(deadline_seconds=ASK_SECONDS),
            tell=lambda outcome: watch.done(ok=outcome.ok),
        )
        with bmc_network(settings_for()):
            return tuple(run(work).values())


def _print(
    columns: Sequence[str],
    outcomes: Sequence[NodeResult[Value]],
    rows: Callable[[Value], Sequence[tuple[str, ...]]],
    plain: Callable[[Value], Any],
    *,
    as_json: bool,
) -> None:
    """Print what nodes answered, then the errors; leave with 3 where there are some."""
    answers = {one.node: one.value for one in outcomes if one.value is not None}
    errors = {one.node: one.error for one in outcomes if one.error is not None}
    if as_json:
        failed = {node: error.as_dict() for node, error in errors.items()}
        print_json({"nodes": {node: plain(value) for node, value in answers.items()}, "errors": failed})
    else:
        table = [(node, *row) for node, value in answers.items() for row in rows(value)]
        print_table(columns, table, empty="nothing was answered")
        for error in errors.values():
            sys.stderr.write(f"error: {error}\n")
    if errors:
        raise typer.Exit(3)


@dataclass(slots=True)
class _Watch:
    """Tells a person how far it is: a counter on a terminal, and a line for each rung of a ladder."""

    screen: Screen
    bar: Progress
    task: TaskID
    failed: int = field(default=0)
    quiet: bool = False

    def done(self, *, ok: bool) -> None:
        self.failed += not ok
        note = f"{self.failed} failed" if self.failed else ""
        self.bar.update(self.task, advance=1, note=note)

    def step(self, step: Step) -> None:
        if not self.quiet:
            how = "done" if step.ok else "failed"
            detail = f" ({step.detail})" if step.detail else ""
            text = f"{step.node}: {step.rung}: {how}{detail}, since {step.because}"
            self.screen.print(text, soft_wrap=True, highlight=False, markup=False)


@contextmanager
def _watched(what: str, total: int, *, quiet: bool) -> Iterator[_Watch]:
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    screen = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=screen, transient=True, disable=quiet or not screen.is_terminal) as bar:
        yield _Watch(screen, bar, bar.add_task(what, total=total, note=""), quiet=quiet)
