"""`perfci pins`: exact versions, what moved between two runs, and moving one of them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from perfci.cli.access import holder, lab_services, settings_for, state_folder
from perfci.cli.options import Lab, RunId, complete_job, complete_run
from perfci.cli.output import Json, errors_reported, print_json, print_table

if TYPE_CHECKING:
    from perfci.runs.state.progress import Progress
    from perfci.runs.studies.bump import Bump
    from perfci.runs.verdicts.lab_services import LabServices

app = typer.Typer(
    no_args_is_help=True,
    help="Exact versions: the pins that clouds are deployed from, and what runs deployed.",
)


@app.command()
def show(
    run_id: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]",
            help="Show what this run deployed. Default: the project's pins.",
            autocompletion=complete_run,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the exact version of every package, as pinned or as a run deployed it."""
    from perfci.runs.state.archive import find_run
    from perfci.runs.state.archived_run import ArchivedRun
    from perfci.runs.studies.pins import CONSTRAINTS, read_pins

    with errors_reported(as_json=as_json):
        if run_id is None:
            file = settings_for().root_dir / CONSTRAINTS
            where, versions = {"file": str(file)}, read_pins(file.read_text(encoding="utf-8"))
        else:
            document = ArchivedRun(find_run(state_folder().archive, run_id)).document
            where, versions = {"run": document["run_id"]}, document.get("versions", {})
        if as_json:
            print_json({**where, "pins": versions})
        else:
            empty = "The run ended before anything was installed."
            print_table(("package", "version"), sorted(versions.items()), empty=empty)


@app.command()
def diff(before: RunId, after: RunId, as_json: Json = False) -> None:
    """Show what changed between two runs: code under test, packages, the rest of the environment."""
    from perfci.cli.tables import moved_table
    from perfci.runs.state.archive import find_run
    from perfci.runs.state.archived_run import ArchivedRun
    from perfci.runs.studies.run_diff import moves

    with errors_reported(as_json=as_json):
        archive = state_folder().archive
        documents = [ArchivedRun(find_run(archive, one)).document for one in (before, after)]
        found = moves(*documents)
        if as_json:
            runs = [document["run_id"] for document in documents]
            print_json({"before": runs[0], "after": runs[1], "moved": [asdict(one) for one in found]})
        else:
            print_table(*moved_table(found), empty="Nothing moved between them.")


@app.command("bump")
def move(  # noqa: PLR0917 - typer takes them by name
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of a package that has a pin.")],
    version: Annotated[str, typer.Argument(metavar="VERSION", help="The exact version to move it to.")],
    job: Annotated[
        str,
        typer.Option(
            metavar="JOB",
            help="Job to measure with the old and the new pin.",
            autocompletion=complete_job,
        ),
    ] = "nightly",
    no_compare: Annotated[
        bool, typer.Option("--no-compare", help="Only check that the pins resolve, and move it.")
    ] = False,
    lab: Lab = None,
    as_json: Json = False,
) -> None:
    """Move one pin, and say what it changes in each scenario of a job.

    The pins must still resolve, with a pin for every package. perfci then deploys the job afresh with the old
    and the new pin, side by side where two clouds fit, else in turns, until each scenario is decided or the
    job's analysis.confirm allows no more. It changes the project's file only at the end.

    Exit code 0: the pin was moved, and nothing is slower.
    Exit code 1: the pin was moved, and a scenario is slower, or none could be measured.
    Exit code 2: the pins do not resolve with this version, or there is no such pin or job.
    Exit code 4: the package index did not answer.
    """
    from perfci.cli.progress import Terminal
    from perfci.runs.state.progress import Silent

    with errors_reported(as_json=as_json):
        controller = lab_services(lab)
        if as_json:
            found = _moved(controller, name, version, None if no_compare else job, Silent())
            print_json(found.as_dict())
        else:
            with Terminal() as progress:
                found = _moved(controller, name, version, None if no_compare else job, progress)
            _print(found)
    compared = found.compared
    raise typer.Exit(int(compared is not None and (compared.slower or not compared.runs)))


def _moved(controller: LabServices, name: str, version: str, job: str | None, progress: Progress) -> Bump:
    from perfci.runs.jobs.load import load_job
    from perfci.runs.studies.bump import bump

    loaded = load_job(job, controller.settings.jobs_dir) if job is not None else None
    return bump(controller, name, version, loaded, holder=holder(), progress=progress)


def _print(found: Bump) -> None:
    from perfci.cli.side_by_side import print_sides
    from perfci.cli.tables import compared_table
    from perfci.runs.studies.side_by_side import SideBySide

    move, compared = found.move, found.compared
    if isinstance(compared, SideBySide):
        print_sides(compared, full=False)
    elif compared is not None:
        print_table(*compared_table(compared), empty="No run counted, so nothing was compared.")
        if compared.ended:
            typer.echo(f"ended   {compared.ended}")
    typer.echo(f"moved   {move.name} {move.before} -> {move.after} in {found.file}")
    typer.echo(f"keep    git commit -m 'Move {move.name} to {move.after}' {found.file}")
    typer.echo(f"undo    {found.undo}")
