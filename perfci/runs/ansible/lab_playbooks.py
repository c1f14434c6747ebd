"""The project's playbooks for a lab, and the variables with which they deploy a job's cloud."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import yaml

from perfci.files import write_whole
from perfci.lab.errors import NodesOutsideCloud
from perfci.lab.inventory import VIRTUAL
from perfci.lab.virtual.lab import entering
from perfci.parsing import json_value
from perfci.runs.ansible.playbook import Playbooks
from perfci.runs.jobs.node_roles import assign, assign_devstack
from perfci.runs.state.processes import MARK, SERVICE
from perfci.runs.state.stages import Stages

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from perfci.config import Settings
    from perfci.lab.model import Node
    from perfci.runs.jobs.model import Job
    from perfci.runs.jobs.node_roles import Parts
    from perfci.runs.jobs.procedures import DbMigration
    from perfci.runs.jobs.sources import Sources
    from perfci.runs.state.progress import Progress

CONTROLLER = "deploy"
"""The mark of Ansible's own processes, which belong to the lab and to no service."""
SETUP_SECONDS = 1800.0
"""Long enough for a slow mirror."""
CONSTRAINTS_VARIABLE = "openstack_code_constraints"
"""Role variable: the file with the versions of all packages."""
REQUIREMENTS_VARIABLE = "openstack_code_requirements"
"""Role variable: what is installed beside the services."""
PARTS_FILE = "parts.yml"
"""In the folder of a run: which node plays which part of the cloud, as an inventory for Ansible."""


def playbooks(settings: Settings, stop: threading.Event | None = None) -> Playbooks:
    """Return the project's playbooks for this lab."""
    return Playbooks(
        root=settings.root_dir,
        inventory=settings.inventory_dir,
        variables={
            "perfci_state_dir": str(settings.state_dir),
            "perfci_port_base": settings.port_base,
            **({"perfci_git_base": settings.git_base} if settings.git_base else {}),
        },
        environment={MARK: str(settings.state_dir), SERVICE: CONTROLLER},
        stop=stop or threading.Event(),
    )


def node_playbooks(settings: Settings, nodes: Iterable[Node], stop: threading.Event) -> Playbooks:
    """Return the playbooks for a run on these nodes. Raises VirtualLabDown, NodesOutsideCloud.

    Nodes behind BMCs are other machines: the playbooks are limited to them, and where their state
    folder is, the inventory says.
    """
    nodes = sorted(nodes)
    # Ansible passes over hosts that are in none of a play's groups, and calls that a success.
    if outside := [node.name for node in nodes if not node.in_cloud]:
        cloud = ", ".join(node.name for node in nodes if node.in_cloud) or "none of the nodes"
        raise NodesOutsideCloud(folder=settings.inventory_dir, nodes=", ".join(outside), cloud=cloud)
    books = playbooks(settings, stop)
    machines = tuple(sorted(node.name for node in nodes if node.has_bmc))
    if not machines:
        return books
    variables = {name: value for name, value in books.variables.items() if name != "perfci_state_dir"}
    within = entering(settings.state_dir) if settings.lab == VIRTUAL else ()
    return replace(books, variables=variables, nodes=machines, entering=tuple(within))


def cloud_parts(job: Job, books: Playbooks) -> Parts | None:
    """Say which node plays which part of a job's cloud; None where all is on one."""
    cloud = job.cloud
    if not job.has_parts:
        return None
    computes = cloud.computes if cloud.pretends else None
    if cloud.kind == "devstack":
        return assign_devstack(books.nodes, computes=computes)
    return assign(books.nodes, computes=computes, compute_nodes=cloud.compute_nodes)


def spread(books: Playbooks, parts: Parts | None, folder: Path) -> Playbooks:
    """Return the playbooks that know the parts, which are written into the folder of the run."""
    if parts is None:
        return books
    file = folder / PARTS_FILE
    head = "---\n# Which node plays which part of the cloud.\n"
    write_whole(file, head + yaml.safe_dump(parts.inventory(), sort_keys=False))
    return replace(books, parts=file)


def prepare(settings: Settings, progress: Progress, *, tests: bool = False) -> None:
    """Check the machine and install what a night needs, and with `tests` what the tests need.

    Raises PlaybookFailed, before anything is changed where the machine can't carry the lab.
    """
    with Stages(progress).stage("setup"):
        playbooks(settings).run(
            "setup",
            log=settings.state_dir / "ansible" / "setup.log",
            limit_seconds=SETUP_SECONDS,
            variables={"packages_for_tests": tests},
            on_step=progress.step,
        )


def cloud_variables(job: Job, root: Path) -> dict[str, Any]:
    """Return the Ansible variables that deploy a job's cloud; `root` is where its files are."""
    sources, filters = _code(job.sources, root)
    variables = {
        **job.cloud.variables,
        "cloud_kind": job.cloud.kind,
        "cloud_services": list(job.cloud.services),
        "cloud_virt": job.cloud.virt,
        # What is spread over several nodes stands in the inventory of the parts, node by node.
        **({} if job.has_parts else {"fake_compute_count": job.cloud.computes}),
        "openstack_sources": sources,
        "neutron_api_filters": filters,
    }
    if job.base is not None:
        del variables["neutron_api_filters"]  # they are the target's; the base has none
        base, _ = _code(job.base, root)
        target = {"upgrade_sources": sources, "upgrade_filters": filters}
        if job.base.constraints is not None:
            variables["cloud_constraints"] = str(root / job.base.constraints)
        return {**variables, **target, "openstack_sources": base, "cloud_code_record": "base-code.json"}
    if job.dbmigration is not None:
        return {**variables, **_migration(job.dbmigration, root)}
    return variables


def _code(wanted: Sources, root: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the sources as the role openstack_code wants them, and the filters of neutron's API."""
    sources: dict[str, Any] = json_value(
        wanted.model_dump_json(exclude_none=True, exclude={"constraints", "all"})
    )
    filters = sources.get("neutron", {}).get("filters", [])
    for source in sources.values():
        source.pop("filters", None)
        source["patches"] = [str(root / patch) for patch in source.get("patches", [])]
    return sources, [{**one, "source": str(root / one["source"])} for one in filters]


def _migration(wanted: DbMigration, root: Path) -> dict[str, Any]:
    """Return the variables of the role dbmigration."""
    databases = {
        name: {
            "start": list(one.start),
            "tables": dict(one.tables),
            "dump": str(root / one.dump) if one.dump else "",
        }
        for name, one in wanted.databases.items()
    }
    return {
        "dbmigration_databases": databases,
        "dbmigration_sizes": list(wanted.sizes),
        "dbmigration_deleted": wanted.deleted,
        "dbmigration_seed": wanted.seed,
        "dbmigration_timeout_seconds": wanted.timeout_seconds,
    }
