"""The console script `perfci`: all commands in one place."""

from __future__ import annotations

from typing import Annotated

import typer

from perfci import __version__
from perfci.cli import (
    alerts,
    analyse,
    calibrate,
    config,
    dashboards,
    lab,
    pins,
    report,
    results,
    run,
    services,
    state,
    virtual,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A bare-metal CI lab for performance and large-ops testing of OpenStack.",
)
app.add_typer(run.app, name="run")
app.add_typer(results.app, name="results")
app.add_typer(alerts.app, name="alerts")
app.add_typer(lab.app, name="lab")
app.add_typer(pins.app, name="pins")
app.add_typer(virtual.app, name="virtual")
app.add_typer(services.app, name="services")
app.add_typer(dashboards.app, name="dashboards")
app.add_typer(config.app, name="config")
app.add_typer(analyse.app, name="analyse")
app.command()(calibrate.calibrate)
app.command()(report.report)
app.command()(state.status)
app.command()(state.doctor)
app.command()(state.setup)
app.command()(state.demo)
app.command()(state.clean)


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
    app()
