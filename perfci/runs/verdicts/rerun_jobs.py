"""The job of an archived run, to be run again: on the code that ran then, under a name of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfci.results.model import CONFIRM
from perfci.runs.jobs.fields import NAME_LENGTH
from perfci.runs.jobs.sources import Reference, Source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import JsonValue

    from perfci.results.model import ServiceRevision
    from perfci.runs.jobs.model import Job
    from perfci.runs.jobs.sources import Sources

SUFFIX = "-reproduce"
_WHEEL = "wheel"


def same_job(job: Job, services: tuple[ServiceRevision, ...]) -> Job:
    """Return an archived job under its own series, with every source fixed to the revision that ran.

    Patches and filters stay as the job names them: their files are not in the archive.
    """
    sources = dict(job.sources)
    for service in services:
        known: Source | None = sources.get(service.service)
        if service.source == _WHEEL:
            fixed: dict[str, str | None] = {"version": service.version}
        else:
            fixed = {"version": None, "git": service.source, "ref": service.revision}
        sources[service.service] = (known or Source()).model_copy(update=fixed)
    return job.model_copy(
        update={
            "name": named(job, SUFFIX),
            "sources": job.sources.model_copy(update={**sources, "all": None}),
            "description": job.description,
        }
    )


def rerun_job(night: Job, ran: Job, code: tuple[ServiceRevision, ...], kept: Sequence[int]) -> Job:
    """Return a night's job with the code of another run of it, and of its scenarios those kept, by index.

    `ran` is the job as that run's archive has it, `code` what it deployed: a branch becomes the commit that
    ran, also one that the job does not name (devstack). Releases stay as the job names them, as both runs
    have the same constraints: that is part of their environment. It has series of its own, so that nothing
    of it can get among the nights'.
    """
    return night.model_copy(
        update={
            "name": named(night, CONFIRM),
            "sources": exact(ran.sources, code),
            # A procedure that is not Rally's has none: it is run again as a whole.
            "scenarios": tuple(night.scenarios[index] for index in kept if night.scenarios),
        }
    )


def side_by_side_job(
    job: Job,
    suffix: str,
    *,
    old: Sources,
    new: Sources,
    constraints: str | None = None,
    variables: Mapping[str, JsonValue] | None = None,
) -> Job:
    """Return the job that measures two codes side by side, under a name of its own.

    `constraints` is the file of the old side, where it has one of its own, `variables` are those in which its
    cloud is another one.
    """
    reference = Reference.of(old, constraints=constraints, variables=variables)
    return job.model_copy(update={"name": named(job, suffix), "sources": new, "reference": reference})


def exact(sources: Sources, code: tuple[ServiceRevision, ...]) -> Sources:
    """Return sources with the commit that ran in place of each branch; releases stay as they are named."""
    fixed = {}
    for service in code:
        source: Source | None = getattr(sources, service.service, None)
        if source is not None and source.git is not None:
            fixed[service.service] = source.model_copy(update={"ref": service.revision})
        elif source is None and service.source != _WHEEL:
            fixed[service.service] = Source(git=service.source, ref=service.revision)
    # What was one moment then are these commits now.
    return sources.model_copy(update={**fixed, "all": None})


def named(job: Job, suffix: str) -> str:
    """Return the name of a job with a suffix, which it has once at most and which never makes it too long."""
    return f"{job.name.removesuffix(suffix)[: NAME_LENGTH - len(suffix)]}{suffix}"
