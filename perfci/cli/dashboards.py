"""`perfci dashboards`: Grafana."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from perfci.cli.access import lab_services
from perfci.cli.output import Json, errors_reported, print_json

app = typer.Typer(no_args_is_help=True, help="Grafana dashboards.")


@app.command()
def push(as_json: Json = False) -> None:
    """Push the dashboards to Grafana, with their folder and data source, and annotate the alerts.

    Pushing them again changes nothing.

    Exit code 4: Grafana does not answer, or refuses.
    """
    from perfci.runs.publish.grafana import push_dashboards

    with errors_reported(as_json=as_json):
        pushed, notes = push_dashboards(lab_services())
        if as_json:
            print_json({**asdict(pushed), "annotations": notes})
            return
        changed = ", ".join(pushed.dashboards) or "none, all are as wanted"
        typer.echo(f"dashboards changed: {changed}; annotations changed: {notes}")


@app.command()
def write(
    folder: Annotated[
        Path, typer.Argument(help="Folder to write to; the project keeps them in dashboards/.")
    ],
    as_json: Json = False,
) -> None:
    """Write the dashboards as JSON files, to import them by hand."""
    from perfci.report.dashboard import write as write_dashboards

    with errors_reported(as_json=as_json):
        write_dashboards(folder)
        if as_json:
            print_json({"folder": folder})
        else:
            typer.echo(str(folder))
