"""`perfci report`: the static trend pages."""

from __future__ import annotations

from typing import Annotated

import typer

from perfci.cli.access import lab_services
from perfci.cli.output import Json, errors_reported, print_json


def report(
    everything: Annotated[
        bool, typer.Option("--all", help="Make all pages again, not only those whose content changed.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the trend pages whose content changed, from the archive and the index."""
    from perfci.runs.publish.site_data import write_site

    with errors_reported(as_json=as_json):
        index = write_site(lab_services(), afresh=everything)
        if as_json:
            print_json({"index": index})
        else:
            typer.echo(str(index))
