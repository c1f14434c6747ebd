"""The OpenStack that a job deploys, and what it asks of the lab, checked before anything is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, SerializerFunctionWrapHandler, model_serializer, model_validator

from perfci.errors import UsageError
from perfci.runs.jobs.cloud_kinds import Kind  # noqa: TC001 - pydantic reads annotations
from perfci.runs.jobs.fields import Part, Variable
from perfci.runs.jobs.node_roles import possible_compute_nodes, usual_compute_nodes

if TYPE_CHECKING:
    from perfci.config import Settings
    from perfci.runs.jobs.model import Job

Service = Literal["keystone", "placement", "glance", "nova", "neutron"]
Virt = Literal["fake", "libvirt"]
SERVICES: tuple[Service, ...] = ("keystone", "placement", "glance", "nova", "neutron")


class MachinesNeeded(UsageError):
    """The cloud needs machines of its own, and the lab has none to provision."""

    template = "the cloud {kind} needs machines behind BMCs, and the lab {lab} has none"
    help = "Use `--lab LAB` for a lab with machines; `perfci virtual up --nodes {nodes}` makes a virtual one."


class GitBaseMissing(UsageError):
    """No setting says where devstack and the services come from."""

    template = "no setting says where devstack and the services come from"
    help = (
        "Set PERFCI_GIT_BASE (or git_base) to a URL such as https://opendev.org, or to a folder that has the "
        "repositories as openstack/devstack, openstack/nova and so on."
    )


class Cloud(Part):
    """The OpenStack to deploy."""

    kind: Kind = "embedded"
    """`embedded`: all services on the lab's one machine; `multinode`: its parts on several; `devstack`: on
    fresh nodes by devstack."""
    virt: Virt = "fake"
    """What runs the servers: `fake`, nova's driver that pretends, or `libvirt` with QEMU."""
    computes: Annotated[int, Field(strict=True, ge=1, le=1000)] = 10
    """How many nova-compute services with the fake driver; with libvirt each compute node has one."""
    compute_nodes: Annotated[int, Field(strict=True, ge=1, le=1000)] | None = None
    """Only multinode: how many of the nodes are computes; left out: as docs/clouds.md says."""
    services: Annotated[tuple[Service, ...], Field(min_length=1)] = SERVICES
    """Which services are deployed; nova needs all of them."""
    variables: dict[Variable, JsonValue] = Field(default={})
    """Ansible variables for the deploy, such as neutron_api_workers."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if "nova" in self.services and len(set(self.services)) < len(SERVICES):
            msg = "services: nova needs keystone, placement, glance and neutron beside it"
            raise ValueError(msg)
        if self.kind == "multinode" and len(set(self.services)) < len(SERVICES):
            msg = "services: multinode has all of them"
            raise ValueError(msg)
        if self.kind != "multinode" and self.compute_nodes is not None:
            msg = "compute_nodes: only multinode has some"
            raise ValueError(msg)
        if self.virt == "libvirt" and self.kind != "multinode":
            msg = "virt: only multinode has libvirt"
            raise ValueError(msg)
        if self.virt == "libvirt" and "computes" in self.model_fields_set:
            msg = "computes: with libvirt each compute node has one; leave it out"
            raise ValueError(msg)
        return self

    def check_nodes(self, nodes: int) -> None:
        """Raise ValueError where the cloud can't be spread over so many nodes."""
        if self.kind == "multinode":
            self._check_compute_nodes(nodes)
        subnodes = nodes - 1
        if self.kind == "devstack" and self.pretends and self.computes < subnodes:
            msg = f"cloud.computes: {subnodes} sub-nodes need at least as many, got {self.computes}"
            raise ValueError(msg)

    def _check_compute_nodes(self, nodes: int) -> None:
        possible = possible_compute_nodes(nodes)
        wanted = usual_compute_nodes(nodes) if self.compute_nodes is None else self.compute_nodes
        if wanted not in possible:
            some = f"{possible[0]} to {possible[-1]} can be computes"
            msg = f"cloud.compute_nodes: of {nodes} nodes, {some}, got {wanted}"
            raise ValueError(msg)
        if self.virt == "fake" and self.computes < wanted:
            msg = f"cloud.computes: {wanted} compute nodes need at least as many, got {self.computes}"
            raise ValueError(msg)

    @property
    def pretends(self) -> bool:
        """Whether its computes are those of nova's driver that pretends."""
        return self.virt == "fake" and self.variables.get("devstack_virt_driver", "fake") == "fake"

    @property
    def shape(self) -> dict[str, Any]:
        """What makes two measurements on this cloud comparable."""
        # A job that says nothing of these keeps the digest that it always had.
        unsaid = {"virt": self.virt == "fake", "compute_nodes": self.compute_nodes is None}
        return self.model_dump(mode="json", exclude={name for name, usual in unsaid.items() if usual})

    @model_serializer(mode="wrap")
    def _without_what_does_not_count(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = dump(self)
        if self.virt == "libvirt":
            fields.pop("computes", None)
        return fields


def check_cloud(job: Job, settings: Settings, *, has_machines: bool) -> None:
    """Raise MachinesNeeded or GitBaseMissing if this lab can't deploy the job's cloud.

    `has_machines`: the lab's inventory has machines to provision.
    """
    kind = job.cloud.kind
    if kind != "embedded" and not has_machines:
        raise MachinesNeeded(kind=kind, lab=settings.lab, nodes=job.nodes.count)
    if kind == "devstack" and settings.git_base is None:
        raise GitBaseMissing
