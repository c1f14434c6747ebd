"""The console script `perfci`: all commands in one place."""

from __future__ import annotations

from typing import Annotated

import typer

from perfci import __version__
from perfci.cli.encoding import accept_any_text
from perfci.cli.groups import Entry, lazy

COMMANDS = (
    Entry(
        "run", "perfci.cli.run:app", "Run a job (`perfci run nightly`), or look at runs (`perfci run list`)."
    ),
    Entry("results", "perfci.cli.results:app", "What runs measured, and where it is stored."),
    Entry("alerts", "perfci.cli.alerts:app", "Alerts: what became slower and is not fixed yet."),
    Entry(
        "lab",
        "perfci.cli.lab:app",
        "The lab's machines: see who holds them, reserve, release and switch them.",
    ),
    Entry(
        "pins",
        "perfci.cli.pins:app",
        "Exact versions: the pins that clouds are deployed from, and what runs deployed.",
    ),
    Entry(
        "changes",
        "perfci.cli.changes:changes",
        "List the changes after OLD up to NEW in all repositories, and say which of them can matter.",
    ),
    Entry(
        "bisect",
        "perfci.cli.bisect:bisect",
        "Find the change that made something slower, and prove it.",
    ),
    Entry("try", "perfci.cli.try_change:try_change", "Say whether a change makes a job's scenarios slower."),
    Entry(
        "schedule",
        "perfci.cli.tick:schedule_app",
        "Scheduled nights: which come next, and the timer that starts them.",
    ),
    Entry(
        "tick",
        "perfci.cli.tick:tick",
        "Do what is due: begin and end reservations, start nights, prepare nodes, send mails about them.",
    ),
    Entry("virtual", "perfci.cli.virtual:app", "A virtual lab: simulated machines behind simulated BMCs."),
    Entry("services", "perfci.cli.services:app", "The embedded InfluxDB: keep it running between nights."),
    Entry("dashboards", "perfci.cli.dashboards:app", "Grafana dashboards."),
    Entry(
        "database",
        "perfci.cli.database:app",
        "The controller's database: show it, back it up, move it.",
    ),
    Entry(
        "config", "perfci.cli.config:app", "Settings: show those in effect, or an example with all of them."
    ),
    Entry(
        "analyse",
        "perfci.cli.analyse:app",
        "Judge a run against its history, find changes in whole histories, or check what perfci would find.",
    ),
    Entry(
        "calibrate",
        "perfci.cli.calibrate:calibrate",
        "Run unchanged code again and again, and say how small a change each series can show.",
    ),
    Entry(
        "side-by-side",
        "perfci.cli.side_by_side:side_by_side",
        "Deploy two clouds beside each other, hammer them in lock-step, and say what differs.",
    ),
    Entry(
        "report",
        "perfci.cli.report:report",
        "Write the trend pages whose content changed, from the archive and the index.",
    ),
    Entry(
        "status",
        "perfci.cli.state:status",
        "Show what runs, who holds nodes, the last run, open alerts, and what waits for delivery.",
    ),
    Entry(
        "doctor",
        "perfci.cli.state:doctor",
        "Check whether this machine can run the lab: settings, jobs, packages, memory, disk, ports.",
    ),
    Entry(
        "setup",
        "perfci.cli.state:setup",
        "Check this machine, and install Debian packages and the OpenStack code. `perfci run` does it, too.",
    ),
    Entry(
        "demo",
        "perfci.cli.state:demo",
        "Put a slow-down into neutron, see perfci find it, take it out, and see the alert close.",
    ),
    Entry(
        "clean",
        "perfci.cli.state:clean",
        "Stop everything of this lab, and remove whatever perfci can make again.",
    ),
)

app = typer.Typer(
    cls=lazy(COMMANDS),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A bare-metal CI lab for performance and large-ops testing of OpenStack.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Every command prints for people, and JSON with --json. Errors are explained in docs/errors.md."""
    del version


def run_command() -> None:
    """Run the console script."""
    accept_any_text()
    app()
