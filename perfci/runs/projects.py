"""The project's playbooks for a lab, and the variables with which they deploy a job's cloud."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from perfci.lab.virtual.lab import entering
from perfci.runs.playbook import Playbooks
from perfci.runs.processes import MARK, SERVICE
from perfci.runs.stages import Stages

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from perfci.config import Settings
    from perfci.lab.model import Node
    from perfci.runs.job import Job
    from perfci.runs.progress import Progress

CONTROLLER = "deploy"
"""The mark of Ansible's own processes, which belong to the lab and to no service."""
SETUP_SECONDS = 1800.0
"""Long enough for a slow mirror."""
VIRTUAL = "virtual"
"""The lab of `perfci virtual up`: its nodes are reached from within its own network namespace."""


def playbooks(settings: Settings, stop: threading.Event | None = None) -> Playbooks:
    """Return the project's playbooks for this lab."""
    return Playbooks(
        root=settings.root_dir,
        inventory=settings.inventory_dir,
        variables={"perfci_state_dir": str(settings.state_dir), "perfci_port_base": settings.port_base},
        environment={MARK: str(settings.state_dir), SERVICE: CONTROLLER},
        stop=stop or threading.Event(),
    )


def node_playbooks(settings: Settings, nodes: Iterable[Node], stop: threading.Event) -> Playbooks:
    """Return the playbooks for a run on these nodes. Raises VirtualLabDown.

    Nodes behind BMCs are other machines: the playbooks are limited to them, and where their state
    folder is, the inventory says.
    """
    books = playbooks(settings, stop)
    machines = tuple(sorted(node.name for node in nodes if node.has_bmc))
    if not machines:
        return books
    variables = {name: value for name, value in books.variables.items() if name != "perfci_state_dir"}
    within = entering(settings.state_dir) if settings.lab == VIRTUAL else ()
    return replace(books, variables=variables, nodes=machines, entering=tuple(within))


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
    sources: dict[str, Any] = json.loads(job.sources.model_dump_json(exclude_none=True))
    filters = sources.get("neutron", {}).get("filters", [])
    for source in sources.values():
        source.pop("filters", None)
        source["patches"] = [str(root / patch) for patch in source.get("patches", [])]
    return {
        **job.cloud.variables,
        "cloud_services": list(job.cloud.services),
        "fake_compute_count": job.cloud.computes,
        "openstack_sources": sources,
        "neutron_api_filters": [{**one, "source": str(root / one["source"])} for one in filters],
    }
