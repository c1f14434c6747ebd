"""Putting a night together from the settings: the one place that knows all parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfci.lab.sql import open_ledger
from perfci.runs.night.night import Night
from perfci.runs.publish.after_run import Aftermath
from perfci.runs.verdicts.lab_services import LabServices

if TYPE_CHECKING:
    from perfci.config import Settings
    from perfci.runs.jobs.model import Job
    from perfci.runs.night.systems import KeptMachines
    from perfci.runs.state.progress import Progress


def night(
    job: Job,
    settings: Settings,
    *,
    holder: str,
    progress: Progress,
    label: str | None = None,
    gives_way: bool = False,
    planned: str | None = None,
    kept: KeptMachines | None = None,
) -> Night:
    """Return a night of a job, ready to run; `label` files its results under another lab's name.

    With `gives_way` it ends at once when somebody else wants its nodes. `planned` is the reservation that was
    made for it. `kept` are the machines that the runs of a trial leave provisioned for each other
    (`take_back.kept_machines`).

    Raises what `open_ledger` raises.
    """
    controller = LabServices(settings)
    return Night(
        job=job,
        settings=settings,
        state=controller.state,
        ledger=open_ledger(settings),
        aftermath=Aftermath(controller),
        holder=holder,
        progress=progress,
        label=label or settings.lab,
        gives_way=gives_way,
        planned=planned,
        kept=kept,
    )
