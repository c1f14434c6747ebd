"""`perfci try`: whether a change is slower."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from perfci.cli.access import holder, lab_services
from perfci.cli.durations import parse_duration
from perfci.cli.options import Lab, complete_job
from perfci.cli.output import Json, errors_reported, print_json, print_table
from perfci.cli.side_by_side import Full
from perfci.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfci.runs.jobs.model import Job
    from perfci.runs.studies.change_sets import Sides
    from perfci.runs.studies.side_by_side import SideBySide
    from perfci.runs.verdicts.lab_services import LabServices

UNDECIDED = 3


class TryUnclear(UsageError):
    """Neither a job nor an alert was named, or both."""

    template = "name a job, or an alert with --alert"
    help = "`perfci try JOB --change ...`, or `perfci try --alert ALERT --change ...`."


def try_change(  # noqa: PLR0917 - typer takes them by name
    job: Annotated[
        str | None,
        typer.Argument(
            metavar="JOB",
            help="Name or path of a job file; left out with --alert.",
            autocompletion=complete_job,
        ),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SERVICE=CHANGE",
            help="A revision, branch or Gerrit ref, a folder, a patch file, or a pin (`oslo.db==18.0.0`).",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="SERVICE:SECTION.OPTION=VALUE", help="An option of the new side's configuration."
        ),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="SERVICE:SECTION.OPTION=VALUE", help="An option of the old side's."),
    ] = None,
    alert: Annotated[
        str | None,
        typer.Option(
            metavar="ALERT", help="Does it cure this alert? Its slow code, and its tasks alone, are the base."
        ),
    ] = None,
    scenario: Annotated[
        list[str] | None, typer.Option(metavar="TASK", help="Only these tasks of the job; left out: all.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="No run begins that would end later, such as 40m.")
    ] = None,
    runs: Annotated[
        int | None, typer.Option(min=1, max=200, help="At most so many runs; left out: the job's.")
    ] = None,
    side_by_side: Annotated[
        bool,
        typer.Option(
            "--side-by-side",
            help="Two clouds at a time, measured in pairs: shows small changes, of code alone.",
        ),
    ] = False,
    full: Full = False,
    comment: Annotated[bool, typer.Option("--comment", help="Print the table as text for a review.")] = False,
    lab: Lab = None,
    as_json: Json = False,
) -> None:
    """Say whether a change makes a job's scenarios slower.

    The job is deployed afresh without and with the change, in turns, until each scenario is `same` or
    `different`, or the budget is spent. The runs are archived under the job JOB-compare and in nobody's
    baseline; a try that was cut short goes on with them. A revision is compared with what it was made on.
    Before it starts it says what it costs, and what it could show as far as earlier runs tell.
    With --side-by-side both are deployed at the same time and their iterations are measured in pairs, until
    each scenario is slower, faster or the same within the job's `minimum_effect`.

    Exit code 0: nothing is slower.
    Exit code 1: something is slower.
    Exit code 2: the change or the job is wrong.
    Exit code 3: it could not be decided, or the lab can't do it now.
    Exit code 4: a git server or the package index did not answer.
    """
    from perfci.cli.progress import Terminal
    from perfci.cli.tables import compared_table
    from perfci.runs.jobs.load import load_job
    from perfci.runs.state.progress import Silent
    from perfci.runs.studies.change_sets import sides_of
    from perfci.runs.studies.compare import compare_jobs
    from perfci.runs.studies.forecast import forecast
    from perfci.runs.studies.try_change import cure_text, job_of_alert, limited, review_text

    with errors_reported(as_json=as_json):
        controller = lab_services(lab)
        minutes = None if budget is None else parse_duration(budget)
        if (job is None) == (alert is None):
            raise TryUnclear
        cured = job_of_alert(controller, alert) if alert is not None else None
        base = cured[0] if cured else load_job(job or "", controller.settings.jobs_dir)
        loaded = limited(base, scenarios=scenario or (), budget=minutes, runs=runs)
        sides = sides_of(
            controller.settings, loaded, changes=change or (), options=option or (), against=against or ()
        )
        limits, ahead = loaded.analysis.confirm, forecast(controller, loaded)
        if not as_json:
            for note in sides.notes:
                typer.echo(f"note    {note}", err=True)
            typer.echo(f"budget  {limits.most_runs} runs, {limits.most_minutes} min", err=True)
            if not side_by_side:
                typer.echo(f"ahead   {ahead.text if ahead else 'the job has never run here'}", err=True)
        if side_by_side:
            paired = _in_pairs(controller, sides, loaded, as_json=as_json)
            cures = cure_text(cured[1], paired) if cured else ""
            _print_pairs(paired, sides.notes, cures, full=full, comment=comment, as_json=as_json)
            raise typer.Exit(1 if paired.slower else UNDECIDED if paired.undecided else 0)
        if as_json:
            found = compare_jobs(
                controller, loaded, old=sides.old, new=sides.new, holder=holder(), progress=Silent()
            )
            cure = {"cure": cure_text(cured[1], found)} if cured else {}
            expected = ahead.as_dict() if ahead else None
            print_json({**found.as_dict(), "notes": list(sides.notes), "forecast": expected, **cure})
        else:
            with Terminal() as progress:
                found = compare_jobs(
                    controller, loaded, old=sides.old, new=sides.new, holder=holder(), progress=progress
                )
            if comment:
                typer.echo(review_text(found, sides.notes))
            else:
                print_table(*compared_table(found), empty="No run counted, so nothing was compared.")
                if found.ended:
                    typer.echo(f"ended   {found.ended}")
            if cured:
                typer.echo(cure_text(cured[1], found))
    raise typer.Exit(1 if found.slower else UNDECIDED if found.undecided else 0)


def _in_pairs(controller: LabServices, sides: Sides, job: Job, *, as_json: bool) -> SideBySide:
    """Measure side by side."""
    from perfci.cli.progress import Terminal
    from perfci.runs.state.progress import Silent
    from perfci.runs.studies.try_change import in_pairs

    if as_json:
        return in_pairs(controller, sides, job, holder=holder(), progress=Silent())
    with Terminal() as progress:
        return in_pairs(controller, sides, job, holder=holder(), progress=progress)


def _print_pairs(
    found: SideBySide, notes: Sequence[str], cure: str, *, full: bool, comment: bool, as_json: bool
) -> None:
    """Print what two clouds side by side have shown."""
    from perfci.cli.side_by_side import print_sides
    from perfci.runs.studies.pair_texts import pairs_review_text

    if as_json:
        more = {"cure": cure} if cure else {}
        print_json({**found.as_dict(), "notes": [*notes, *found.notes], **more})
        return
    if comment:
        typer.echo(pairs_review_text(found, notes))
    else:
        print_sides(found, full=full)
    if cure:
        typer.echo(cure)
