"""The code of one moment: a job's `sources.all` as the commit of each service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfci.changes.between import moment_of
from perfci.changes.errors import MomentInvalid
from perfci.changes.super_repository import SUPER, state_at
from perfci.runs.jobs.sources import Source
from perfci.runs.verdicts.repositories import address, repositories

if TYPE_CHECKING:
    from perfci.changes.clones import Clones
    from perfci.config import Settings
    from perfci.runs.jobs.model import Job
    from perfci.runs.jobs.sources import Sources


def at_one_moment(job: Job, settings: Settings) -> tuple[Job, str | None]:
    """Return the job with the commit of every service, and the step that it is; the job itself without `all`.

    What the job names itself stays as it is; patches and filters go on top. Raises RepositoryMissing,
    MomentInvalid, RevisionUnknown, GitTooSlow and GitFailed.
    """
    named = (job.sources, job.base, job.reference)
    wanted = [one.all for one in named if one is not None and one.all is not None]
    if not wanted:
        return job, None
    clones = repositories(settings, fresh=(SUPER,))
    sources, step = _exact(job.sources, job, settings, clones)
    changed: dict[str, object] = {"sources": sources}
    if job.base is not None:
        changed["base"] = _exact(job.base, job, settings, clones)[0]
    if job.reference is not None:
        changed["reference"] = _exact(job.reference, job, settings, clones)[0]
    return job.model_copy(update=changed), step


def _exact(sources: Sources, job: Job, settings: Settings, clones: Clones) -> tuple[Sources, str | None]:
    if sources.all is None:
        return sources, None
    step = moment_of(sources.all, clones).step
    if step is None:
        raise MomentInvalid(text=sources.all, reason="sources.all takes a branch, a date or a step")
    state = state_at(clones.get(SUPER), step)
    found: dict[str, object] = {"all": None}
    for service in job.cloud.services:
        known: Source | None = getattr(sources, service)
        if known is not None and (known.git is not None or known.version is not None):
            continue
        if service not in state:
            raise MomentInvalid(text=sources.all, reason=f"{service} is not in openstack/openstack then")
        fixed = {"git": address(settings, service, clones), "ref": state[service]}
        found[service] = (known or Source()).model_copy(update=fixed)
    return sources.model_copy(update=found), step
