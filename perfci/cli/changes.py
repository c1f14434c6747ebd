"""`perfci changes`: which changes came between two runs or moments, and which can matter."""

from __future__ import annotations

from typing import Annotated

import typer

from perfci.cli.access import settings_for, state_folder
from perfci.cli.output import Json, errors_reported, print_json, print_table


def changes(
    old: Annotated[
        str,
        typer.Argument(
            metavar="OLD",
            help="A run, a step of openstack/openstack, a date, or revisions: `nova=master,neutron=1f2e`.",
        ),
    ],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The newer end, likewise.")],
    scenario: Annotated[
        str | None,
        typer.Option(help="Put first what this scenario goes through, such as NovaServers.list_servers."),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Show every change in the order of merging, not the suspects alone.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say which changes came after OLD up to NEW over all repositories, and which can matter.

    Suspects are what is left without tests, documents, release notes and what the cloud does not install,
    the most plausible first. The repositories are below git_base; a run is compared by the step of
    openstack/openstack that it deployed, or by the revisions of its services.
    """
    from perfci.runs.verdicts.what_changed import changes_of

    with errors_reported(as_json=as_json):
        settings = settings_for()
        found = changes_of(settings, state_folder().archive, old, new, scenario=scenario)
        if as_json:
            print_json(found.as_dict())
            return
        share = {one.place: f"{one.plausibility:.0%}" for one in found.suspects}
        why = {(one.project, one.commit): str(left) for one, left in found.left_out}
        numbered = list(enumerate(found.history.changes))
        shown = numbered if every else [(one.place, one.change) for one in found.suspects]
        print_table(
            ("suspect", "project", "commit", "merged", "author", "subject", "link"),
            [
                (
                    share.get(place) or why[one.project, one.commit],
                    one.project,
                    one.commit[:10],
                    f"{one.merged_at:%Y-%m-%d %H:%M}",
                    one.author.name if one.author else "-",
                    one.subject,
                    one.link,
                )
                for place, one in shown
            ],
            empty="No change can have reached the cloud.",
        )
        for line in found.remarks:
            typer.echo(line, err=True)
