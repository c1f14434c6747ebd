"""`perfci analyse`: what a run's numbers mean, what a history holds, and what it could have shown."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perfci.cli.access import lab_services
from perfci.cli.groups import DEFAULT, DefaultCommand, DefaultGroup
from perfci.cli.options import RunId, complete_job
from perfci.cli.output import (
    Json,
    errors_reported,
    print_dropped,
    print_guessed,
    print_json,
    print_table,
)
from perfci.errors import UsageError

if TYPE_CHECKING:
    from perfci.runs.studies.change_points import Column


class SeriesUnknown(UsageError):
    """No series of the job has this in its name."""

    template = "no series of {job} has {wanted!r} in its name"
    help = "`perfci analyse --full` lists the series; a part of scenario, action or metric is enough."


class HistoryUnclear(UsageError):
    """The command names more than one source of histories."""

    template = "expected at most one of SERIES, --csv and --otava"
    help = "`perfci analyse changepoints --help` shows the three forms."


class _Group(DefaultGroup):
    """Without any word it is its default command: the last run is judged."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See DefaultGroup."""
        return super().parse_args(ctx, args or ([] if ctx.resilient_parsing else [DEFAULT]))


app = typer.Typer(
    cls=_Group,
    help="Judge a run against its history, find changes in whole histories, or check what perfci would "
    "find.\n\n`perfci analyse` judges the last run, `perfci analyse RUN` another one; `--full` lists "
    'every series. `perfci analyse --what-if "+5 %"` says which steps perfci would have found in the '
    "archived history, and when.",
)

Job = Annotated[
    str | None,
    typer.Option(help="Name of the job. Default: the one that ran last.", autocompletion=complete_job),
]


@app.command(DEFAULT, cls=DefaultCommand, hidden=True)
def analyse(  # noqa: PLR0917 - typer takes them by name
    run_id: RunId = "last",
    full: Annotated[bool, typer.Option("--full", help="Also list series that did not change.")] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Judge all nights that were never judged, and no others.")
    ] = False,
    what_if: Annotated[
        str | None,
        typer.Option("--what-if", metavar="STEP", help='Put steps like "+5 %" or "20ms" into the history.'),
    ] = None,
    job: Annotated[
        str | None,
        typer.Option(
            help="With --what-if: name of the job. Default: the one that ran last.",
            autocompletion=complete_job,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Judge every series of a run against its history. It sends no mail; `perfci run` does.

    With --all, perfci judges every night that was never judged, such as ingested runs, and prints the
    verdict of each. The exit code is then that of all these nights together, and 0 if there was none.

    With --what-if, perfci judges no run. It puts steps into the archived history at many nights, and says for
    each series which share of them it finds, and when. This takes at most two minutes.

    Exit code 0: nothing is slower.
    Exit code 1: something is slower.
    Exit code 5: everything that is slower is a known exception of the job.
    """
    if what_if is not None:
        _what_if(what_if, job, as_json=as_json)
        return
    if every:
        raise typer.Exit(_judge_all(as_json=as_json))
    from perfci.runs.state.archive import find_run
    from perfci.runs.verdicts import judge as judging
    from perfci.runs.verdicts.judgement_store import keep_judgements

    with errors_reported(as_json=as_json):
        controller = lab_services()
        run = controller.archived(find_run(controller.state.archive, run_id).name)
        results = run.results
        controller.local.write(results)
        judgements = judging.judge_run(controller, results.record)
        keep_judgements(controller.database, results.record.run_id, judgements)
        if as_json:
            print_json(judging.as_json(judgements))
        else:
            from rich.console import Console

            from perfci.cli.verdicts import show_judgements

            empty = f"{results.record.run_id} has measured nothing, so there is nothing to judge."
            show_judgements(Console(), judgements, full=full, empty=empty)
            print_dropped(results.dropped)
        print_guessed(controller.guessed.values())
    raise typer.Exit(judging.exit_code(judgements))


@app.command()
def changepoints(  # noqa: PLR0917 - typer takes them by name
    series: Annotated[
        str, typer.Argument(metavar="SERIES", help="Only series with this in their name.")
    ] = "",
    job: Job = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="A CSV file: run or time, then numbers.")
    ] = None,
    otava: Annotated[
        Path | None, typer.Option("--otava", metavar="FILE", help="A CSV file as Apache Otava reads it.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="COLUMN=VALUE",
            help="With --otava: only lines with this value, such as branch=main.",
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Also show changes too small to matter, and all columns.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Find level changes in whole histories, each with its date, size and certainty.

    perfci reads the job's series, or the columns of a CSV file: `run,a,b` with one line per run, or Otava's
    form with a header, a column `time`, and attributes such as `commit` among the metrics. A file with runs
    of several branches needs --only. perfci leaves out changes in the job's series that no verdict would
    report, such as a few CPU milliseconds.

    Exit code 0: success, even if nothing changed.
    Exit code 2: there is no such series, or the file can't be read.
    """
    from perfci.cli.output import on_terminal, print_sections
    from perfci.cli.tables import changes_table
    from perfci.runs.studies.change_points import find_changes
    from perfci.wording import counted

    with errors_reported(as_json=as_json):
        if sum((bool(series), csv is not None, otava is not None)) > 1:
            raise HistoryUnclear
        columns = _columns(series, job, csv, otava, only or [])
        found = list(find_changes(columns, full=full))
        table = changes_table(found)
        if as_json:
            print_json([change.as_dict() for change in found])
        elif found and on_terminal():
            numbers = ("change", "before", "after", "p", "95 % interval")
            rows = [(name, tuple(cells)) for name, *cells in table.rows]
            print_sections(
                table.columns[1:],
                rows,
                needed=len(table.columns) - 1 if full else 5,
                numbers=numbers,
                stay=("change",),
            )
        else:
            empty = f"No level changes that matter in {counted(len(columns), 'series')}."
            print_table(*table, empty=empty)


def _columns(
    series: str, job: str | None, csv: Path | None, otava: Path | None, only: list[str]
) -> list[Column]:
    from perfci.runs.studies.change_points import column_of
    from perfci.runs.studies.history_csv import read_csv
    from perfci.runs.studies.job_history import past

    file = csv or otava
    if file is not None:
        return read_csv(
            file,
            otava=otava is not None,
            only=only,
            on_note=lambda note: typer.echo(f"{file}: {note}", err=True),
        )
    looked_at = past(lab_services(), job)
    wanted = [one for one in looked_at.series if series.lower() in one.key.label.lower()]
    if not wanted:
        raise SeriesUnknown(job=looked_at.last.job, wanted=series)
    return [column_of(one) for one in wanted]


def _judge_all(*, as_json: bool) -> int:
    """Judge the nights that were never judged, print their verdicts, and return the exit code of them all."""
    from perfci.cli.progress import Terminal
    from perfci.cli.runs_table import verdict_of
    from perfci.runs.state.progress import Silent
    from perfci.runs.verdicts.judge import exit_code_of
    from perfci.runs.verdicts.judgement_store import read_outcomes
    from perfci.runs.verdicts.rebuild import judge_all
    from perfci.wording import counted

    with errors_reported(as_json=as_json):
        controller = lab_services()
        if as_json:
            judged = judge_all(controller, Silent().step)
        else:
            with Terminal() as progress:
                since = time.monotonic()
                progress.begin("analyse")
                judged = judge_all(controller, progress.step)
                note = f"{counted(len(judged), 'night')} judged"
                progress.end("analyse", note, time.monotonic() - since, ok=True)
        outcomes = read_outcomes(controller.database, judged)
        documents = [controller.archived(one).document for one in judged]
        verdicts = [(one["run_id"], verdict_of(one, outcomes.get(one["run_id"]))) for one in documents]
        if as_json:
            print_json({"judged": [{"run_id": run_id, "verdict": verdict} for run_id, verdict in verdicts]})
        else:
            print_table(("run", "verdict"), verdicts, empty="No night was left to judge.")
            if judged:
                typer.echo("`perfci report` shows them on the pages.", err=True)
        print_guessed(controller.guessed.values())
    return exit_code_of(one for count in outcomes.values() for one, number in count.items() if number)


def _what_if(step: str, job: str | None, *, as_json: bool) -> None:
    from perfci.cli.progress import Terminal
    from perfci.cli.tables import what_if_lines, what_if_table
    from perfci.runs.state.progress import Silent
    from perfci.runs.studies.what_if import what_if as try_steps

    with errors_reported(as_json=as_json):
        controller = lab_services()
        if as_json:
            print_json(try_steps(controller, step, job=job, on_step=Silent().step).as_dict())
            return
        with Terminal() as progress:
            since = time.monotonic()
            progress.begin("what-if")
            report = try_steps(controller, step, job=job, on_step=progress.step)
            note = f"{report.trials} trials over {report.nights} nights"
            progress.end("what-if", note, time.monotonic() - since, ok=True)
        print_table(*what_if_table(report), empty="No series could be tried.")
        for line in what_if_lines(report):
            typer.echo(line)
