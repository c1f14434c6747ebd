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
    new: Annotated[str, typer.Argument(metavar="NEW", help="The newer end, in the same forms.")],
    scenario: Annotated[
        str | None,
        typer.Option(help="Rank changes first that concern this scenario, such as NovaServers.list_servers."),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Show every change in merge order, not only the suspects.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the changes after OLD up to NEW in all repositories, and say which of them can matter.

    Suspects are the changes that remain without tests, documents, release notes and code that the cloud does
    not install, the most plausible first. The repositories are below git_base. perfci compares runs by the
    steps of openstack/openstack that they deployed, or by the revisions of their services.
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
