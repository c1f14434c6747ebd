"""Putting a night together from the settings: the one place that knows all parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfci.lab.sql import open_ledger
from perfci.runs.aftermath import Aftermath
from perfci.runs.controller import Controller
from perfci.runs.night import Night

if TYPE_CHECKING:
    from perfci.config import Settings
    from perfci.runs.job import Job
    from perfci.runs.progress import Progress


def night(
    job: Job, settings: Settings, *, holder: str, progress: Progress, label: str | None = None
) -> Night:
    """Return a night of a job, ready to run; `label` files its results under another lab's name.

    Raises what `open_ledger` raises.
    """
    controller = Controller(settings)
    return Night(
        job=job,
        settings=settings,
        state=controller.state,
        ledger=open_ledger(settings),
        aftermath=Aftermath(controller),
        holder=holder,
        progress=progress,
        label=label or settings.lab,
    )
