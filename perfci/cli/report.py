"""`perfci report`: the static trend pages."""

from __future__ import annotations

import typer

from perfci import config
from perfci.cli.output import Json, errors_reported, print_json
from perfci.runs.publish.site_data import write_site
from perfci.runs.verdicts.lab_services import LabServices


def report(as_json: Json = False) -> None:
    """Write the trend pages anew, from the archive and the index."""
    with errors_reported(as_json=as_json):
        index = write_site(LabServices(config.load()))
        if as_json:
            print_json({"index": index})
        else:
            typer.echo(str(index))
