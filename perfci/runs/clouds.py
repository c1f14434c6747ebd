"""What kinds of clouds ask of the lab, checked before anything is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfci.errors import UsageError

if TYPE_CHECKING:
    from perfci.config import Settings
    from perfci.runs.job import Job
    from perfci.runs.playbook import Playbooks


class FreshNodeNeeded(UsageError):
    """devstack was asked of a lab whose node is this machine itself."""

    template = "the cloud devstack needs a fresh node behind a BMC, and the lab {lab} has none"
    help = "Say `--lab LAB` for a lab of machines; `perfci virtual up --nodes 1` makes a virtual one."


class GitBaseMissing(UsageError):
    """devstack was asked for, and nothing says where it comes from."""

    template = "nothing says where devstack and the services come from"
    help = (
        "Set PERFCI_GIT_BASE (or git_base) to a URL such as https://opendev.org, or to a folder that has the "
        "repositories as openstack/devstack, openstack/nova and so on."
    )


def check_cloud(job: Job, settings: Settings, books: Playbooks) -> None:
    """Raise FreshNodeNeeded or GitBaseMissing where the job's cloud can't be deployed on this lab."""
    if job.cloud.kind != "devstack":
        return
    if not books.nodes:
        raise FreshNodeNeeded(lab=settings.lab)
    if settings.git_base is None:
        raise GitBaseMissing
