"""`perfci results`: what runs measured, and where it is stored."""

from __future__ import annotations

import re
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from perfci.cli.access import lab_services, state_folder
from perfci.cli.options import RunId
from perfci.cli.output import Json, errors_reported, print_dropped, print_error, print_json, say
from perfci.errors import UsageError
from perfci.names import JOB, JOB_LENGTH, LAB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from perfci.results.model import Measurement
    from perfci.runs.verdicts.ingest import RallyFile
    from perfci.runs.verdicts.lab_services import LabServices

app = typer.Typer(no_args_is_help=True, help="What runs measured, and where it is stored.")


@app.command()
def show(
    run_id: RunId = "last",
    scenario: Annotated[str, typer.Option(help="Only scenarios whose name contains this.")] = "",
    as_json: Json = False,
) -> None:
    """Show what one run measured, from the archive: the median of each series."""
    from perfci.runs.state.archive import find_run
    from perfci.runs.state.archived_run import ArchivedRun

    with errors_reported(as_json=as_json):
        results = ArchivedRun(find_run(state_folder().archive, run_id)).results
        found = [m for m in results.measurements if scenario.lower() in m.key.scenario.lower()]
        if as_json:
            dropped = dict(results.dropped)
            print_json(
                {"run": results.record.run_id, "series": [_as_dict(m) for m in found], "dropped": dropped}
            )
        else:
            from rich.console import Console

            from perfci.cli.verdicts import show_results

            empty = f"{results.record.run_id} has measured nothing"
            if results.measurements:
                empty = f"No scenario of {results.record.run_id} has {scenario!r} in its name"
            show_results(Console(), found, empty=f"{empty}.")
            print_dropped(results.dropped)


@app.command()
def ingest(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Archive folders of runs; with --rally: files or folders."),
    ],
    rally: Annotated[
        bool, typer.Option("--rally", help="The paths are Rally results in JSON; - is standard input.")
    ] = False,
    job: Annotated[str, typer.Option(help="With --rally: the job that the runs belong to.")] = "rally",
    lab: Annotated[str, typer.Option(help="With --rally: the lab that they ran on.")] = "elsewhere",
    as_json: Json = False,
) -> None:
    """Import runs into the archive and the index, from another controller or from Rally results.

    With --rally, each task becomes a run, in the order of their times. perfci reads all JSON that Rally
    writes: its exporter's reports, and the older lists of `rally task results`, compressed with gzip or not.
    It judges the runs and writes the pages. In a folder, it reports files without Rally results and leaves
    them out.

    Exit code 1: a file can't be read, or a folder has no results; perfci imported nothing.
    """
    from perfci.runs.verdicts.ingest import ingest as take_in

    with errors_reported(as_json=as_json):
        controller = lab_services()
        if rally:
            _check_name("--job", job, JOB)
            _check_name("--lab", lab, LAB)
            _ingest_rally(controller, paths, lab=lab, job=job, as_json=as_json)
            return
        taken = [take_in(controller, path) for path in paths]
        if as_json:
            print_json([{"run": r.record.run_id, "series": len(r.measurements)} for r in taken])
        for results in () if as_json else taken:
            typer.echo(f"{results.record.run_id}: {len(results.measurements)} series")
            print_dropped(results.dropped)


def _ingest_rally(controller: LabServices, paths: list[Path], *, lab: str, job: str, as_json: bool) -> None:
    from perfci.results.errors import NotRallyResults
    from perfci.runs.publish.site_data import write_site
    from perfci.runs.verdicts.ingest import ingest_rally

    done = ingest_rally(controller, _rally_files(paths), lab=lab, job=job)
    for error in done.left_out:
        typer.echo(f"left out: {error}", err=True)
    if not done.runs:
        place = ", ".join(map(str, paths))
        raise NotRallyResults(
            path=place, place="folder", found="no results of Rally", expected="at least one"
        )
    index = write_site(controller)
    if as_json:
        print_json([{"run": run.run_id, "series": run.series} for run in done.runs])
        return
    for run in done.runs:
        typer.echo(f"{run.run_id}: {run.series} series")
        print_dropped(run.dropped)
    typer.echo(f"pages          {index}\nchange points  perfci analyse changepoints --job {job}")


def _opens(path: Path) -> Callable[[], AbstractContextManager[IO[bytes]]]:
    return lambda: path.open("rb")


def _rally_files(paths: list[Path]) -> Iterator[RallyFile]:
    """Yield the files that people named, and those of their folders."""
    from perfci.runs.verdicts.ingest import RallyFile

    for path in paths:
        if str(path) == "-":
            yield RallyFile("-", lambda: nullcontext(sys.stdin.buffer))
        elif path.is_dir():
            for one in sorted(path.rglob("*")):
                if one.is_file():
                    yield RallyFile(str(one), _opens(one), required=False)
        else:
            yield RallyFile(str(path), _opens(path))


@app.command()
def sync(
    again: Annotated[
        list[str] | None, typer.Option("--again", metavar="RUN", help="Deliver this run again, or `all`.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Deliver to InfluxDB the runs that it does not have yet.

    perfci reports runs that it can't read, and tries them again next time. It also reports runs whose points
    InfluxDB refuses, for example because they are older than InfluxDB keeps points, and sends those again
    only with --again.

    Exit code 4: InfluxDB does not answer, or refused a run.
    """
    from perfci.wording import counted

    with errors_reported(as_json=as_json):
        controller = lab_services()
        for run_id in again or ():
            controller.deliver_again(run_id)
        done = controller.sync()
        if as_json:
            print_json(
                {
                    "delivered": done.delivered,
                    "unreadable": [error.as_dict() for error in done.unreadable],
                    "refused": [error.as_dict() for error in done.refused],
                    "refused_before": done.left,
                }
            )
        else:
            say(f"{counted(len(done.delivered), 'run')} delivered.")
            for error in (*done.unreadable, *done.refused):
                print_error(error, as_json=False)
            for run_id, reason in done.left.items():
                typer.echo(f"{run_id} was not sent again: {reason}", err=True)
    raise typer.Exit(4 if done.refused else 0)


@app.command()
def rebuild(as_json: Json = False) -> None:
    """Rebuild the index from the archive, and judgements that are missing or damaged."""
    from perfci.runs.verdicts.rebuild import rebuild as make_again
    from perfci.wording import counted

    with errors_reported(as_json=as_json):
        done = make_again(lab_services())
        if as_json:
            unreadable = [error.as_dict() for error in done.unreadable]
            print_json({"runs": done.runs, "judged": done.judged, "unreadable": unreadable})
        else:
            say(f"{counted(len(done.runs), 'run')} indexed, {len(done.judged)} judged.")
            for error in done.unreadable:
                print_error(error, as_json=False)


class NameInvalid(UsageError):
    """A job or a lab can't have this name."""

    template = "{option}: {name!r} can't be a name"
    help = "Use lower-case letters, digits and -, and begin with a letter or a digit."


def _check_name(option: str, name: str, pattern: str) -> None:
    if not re.fullmatch(pattern[1:-1], name) or len(name) > JOB_LENGTH:
        raise NameInvalid(option=option, name=name)


def _as_dict(measurement: Measurement) -> dict[str, object]:
    key = measurement.key
    return {
        "scenario": key.scenario,
        "arguments": key.arguments,
        "action": key.action,
        "metric": str(key.metric),
        "values": measurement.values,
        "attempts": measurement.attempts,
        "failures": measurement.failures,
    }
