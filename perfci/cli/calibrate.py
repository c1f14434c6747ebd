"""`perfci calibrate`: which changes each series can show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from perfci.cli.access import holder, lab_services
from perfci.cli.options import Lab, complete_job
from perfci.cli.output import Json, errors_reported, print_json, print_table

if TYPE_CHECKING:
    from perfci.runs.publish.calibration_store import Calibration
    from perfci.runs.state.progress import Progress
    from perfci.runs.verdicts.lab_services import LabServices


def calibrate(
    job: Annotated[
        str, typer.Argument(metavar="JOB", help="Name or path of a job file.", autocompletion=complete_job)
    ] = "nightly",
    runs: Annotated[int, typer.Option(min=3, max=200, help="How many fresh deployments to measure.")] = 8,
    from_existing: Annotated[
        bool, typer.Option("--from-history", help="Run nothing; take the job's runs so far.")
    ] = False,
    lab: Lab = None,
    as_json: Json = False,
) -> None:
    """Run unchanged code again and again, and say how small a change each series can show.

    Every run is a fresh deployment of the same revision, archived under the job JOB-calibrate, outside every
    baseline. perfci prints the smallest change that one, two, three, five and eight nights can prove (MDE),
    and where the noise comes from. It stores both in its database, and shows them on the trend pages and in
    mails. One night alone proves nothing for a timing, but a change of its MDE is worth a re-run.
    """
    from perfci.cli.progress import Terminal
    from perfci.cli.tables import calibration_table
    from perfci.runs.state.progress import Silent

    with errors_reported(as_json=as_json):
        controller = lab_services(lab)
        if as_json:
            found = _calibrated(controller, job, runs, Silent(), from_existing=from_existing)
            print_json(found.as_dict())
            return
        with Terminal() as progress:
            found = _calibrated(controller, job, runs, progress, from_existing=from_existing)
        print_table(*calibration_table(found), empty="No series has three unchanged runs yet.")


def _calibrated(
    controller: LabServices, job: str, runs: int, progress: Progress, *, from_existing: bool
) -> Calibration:
    from perfci.runs.jobs.load import load_job
    from perfci.runs.studies.calibrate import from_history, run

    loaded = load_job(job, controller.settings.jobs_dir)
    if from_existing:
        return from_history(controller, controller.settings.lab, loaded.name)
    return run(controller.settings, controller, loaded, runs, holder=holder(), progress=progress)
