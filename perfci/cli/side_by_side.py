"""`perfci side-by-side`: two codes on two clouds beside each other, measured in pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from perfci.cli.access import holder, lab_services
from perfci.cli.options import Lab, complete_job, complete_run
from perfci.cli.output import Json, errors_reported, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfci.runs.state.progress import Progress
    from perfci.runs.studies.side_by_side import Budget, SideBySide
    from perfci.runs.verdicts.lab_services import LabServices

Full = Annotated[
    bool, typer.Option("--full", help="List the counters that hardly differ, too. --json always has them.")
]
CODE = "`neutron=29.0.1` a release, `neutron=URL@REF` a git revision, `neutron=pinned` the pinned release."
CODE = (
    "A release (`neutron=29.0.1`), a git revision (`neutron=URL@REF`) or the pinned one (`neutron=pinned`)."
)


def side_by_side(  # noqa: PLR0917 - typer takes them by name
    job: Annotated[
        str, typer.Argument(metavar="JOB", help="Name or path of a job file.", autocompletion=complete_job)
    ] = "nightly",
    old: Annotated[
        list[str] | None,
        typer.Option(metavar="SERVICE=CODE", help=f"Code of the old side. Default: the job's. {CODE}"),
    ] = None,
    new: Annotated[
        list[str] | None,
        typer.Option(metavar="SERVICE=CODE", help="Code of the new side, in the same forms."),
    ] = None,
    within: Annotated[
        float,
        typer.Option(min=0.5, max=100, help="How close both sides must be to count as the same, in percent."),
    ] = 5.0,
    draws: Annotated[int, typer.Option(min=1, max=100, help="At most this many fresh deployments.")] = 6,
    minutes: Annotated[
        int, typer.Option(min=1, max=1440, help="Start no draw that would end after this many minutes.")
    ] = 60,
    runs: Annotated[
        list[str] | None,
        typer.Option(
            "--run",
            metavar="RUN",
            help="Run nothing, and judge the pairs of this archived run; may be repeated.",
            autocompletion=complete_run,
        ),
    ] = None,
    full: Full = False,
    lab: Lab = None,
    as_json: Json = False,
) -> None:
    """Deploy two clouds beside each other, hammer them in lock-step, and say what differs.

    Each iteration runs on both sides within the same second, so whatever the machine does to both cancels
    out. perfci deploys both sides afresh, draw after draw, until each scenario is `slower`, `faster` or `same
    within x %`. If the allowed draws run out first, the scenario is `unknown`. Without --old and --new, both
    sides are the same code. With --run, perfci deploys nothing and judges the pairs of archived runs.

    Exit code 0: nothing is proven slower.
    Exit code 1: something is proven slower.
    Exit code 3: the lab can't do it now: it has too little memory, say.
    """
    from perfci.cli.progress import Terminal
    from perfci.runs.state.progress import Silent
    from perfci.runs.studies.side_by_side import Budget

    with errors_reported(as_json=as_json):
        controller, budget = lab_services(lab), Budget(draws, minutes)
        if runs:
            found = _judged(controller, runs, within)
            print_json(found.as_dict()) if as_json else print_sides(found, full=full)
        elif as_json:
            found = _measured(controller, job, (old or (), new or ()), within, budget, Silent())
            print_json(found.as_dict())
        else:
            with Terminal() as progress:
                found = _measured(controller, job, (old or (), new or ()), within, budget, progress)
            print_sides(found, full=full)
    raise typer.Exit(int(found.slower))


def _measured(  # noqa: PLR0917 - one caller
    controller: LabServices,
    job: str,
    code: tuple[Sequence[str], Sequence[str]],
    within: float,
    budget: Budget,
    progress: Progress,
) -> SideBySide:
    from perfci.analysis.pair_decision import PairSettings
    from perfci.runs.jobs.code_options import parse_code
    from perfci.runs.jobs.load import load_job
    from perfci.runs.studies import side_by_side as study

    old, new = map(parse_code, code)
    return study.side_by_side(
        controller,
        load_job(job, controller.settings.jobs_dir),
        old=old,
        new=new,
        settings=PairSettings(within=within / 100),
        budget=budget,
        holder=holder(),
        progress=progress,
    )


def _judged(controller: LabServices, runs: Sequence[str], within: float) -> SideBySide:
    from perfci.analysis.pair_decision import PairSettings
    from perfci.runs.state.archive import find_run
    from perfci.runs.studies.side_by_side import from_archive

    folders = [find_run(controller.state.archive, one) for one in runs]
    return from_archive(folders, PairSettings(within=within / 100))


def print_sides(found: SideBySide, *, full: bool) -> None:
    """Print what a comparison of two sides has shown: the answer, timings, and the counters that moved."""
    from perfci.cli.tables import paired_counters_table, paired_timings_table
    from perfci.runs.studies.pair_texts import answer, moved_counters
    from perfci.wording import counted

    typer.echo(f"answer  {answer(found)}")
    typer.echo("")
    print_table(*paired_timings_table(found), empty="Nothing was paired.")
    typer.echo("")
    shown = found.counters if full else moved_counters(found)
    if shown:
        print_table(*paired_counters_table(shown), empty="")
    if left_out := len(found.counters) - len(shown):
        typer.echo(f"{counted(left_out, 'counter')} hardly differ; --full lists them.")
    elif not found.counters:
        typer.echo("Nothing was counted on both sides.")
    typer.echo("")
    for note in found.notes:
        typer.echo(f"note    {note}")
    if found.ended:
        typer.echo(f"ended   {found.ended}")
    typer.echo(f"runs    {' '.join(found.runs)}")
