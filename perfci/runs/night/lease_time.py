"""How long a run may hold its nodes: its stages' limits must fit into the lease."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from perfci.errors import UsageError

if TYPE_CHECKING:
    from perfci.runs.jobs.model import Job

RELEASE_SECONDS = 180.0
"""How long taking a cloud down may take, giving machines back as well, and those that did not come up."""
_MARGIN = timedelta(minutes=5)
"""For what perfci does itself between the stages."""


class LimitsBeyondLease(UsageError):
    """The stages of a job may take longer than a run may hold its nodes."""

    template = "job {job}: its stages may take {needed} in all, but a run holds its nodes for {held} at most"
    help = "Lower `limits` in the job file, or raise `limits.run_hours` in perfci.toml."


def needed(job: Job) -> timedelta:
    """Return how long a run of a job takes at most, from the first stage to the last."""
    limits = job.limits
    # Beside a reference each side's tasks take as long as those of one cloud alone.
    hammer = limits.hammer * (2 if job.reference is not None else 1)
    seconds = limits.provision + limits.deploy + hammer + limits.collect + 3 * RELEASE_SECONDS
    return timedelta(seconds=seconds) + _MARGIN


def check_fits(job: Job, run_hours: float) -> None:
    """Raise LimitsBeyondLease where the lease could end before the run does."""
    held = timedelta(hours=run_hours)
    if needed(job) > held:
        raise LimitsBeyondLease(job=job.name, needed=_hours(needed(job)), held=_hours(held))


def _hours(length: timedelta) -> str:
    return f"{length.total_seconds() / 3600:.1f} h"
