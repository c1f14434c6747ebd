"""`perfci run`: one night of a job, and what nights left."""

from __future__ import annotations

import getpass
import socket
from dataclasses import asdict
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perfci import config, wording
from perfci.cli.groups import DefaultGroup
from perfci.cli.outcome import outcome_as_dict, print_outcome
from perfci.cli.output import Json, errors_reported, print_json, print_table
from perfci.results.density import BOOT
from perfci.runs.jobs.model import Kind, load_job
from perfci.runs.night.assemble import night
from perfci.runs.publish.site_data import report_of
from perfci.runs.state import archive as listing
from perfci.runs.state.progress import Silent, Terminal
from perfci.runs.state.state_folder import StateFolder
from perfci.runs.studies.environment_diff import environment_differences
from perfci.runs.studies.reproduce import reproduce as again
from perfci.runs.verdicts.confirmation_store import read_answers
from perfci.runs.verdicts.lab_services import LabServices

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from perfci.results.density import Curve
    from perfci.results.leftovers import Swept
    from perfci.runs.studies.environment_diff import Difference
    from perfci.runs.verdicts.confirmation_store import Answer

app = typer.Typer(
    cls=DefaultGroup,
    no_args_is_help=True,
    help="Run a job (`perfci run nightly`), or look at runs (`perfci run list`).",
)

Lab = Annotated[
    str | None, typer.Option(help="Lab to run on: a folder of inventory/. Default: the settings'.")
]
Cloud = Annotated[
    Kind | None,
    typer.Option(
        "--cloud", help="Deploy a cloud of this kind, whatever the job says; JOB-KIND is its name then."
    ),
]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="Id of a run, the beginning of one, or `last`.")]


@app.command("start", hidden=True)
def start(
    job: Annotated[str, typer.Argument(metavar="JOB", help="Name of a job in jobs/, or path of a job file.")],
    lab: Lab = None,
    cloud: Cloud = None,
    as_json: Json = False,
) -> None:
    """Run a job once: reserve, deploy, hammer, archive, store, analyse, confirm, alert, publish.

    Exit codes: 0 the night ended well, 1 it failed or found a regression, 2 the job or a setting is
    wrong, 3 the lab can't do it now (somebody holds the nodes, say).
    """
    with errors_reported(as_json=as_json):
        settings = settings_for(lab)
        loaded = load_job(job, settings.jobs_dir)
        loaded = loaded.on(cloud) if cloud else loaded
        if as_json:
            outcome = night(loaded, settings, holder=holder(), progress=Silent()).run()
            print_json(outcome_as_dict(outcome))
        else:
            with Terminal() as progress:
                outcome = night(loaded, settings, holder=holder(), progress=progress).run()
            print_outcome(outcome, LabServices(settings))
    raise typer.Exit(outcome.exit_code)


@app.command("list")
def list_runs(
    job: Annotated[str | None, typer.Option(help="Only runs of this job.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """List archived runs, newest first."""
    with errors_reported(as_json=as_json):
        archive = StateFolder(config.load().state_dir).archive
        folders = [*listing.run_folders(archive), *listing.rerun_folders(archive)]
        folders.sort(key=lambda folder: folder.name, reverse=True)
        documents = (listing.read_document(folder) for folder in folders)
        wanted = [found for found in documents if job in (None, found["job"])][:limit]
        if as_json:
            print_json(wanted)
        else:
            columns = ("run", "lab", "job", "status", "lab fit", "code", "environment", "re-run for")
            print_table(columns, map(_row, wanted), empty="No runs yet. Start one: perfci run nightly")


@app.command()
def show(
    run_id: RunId = "last",
    against: Annotated[
        str | None, typer.Option(metavar="RUN", help="Say how its environment differs from that of this run.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show one run: what ran, how long each stage took, how it failed."""
    with errors_reported(as_json=as_json):
        state = StateFolder(config.load().state_dir)
        folder = listing.find_run(state.archive, run_id)
        document = listing.read_document(folder)
        answers = read_answers(state.confirmations, [document["run_id"]])
        other = listing.read_document(listing.find_run(state.archive, against)) if against else document
        differences = environment_differences(other, document)
        report = report_of(state.judgements, folder, ())
        if as_json:
            found = {
                "confirmations": [asdict(one) for one in answers],
                "differences": [asdict(one) for one in differences],
                "fills": [asdict(one) for one in report.curves],
                "rates": [asdict(one) for one in report.rates],
                "leftovers": [
                    {"task": one.slug, "left": one.kinds, "error": one.error} for one in report.swept
                ],
            }
            print_json({**document, "folder": folder, **found})
        else:
            lines = [*_described(document, folder), *map(_confirmed, answers), *map(_differs, differences)]
            lines += [line for curve in report.curves for line in _filled(curve)]
            rates = ((one.path, wording.rate(one.megabits_per_second)) for one in report.rates)
            lines += [f"data plane   {path}: {rate} Mbit/s" for path, rate in rates]
            for line in (*lines, *_left(report.swept)):
                typer.echo(line)
            if against and not differences:
                typer.echo(f"differs      in nothing from {other['run_id']}")


@app.command()
def reproduce(run_id: RunId = "last", lab: Lab = None, as_json: Json = False) -> None:
    """Run the same job with the same code again, and compare the two runs series by series.

    The new run is archived under the job `<job>-reproduce`, so that it never enters a baseline.
    """
    with errors_reported(as_json=as_json):
        settings = settings_for(lab)
        folder = listing.find_run(StateFolder(settings.state_dir).archive, run_id)
        if as_json:
            comparison = again(folder, settings, holder=holder(), progress=Silent())
            print_json(comparison.as_dict())
        else:
            with Terminal() as progress:
                comparison = again(folder, settings, holder=holder(), progress=progress)
            print_table(comparison.COLUMNS, comparison.rows(), empty="Nothing was measured in both runs.")
    raise typer.Exit(comparison.exit_code)


def settings_for(lab: str | None) -> config.Settings:
    """Return the settings, for another lab where one is named."""
    settings = config.load()
    return settings if lab is None else settings.model_copy(update={"lab": lab})


def holder() -> str:
    """Return who holds the nodes of a run: `user@host`."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _row(document: dict[str, Any]) -> tuple[str, ...]:
    failure = document.get("failure")
    return (
        document["run_id"],
        document["lab"],
        document["job"],
        f"failed ({failure['class']})" if failure else document["status"],
        "yes" if document["validity"]["valid"] else "no",
        document["code"]["digest"],
        document["environment"]["digest"],
        document.get("confirms", ""),
    )


def _confirmed(answer: Answer) -> str:
    return f"confirm      {answer.confirmation.decision}: {answer.key.label}: {answer.confirmation.reason}"


def _filled(curve: Curve) -> Iterator[str]:
    yield f"fill         ended at the limit {curve.reason}: {curve.text}"
    for point in curve.points:
        boots = point.seconds.get(BOOT, ())
        boot = wording.seconds(median(boots)) if boots else wording.MISSING
        cpu = wording.seconds(sum(point.cpu_seconds.values()) or None)
        servers = wording.counted(point.servers, "server")
        yield f"             {servers:>13}: a boot {boot}, {cpu} of CPU for each"


def _left(swept: Iterable[Swept]) -> Iterator[str]:
    for one in swept:
        if one.error:
            yield f"left         {one.slug}: unknown: {one.error}"
        elif one.found:
            things = ", ".join(wording.counted(count, kind) for kind, count in one.kinds.items())
            yield f"left         {one.slug}: {things}"
            yield from (f"             not removed: {thing.error}" for thing in one.kept)


def _differs(difference: Difference) -> str:
    return f"differs      {difference.place}: {difference.before or '-'} -> {difference.after or '-'}"


def _described(document: dict[str, Any], folder: Path) -> list[str]:
    lines = [
        f"run          {document['run_id']}",
        f"job          {document['job']} on {document['lab']} ({', '.join(document.get('nodes', []))})",
        *([f"re-run for   {document['confirms']}"] if "confirms" in document else []),
        f"status       {document['status']}",
        f"started      {document['started_at']}",
        f"environment  {document['environment']['digest']}",
        f"code         {document['code']['digest']}",
    ]
    for service in document["code"]["services"]:
        changes = f" + {', '.join(service['changes'])}" if service["changes"] else ""
        lines.append(f"             {service['service']} {service['version']} ({service['source']}){changes}")
    lines += [
        f"stage        {stage['name']:<10} {stage['seconds']:7.1f} s{'' if stage['ok'] else '  failed'}"
        for stage in document.get("stages", [])
    ]
    lines += [f"mirror       {line}" for line in document.get("mirrors", [])]
    lines += [f"lab          not fit: {reason}" for reason in document["validity"]["reasons"]]
    lines += [f"cleaning up  {error}" for error in document.get("cleanup_errors", [])]
    if failure := document.get("failure"):
        lines += [
            f"failure      {failure['stage']} ({failure['class']}): {failure['message']}",
            failure["help"],
        ]
        lines += [f"  {line}" for line in failure["excerpt"].splitlines()]
    return [*lines, f"folder       {folder}"]
