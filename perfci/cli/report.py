"""`perfci report`: the static trend pages."""

from __future__ import annotations

import typer

from perfci.cli.access import lab_services
from perfci.cli.output import Json, errors_reported, print_json


def report(as_json: Json = False) -> None:
    """Write the trend pages, from the archive and the index."""
    from perfci.runs.publish.site_data import write_site

    with errors_reported(as_json=as_json):
        index = write_site(lab_services())
        if as_json:
            print_json({"index": index})
        else:
            typer.echo(str(index))
