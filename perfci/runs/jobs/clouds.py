"""What kinds of clouds ask of the lab, checked before anything is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from perfci.errors import UsageError

if TYPE_CHECKING:
    from perfci.config import Settings
    from perfci.runs.jobs.model import Job

Kind = Literal["embedded", "multinode", "devstack"]
"""How a cloud is deployed."""


class MachinesNeeded(UsageError):
    """A cloud on machines of its own was asked of a lab that has no machines to provision."""

    template = "the cloud {kind} needs machines behind BMCs, and the lab {lab} has none"
    help = "Say `--lab LAB` for a lab of machines; `perfci virtual up --nodes {nodes}` makes a virtual one."


class GitBaseMissing(UsageError):
    """devstack was asked for, and nothing says where it comes from."""

    template = "nothing says where devstack and the services come from"
    help = (
        "Set PERFCI_GIT_BASE (or git_base) to a URL such as https://opendev.org, or to a folder that has the "
        "repositories as openstack/devstack, openstack/nova and so on."
    )


def check_cloud(job: Job, settings: Settings, *, has_machines: bool) -> None:
    """Raise MachinesNeeded or GitBaseMissing if this lab can't deploy the job's cloud.

    `has_machines`: the lab's inventory has machines to provision.
    """
    kind = job.cloud.kind
    if kind != "embedded" and not has_machines:
        raise MachinesNeeded(kind=kind, lab=settings.lab, nodes=job.nodes.count)
    if kind == "devstack" and settings.git_base is None:
        raise GitBaseMissing
