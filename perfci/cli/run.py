"""`perfci run`: one night of a job, and what nights left."""

from __future__ import annotations

from dataclasses import asdict
from itertools import islice
from typing import Annotated

import typer

from perfci.cli.access import holder, lab_services, settings_for, state_folder
from perfci.cli.groups import DEFAULT, DefaultCommand, DefaultGroup
from perfci.cli.options import Lab, RunId, complete_job, complete_run
from perfci.cli.output import (
    Json,
    errors_reported,
    on_terminal,
    print_by_heading,
    print_json,
    print_table,
    say,
)
from perfci.runs.jobs.cloud_kinds import Kind

app = typer.Typer(
    cls=DefaultGroup,
    no_args_is_help=True,
    help="Run a job (`perfci run nightly`), or look at runs (`perfci run list`).",
)

Cloud = Annotated[
    Kind | None,
    typer.Option(
        "--cloud", help="Deploy a cloud of this kind, whatever the job says. The job's name is then JOB-KIND."
    ),
]


@app.command(DEFAULT, cls=DefaultCommand, hidden=True)
def start(
    job: Annotated[
        str,
        typer.Argument(
            metavar="JOB", help="Name of a job in jobs/, or path of a job file.", autocompletion=complete_job
        ),
    ],
    lab: Lab = None,
    cloud: Cloud = None,
    reservation: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Use the nodes that this reservation holds for the night; `perfci tick` sets it.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a job once: reserve, deploy, hammer, archive, store, analyse, confirm, alert, publish.

    Exit code 0: the night ended well.
    Exit code 1: it failed, or found a regression.
    Exit code 2: the job or a setting is wrong.
    Exit code 3: the lab can't do it now: somebody holds the nodes, say.
    Exit code 5: everything that is slower is a known exception of the job.
    """
    from perfci.cli.outcome import outcome_as_dict, print_outcome
    from perfci.cli.progress import Terminal
    from perfci.runs.jobs.load import load_job
    from perfci.runs.night.assemble import night
    from perfci.runs.state.progress import Silent

    with errors_reported(as_json=as_json):
        settings = settings_for(lab)
        loaded = load_job(job, settings.jobs_dir)
        loaded = loaded.on(cloud) if cloud else loaded
        if as_json:
            outcome = night(loaded, settings, holder=holder(), progress=Silent(), planned=reservation).run()
            print_json(outcome_as_dict(outcome))
        else:
            with Terminal() as progress:
                outcome = night(
                    loaded, settings, holder=holder(), progress=progress, planned=reservation
                ).run()
            print_outcome(outcome, lab_services(lab))
    raise typer.Exit(outcome.exit_code)


@app.command("list")
def list_runs(
    job: Annotated[
        str | None, typer.Option(help="Only runs of this job.", autocompletion=complete_job)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many runs, newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """List archived runs with their verdicts, newest first.

    Exit code 0: success, even if there are none. perfci names runs with a damaged run.json and skips them.
    """
    from perfci.cli.runs_table import NEEDED, readable, runs_table, verdict_of
    from perfci.runs.state import archive as listing
    from perfci.runs.verdicts.judgement_store import read_outcomes
    from perfci.wording import counted

    with errors_reported(as_json=as_json):
        services = lab_services()
        archive = services.state.archive
        folders = [*listing.run_folders(archive), *listing.rerun_folders(archive)]
        folders.sort(key=lambda folder: folder.name, reverse=True)
        # Each run.json is read when it is asked for: an archive may have thousands.
        wanted = list(islice((one for one in readable(folders) if job in (None, one["job"])), limit))
        counts = read_outcomes(services.database, [one["run_id"] for one in wanted])
        if as_json:
            print_json([{**one, "verdict": verdict_of(one, counts.get(one["run_id"]))} for one in wanted])
        else:
            of_job = f" of the job {job}" if job else ""
            empty = f"No runs{of_job} in {archive} yet. Start one: perfci run {job or 'nightly'}"
            print_table(*runs_table(wanted, counts, brief=on_terminal()), empty=empty, needed=NEEDED)
            if on_terminal() and len(wanted) == limit < len(folders):
                say(f"These are the newest {counted(limit, 'run')}; --limit lists more.")


@app.command()
def show(
    run_id: RunId = "last",
    against: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Show how its code, packages and environment differ from this run's.",
            autocompletion=complete_run,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show one run: what ran, how long each stage took, why it failed."""
    from perfci.cli.run_text import run_lines
    from perfci.runs.publish.site_data import report_of
    from perfci.runs.state import archive as listing
    from perfci.runs.state.archived_run import ArchivedRun
    from perfci.runs.studies.run_diff import moves
    from perfci.runs.verdicts.confirmation_store import read_answers

    with errors_reported(as_json=as_json):
        controller = lab_services()
        run = ArchivedRun(listing.find_run(controller.state.archive, run_id))
        document = run.document
        answers = read_answers(controller.database, [document["run_id"]])
        other = (
            ArchivedRun(listing.find_run(controller.state.archive, against)).document if against else document
        )
        differences = moves(other, document)
        report = report_of(controller.database, controller.state.root, run, controller.alerts.load().alerts)
        if as_json:
            found = {
                "confirmations": [asdict(one) for one in answers],
                "differences": [
                    {"place": one.place, "before": one.before, "after": one.after} for one in differences
                ],
                "fills": [asdict(one) for one in report.curves],
                "rates": [asdict(one) for one in report.rates],
                "leftovers": [
                    {"task": one.slug, "left": one.kinds, "error": one.error} for one in report.swept
                ],
            }
            print_json({**document, "folder": run.folder, **found})
        else:
            for line in run_lines(document, run.folder, answers, differences, report):
                say(line)
            if against and not differences:
                typer.echo(f"differs      in nothing from {other['run_id']}")


@app.command()
def compare(
    before: Annotated[
        str,
        typer.Argument(
            metavar="BEFORE", help="The older run: any part of its id.", autocompletion=complete_run
        ),
    ],
    after: Annotated[
        str,
        typer.Argument(
            metavar="AFTER",
            help="The newer run, in the same form; or last, yesterday.",
            autocompletion=complete_run,
        ),
    ] = "last",
    series: Annotated[
        str,
        typer.Option(
            "--series", metavar="NAME", help="Only series with this in their name, with all deciles."
        ),
    ] = "",
    full: Annotated[
        bool, typer.Option("--full", help="Also show series that have not clearly moved.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare any two runs: code and packages, how far each timing moved, counters.

    The intervals cover only the iterations of the two runs. They leave out the luck of a deployment, which
    verdicts include, so unchanged code can differ by more.
    """
    from perfci.cli.tables import counters_table, deciles_table, moved_table, shifts_table
    from perfci.pages import comparison
    from perfci.runs.state.archive import find_run
    from perfci.runs.state.archived_run import ArchivedRun
    from perfci.runs.studies.compare_runs import compare_runs

    with errors_reported(as_json=as_json):
        state = state_folder()
        old, new = (ArchivedRun(find_run(state.archive, one)) for one in (before, after))
        found = compare_runs(old, new, series)
        if as_json:
            print_json(found.as_dict())
            return
        for name, run, valid in zip(("before", "after"), (old, new), found.valid, strict=True):
            typer.echo(f"{name:<8}{run.run_id}{'' if valid else ' (the lab was not fit to measure)'}")
        if (state.site / comparison(old.run_id, new.run_id).partition("#")[0]).is_file():
            typer.echo(f"page    {state.site / comparison(old.run_id, new.run_id)}")
        typer.echo("")
        print_table(*moved_table(found.moved), empty="Code, packages and environment are the same.")
        shown = [one for one in found.timings if full or series or one.middle.is_certain]
        typer.echo("")
        numbers = ("shift", "95 % interval", "change")
        moved = "No median of a timing has clearly moved."
        print_by_heading(*shifts_table(shown), empty=moved, needed=2, numbers=numbers)
        if len(shown) < len(found.timings):
            typer.echo(
                f"{len(found.timings) - len(shown)} more timings have not clearly moved: --full shows them."
            )
        for one in shown if series else ():
            typer.echo("")
            print_table(*deciles_table(one), empty="")
        typer.echo("")
        counters = counters_table(found.counters, full=full or bool(series))
        print_by_heading(*counters, empty="No counter differs by 1 % or more.", needed=2, numbers=numbers)


@app.command()
def reproduce(run_id: RunId = "last", lab: Lab = None, as_json: Json = False) -> None:
    """Run the same job with the same code again, and compare the two runs series by series.

    perfci archives the new run under the job `<job>-reproduce`, so it never enters a baseline.

    Exit code 0: the new run ended well.
    Exit code 1: the new run failed.
    """
    from perfci.cli.progress import Terminal
    from perfci.cli.tables import reproduced_table
    from perfci.runs.state.archive import find_run
    from perfci.runs.state.progress import Silent
    from perfci.runs.studies.reproduce import reproduce as again

    with errors_reported(as_json=as_json):
        settings = settings_for(lab)
        folder = find_run(state_folder().archive, run_id)
        if as_json:
            comparison = again(folder, settings, holder=holder(), progress=Silent())
            print_json(comparison.as_dict())
        else:
            with Terminal() as progress:
                comparison = again(folder, settings, holder=holder(), progress=progress)
            print_table(*reproduced_table(comparison), empty="Nothing was measured in both runs.")
    raise typer.Exit(comparison.exit_code)
