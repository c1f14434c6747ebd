"""`perfci bisect`: which change made something slower."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from perfci import pages
from perfci.cli.access import holder, lab_services
from perfci.cli.durations import parse_duration
from perfci.cli.options import Lab
from perfci.cli.output import Json, errors_reported, print_json, print_table
from perfci.errors import UsageError
from perfci.validation import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfci.alerts.bisect_story import BisectStory
    from perfci.runs.studies.bisect_question import AskedBisect
    from perfci.runs.verdicts.lab_services import LabServices

_JOB_AND_ENDS = 3
_LATER = 3


class BisectUnclear(UsageError):
    """The arguments of a bisect are in none of the accepted forms."""

    template = "{reason}"
    help = (
        "Run `perfci bisect ALERT` or `perfci bisect JOB GOOD BAD`; `perfci bisect --help` shows the options."
    )


def bisect(  # noqa: PLR0917 - typer takes them by name
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ALERT | JOB GOOD BAD",
            help="An alert; or a job and two ends: runs, steps, dates or revisions, as for `perfci changes`.",
        ),
    ] = None,
    due: Annotated[
        bool,
        typer.Option(
            "--due",
            help="Bisect each alert whose job asks for it (analysis.bisect); give the nodes up to others.",
        ),
    ] = False,
    scenario: Annotated[
        str | None, typer.Option(metavar="TASK", help="Task of the job. Default: its only one.")
    ] = None,
    action: Annotated[
        str, typer.Option(help="Action of the task, or service whose counter is compared.")
    ] = "total",
    metric: Annotated[str, typer.Option(help="Metric to compare, such as sql_statements.")] = "seconds",
    budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Start no run that would end after this time, such as 2h."),
    ] = None,
    runs: Annotated[
        int, typer.Option(min=2, max=500, help="At most this many runs, including earlier ones.")
    ] = 60,
    mail: Annotated[
        bool, typer.Option("--mail/--no-mail", help="Mail an answer in the thread of the alert.")
    ] = True,
    lab: Lab = None,
    as_json: Json = False,
) -> None:
    """Find the change that made something slower, and prove it.

    perfci measures both ends first, then the revisions between them that tell it most, each in a fresh
    deployment. It names a change at a probability of 99 %, once the change is slower than its parent in
    separate runs, and reverting it makes the newest revision fast again. It archives the runs under the job
    JOB-bisect, outside every baseline. An interrupted bisect continues with them.

    With --due, perfci bisects the confirmed alerts that were not bisected yet, one after another. If somebody
    needs the nodes meanwhile, the bisect gives them up at once, and the next start continues. Run it from a
    timer.

    Exit code 0: there is an answer: one change, several, or none. With --due: nothing is left to bisect.
    Exit code 2: the alert, the job or an end is wrong, or there is no suspect.
    Exit code 3: perfci could not decide, or the lab can't do it now.
    Exit code 4: a git server or the package index did not answer.
    """
    from perfci.cli.progress import Terminal
    from perfci.runs.publish.notify import deliver as send_waiting
    from perfci.runs.publish.notify import post_bisect
    from perfci.runs.publish.site_data import write_site
    from perfci.runs.state.progress import Silent
    from perfci.runs.studies.bisect import bisect as measure
    from perfci.runs.studies.bisect import keep_found
    from perfci.runs.studies.bisect_told import story_of

    with errors_reported(as_json=as_json):
        services = lab_services(lab)
        if due == bool(what):
            raise BisectUnclear(reason="name an alert, or a job and its good and bad end, or use --due")
        until = None if budget is None else datetime.now(UTC) + parse_duration(budget)
        if due:
            raise typer.Exit(_due(services, until, runs, as_json=as_json))
        asked = _asked(services, what or (), _Series(scenario, action, metric), runs)
        if as_json:
            found = measure(services, asked, holder=holder(), progress=Silent(), until=until)
        else:
            for note in asked.notes:
                typer.echo(f"note    {note}", err=True)
            with Terminal() as progress:
                found = measure(services, asked, holder=holder(), progress=progress, until=until)
        if found.error is not None:
            raise found.error
        story = story_of(found)
        if mail and asked.alert is not None and found.exit_code == 0:
            post_bisect(services, asked.alert, story)
            send_waiting(services)
        shown = {"picture": keep_found(services, asked.alert, story), "page": None}
        if asked.alert is not None:
            write_site(services)
            shown["page"] = services.state.site / pages.alert_page(asked.alert.id)
        if as_json:
            print_json({**story.as_dict(), **shown})
        else:
            _print(story)
            for name, file in shown.items():
                typer.echo(f"{name:<10}{file}" if file else "", nl=bool(file))
    raise typer.Exit(found.exit_code)


def _due(services: LabServices, until: datetime | None, runs: int, *, as_json: bool) -> int:
    from perfci.cli.progress import Terminal
    from perfci.runs.state.progress import Silent
    from perfci.runs.studies.bisect_due import bisect_due, rows

    if as_json:
        end = bisect_due(services, holder=holder(), progress=Silent(), until=until, most_runs=runs)
        alerts = [
            {
                "alert": one.alert,
                "done": one.done,
                "reason": one.reason,
                "bisect": one.story.as_dict() if one.story else None,
            }
            for one in end.found
        ]
        print_json({"alerts": alerts, "stopped": end.stopped})
    else:
        with Terminal() as progress:
            end = bisect_due(services, holder=holder(), progress=progress, until=until, most_runs=runs)
        print_table(("alert", "what became of it"), rows(end), empty="No alert is due.")
    return _LATER if end.stopped else 0


class _Series(NamedTuple):
    """Which series of the job is measured."""

    scenario: str | None
    action: str
    metric: str


def _asked(services: LabServices, what: Sequence[str], series: _Series, runs: int) -> AskedBisect:
    from perfci.results.model import Metric
    from perfci.runs.studies.bisect_question import of_alert, of_words

    if len(what) == 1:
        return of_alert(services, what[0], most_runs=runs)
    if len(what) != _JOB_AND_ENDS:
        raise BisectUnclear(reason="name an alert, or a job and its good and bad end")
    known = [str(one) for one in Metric]
    if series.metric not in known:
        raise BisectUnclear(reason=f"no metric {series.metric!r}; {nearest(series.metric, known)}")
    return of_words(
        services,
        *what,
        scenario=series.scenario,
        action=series.action,
        metric=Metric(series.metric),
        most_runs=runs,
    )


def _print(story: BisectStory) -> None:
    from perfci.alerts.bisect_mail import measured_table

    for one in (story, *([story.inside] if story.inside else [])):
        table = measured_table(one)
        columns = (table.about, *table.columns, "subject")
        print_table(
            columns,
            [(row.title, *row.cells, row.subtitle) for row in table.rows],
            empty="Nothing could be measured.",
        )
    for remark in story.remarks:
        typer.echo(remark, err=True)
    typer.echo(f"verdict   {story.verdict}")
    for change in story.culprits:
        typer.echo(f"change    {change.link}")
    typer.echo(f"again     {story.command}")
