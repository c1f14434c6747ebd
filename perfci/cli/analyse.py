"""`perfci analyse`: what a run's numbers mean."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from perfci import config
from perfci.cli.output import Json, errors_reported, print_json
from perfci.report.terminal import show_judgements
from perfci.results.archive import read_archive
from perfci.runs import judging
from perfci.runs.controller import Controller
from perfci.runs.listing import find_run


def analyse(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="Id of a run, or `last`.")] = "last",
    full: Annotated[bool, typer.Option("--full", help="List the series that did not change, too.")] = False,
    as_json: Json = False,
) -> None:
    """Judge every series of a run against its history. Nothing is sent; `perfci run` does that.

    Leaves with 1 where something is slower.
    """
    with errors_reported(as_json=as_json):
        controller = Controller(config.load())
        results = read_archive(find_run(controller.state.archive, run_id))
        controller.local.write(results)
        judgements = judging.judge_run(controller, results.record)
        if as_json:
            print_json(judging.as_json(judgements))
        else:
            show_judgements(Console(), judgements, full=full)
    raise typer.Exit(judging.exit_code(judgements))
