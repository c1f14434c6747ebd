"""`perfci try`: whether a change is slower."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from perfci.cli.access import holder, lab_services
from perfci.cli.durations import parse_duration
from perfci.cli.options import Lab, complete_job
from perfci.cli.output import Json, errors_reported, print_json, print_table
from perfci.cli.side_by_side import Full
from perfci.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perfci.runs.jobs.model import Job
    from perfci.runs.studies.change_sets import Sides
    from perfci.runs.studies.side_by_side import SideBySide
    from perfci.runs.verdicts.lab_services import LabServices

UNDECIDED = 3


class TryUnclear(UsageError):
    """The command names neither a job nor an alert, or both."""

    template = "name a job, or an alert with --alert"
    help = "Run `perfci try JOB --change ...` or `perfci try --alert ALERT --change ...`."


def try_change(  # noqa: PLR0917 - typer takes them by name
    job: Annotated[
        str | None,
        typer.Argument(
            metavar="JOB",
            help="Name or path of a job file; leave it out with --alert.",
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
            metavar="ALERT",
            help="Does the change fix this alert? Its slow code is the base, and only its tasks run.",
        ),
    ] = None,
    scenario: Annotated[
        list[str] | None, typer.Option(metavar="TASK", help="Only these tasks of the job. Default: all.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Start no run that would end after this time, such as 40m."),
    ] = None,
    runs: Annotated[
        int | None, typer.Option(min=1, max=200, help="At most this many runs. Default: the job's limit.")
    ] = None,
    side_by_side: Annotated[
        bool | None,
        typer.Option(
            "--side-by-side/--in-turns",
            help="Measure two clouds at a time, in pairs, or one after the other. "
            "Default: pairs where two clouds fit; they show smaller changes.",
            show_default=False,
        ),
    ] = None,
    full: Full = False,
    comment: Annotated[bool, typer.Option("--comment", help="Print the table as text for a review.")] = False,
    lab: Lab = None,
    as_json: Json = False,
) -> None:
    """Say whether a change makes a job's scenarios slower.

    perfci deploys the job afresh without and with the change, side by side, and measures their iterations in
    pairs, until each scenario is slower, faster or the same within the job's `minimum_effect`, or the budget
    is spent. Where two clouds do not fit, it deploys them in turns. It compares a revision with the one that
    it was made on. Before it starts, it estimates what the try costs and how small a change it can show. It
    archives the runs under the job JOB-compare, outside every baseline. An interrupted try continues with
    them.

    Exit code 0: nothing is slower.
    Exit code 1: something is slower.
    Exit code 2: the change or the job is wrong.
    Exit code 3: perfci could not decide, or the lab can't do it now.
    Exit code 4: a git server or the package index did not answer.
    """
    from perfci.cli.progress import Terminal
    from perfci.cli.tables import compared_table
    from perfci.runs.jobs.load import load_job
    from perfci.runs.night.reference import two_fit
    from perfci.runs.state.progress import Silent
    from perfci.runs.studies.change_sets import sides_of
    from perfci.runs.studies.compare import compare_jobs
    from perfci.runs.studies.forecast import forecast, paired_forecast
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
        in_pairs = two_fit(loaded, controller.settings) if side_by_side is None else side_by_side
        limits = loaded.analysis.confirm
        ahead = paired_forecast(controller, loaded) if in_pairs else forecast(controller, loaded)
        if not as_json:
            for note in sides.notes:
                typer.echo(f"note    {note}", err=True)
            typer.echo(f"budget  {limits.most_runs} runs, {limits.most_minutes} min", err=True)
            typer.echo(f"ahead   {ahead.text if ahead else 'the job has never run here'}", err=True)
        if in_pairs:
            paired = _in_pairs(controller, sides, loaded, as_json=as_json)
            cures = cure_text(cured[1], paired) if cured else ""
            more = {"forecast": ahead.as_dict() if ahead else None, **({"cure": cures} if cures else {})}
            _print_pairs(paired, sides.notes, more, full=full, comment=comment, as_json=as_json)
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
    found: SideBySide,
    notes: Sequence[str],
    more: Mapping[str, Any],
    *,
    full: bool,
    comment: bool,
    as_json: bool,
) -> None:
    """Print what two clouds side by side have shown; `more` is the forecast, and what is cured."""
    from perfci.cli.side_by_side import print_sides
    from perfci.runs.studies.pair_texts import pairs_review_text

    if as_json:
        print_json({**found.as_dict(), "notes": [*notes, *found.notes], **more})
        return
    if comment:
        typer.echo(pairs_review_text(found, notes))
    else:
        print_sides(found, full=full)
    if "cure" in more:
        typer.echo(more["cure"])
