"""The clouds that people can ask for with nodes: those of the lab's jobs, and the kinds themselves."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, get_args

from perfci.errors import UsageError
from perfci.lab.node_cache import nodes_of
from perfci.runs.jobs.cloud_kinds import Kind
from perfci.runs.jobs.clouds import check_cloud
from perfci.runs.jobs.load import jobs, load_job
from perfci.runs.jobs.model import Job, NodeChoice, Scenario
from perfci.validation import nearest

if TYPE_CHECKING:
    from collections.abc import Callable

    from perfci.config import Settings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class CloudUnknown(UsageError):
    """A reservation asks for a cloud that is neither a job nor a kind of cloud."""

    template = "no cloud {name!r}; {suggestion}"
    help = "`--cloud` takes the name of a job, and deploys its cloud, or a kind: {kinds}."


class CloudDoesNotFit(UsageError):
    """The cloud of a reservation can't be deployed on that number of nodes."""

    template = "the cloud {name!r} can't be deployed on {nodes} nodes: {reason}"
    help = "Ask for another number of nodes; docs/clouds.md says what each kind of cloud needs."


def cloud_job(name: str, nodes: int, settings: Settings) -> Job:
    """Return the job whose cloud is deployed on so many nodes; `name` is that of a job or of a kind.

    Raises CloudUnknown, CloudDoesNotFit, JobFileInvalid.
    """
    kinds: tuple[str, ...] = get_args(Kind)
    known = jobs(settings.jobs_dir)
    if not _NAME.fullmatch(name) or name not in {*known, *kinds}:
        there = nearest(name[:60], tuple(sorted({*known, *kinds})))
        raise CloudUnknown(name=name[:60], suggestion=there, kinds=", ".join(kinds))
    job = (
        load_job(name, settings.jobs_dir)
        if name in known
        else Job.model_validate(
            {"name": name, "cloud": {"kind": name}, "nodes": nodes, "scenarios": [_ANY.model_dump()]}
        )
    )
    # One machine has all of it: on several there would be several clouds.
    if job.cloud.kind == "embedded" and nodes > 1:
        raise CloudDoesNotFit(name=name, nodes=nodes, reason="an embedded cloud is on one node")
    try:
        job.cloud.check_nodes(nodes)
    except ValueError as error:
        raise CloudDoesNotFit(name=name, nodes=nodes, reason=error) from error
    return job.model_copy(update={"nodes": NodeChoice(count=nodes), "reference": None})


_ANY = Scenario(task="keystone-authenticate", times=1)
"""A job has a task; this one is never run."""


def cloud_check(settings: Settings) -> Callable[[str, int], None]:
    """Return the check of a Policy: it raises where the lab can't deploy a cloud on so many nodes.

    Beside what `cloud_job` raises: MachinesNeeded, GitBaseMissing.
    """

    def check(name: str, nodes: int) -> None:
        job = cloud_job(name, nodes, settings)
        check_cloud(job, settings, has_machines=any(node.has_bmc for node in nodes_of(settings)))

    return check
