"""The second cloud of a paired run: it is deployed beside the code under test, on the same node.

It is a whole cloud, with ports, databases, brokers and a state folder of its own. What is the same for both
is made once: the environments with the code, and Rally's. Its results are in the folder `reference` of the
run.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

import psutil

from perfci.analysis.pairs import draw_effect, smallest_visible
from perfci.analysis.settings import AnalysisSettings
from perfci.errors import LabError
from perfci.lab.sql import open_ledger
from perfci.results.model import TOTAL
from perfci.results.pairs import REFERENCE
from perfci.runs.ansible.lab_playbooks import cloud_variables
from perfci.runs.state.processes import MARK

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from perfci.config import Settings
    from perfci.lab.model import Node
    from perfci.results.model import Validity
    from perfci.results.pairs import PairedRun
    from perfci.runs.ansible.playbook import Playbooks
    from perfci.runs.jobs.model import Job
    from perfci.runs.state.run_folder import WorkFolder
    from perfci.runs.state.state_folder import StateFolder

PORT_OFFSET = 1000
"""How far the ports of the reference are above those of the code under test."""
GIB = 1024**3
CONTROL_PLANE_GIB = 2.0
NOVA_GIB = 2.5
COMPUTE_GIB = 0.15
"""What one cloud needs: the services, nova's beside them, and each pretend compute with its agent."""
REST_GIB = 1.5
"""What Ansible and two hammers need, and what the system must keep."""


class TooLittleMemory(LabError):
    """The machine has too little memory for two clouds."""

    template = (
        "{available:.1f} GiB of memory are available, but two clouds side by side need {needed:.1f}: "
        "each has {services} and {computes} computes"
    )
    help = (
        "End other programs, take a job with fewer `cloud.computes` or services, or use a larger machine. "
        "Without a reference (`perfci run`, `perfci pins bump`) one cloud at a time is enough."
    )


class ReferenceElsewhere(LabError):
    """Two clouds side by side run only on the controller, but the nodes are other machines."""

    template = "two clouds side by side run only on the controller, but this run would use {nodes}"
    help = (
        "Measure it in a lab without machines (`--lab embedded`), or one cloud at a time: a job without "
        "`reference`, `perfci try` or `perfci pins bump`."
    )


@dataclass(frozen=True, slots=True)
class ReferenceCloud:
    """What the stages of a run need to know of its reference; `folder` is that of its results."""

    playbooks: Playbooks
    variables: Mapping[str, Any]
    folder: Path
    plan: Path
    state_dir: Path
    port_base: int
    seed: int

    @property
    def logs(self) -> Path:
        """Where what is said about it goes."""
        return self.folder / "logs"

    @property
    def hammered(self) -> dict[str, Any]:
        """What hammer.yml is told of it."""
        return {
            "state_dir": str(self.state_dir),
            "run_dir": str(self.folder),
            "plan": str(self.plan),
            "port_base": self.port_base,
            "seed": self.seed,
        }


def needed_gib(job: Job) -> float:
    """Return how much memory two clouds of a job need, in GiB."""
    has_nova = "nova" in job.cloud.services
    one = CONTROL_PLANE_GIB + (NOVA_GIB + COMPUTE_GIB * job.cloud.computes if has_nova else 0.0)
    return 2 * one + REST_GIB


def check_room(job: Job, nodes: Iterable[Node], available_bytes: int | None = None) -> None:
    """Check that two clouds of a job can run side by side on these nodes.

    Raises ReferenceElsewhere for machines behind BMCs, TooLittleMemory where the controller, which carries
    both, has too little to spare.
    """
    if machines := sorted(node.name for node in nodes if node.has_bmc):
        raise ReferenceElsewhere(nodes=", ".join(machines))
    available = psutil.virtual_memory().available if available_bytes is None else available_bytes
    if available < needed_gib(job) * GIB:
        raise too_little_memory(job, available)


def too_little_memory(job: Job, available: int) -> TooLittleMemory:
    """Return what is to be said where two clouds of a job need more memory than these bytes."""
    return TooLittleMemory(
        available=available / GIB,
        needed=needed_gib(job),
        services=", ".join(job.cloud.services),
        computes=job.cloud.computes if "nova" in job.cloud.services else 0,
    )


def carry_two(job: Job, nodes: Iterable[Node]) -> bool:
    """Say whether these nodes have room for two clouds of a job at a time."""
    if job.cloud.kind != "embedded" or job.procedure != "hammer" or any(node.has_bmc for node in nodes):
        return False
    return psutil.virtual_memory().available >= needed_gib(job) * GIB


def two_fit(job: Job, settings: Settings) -> bool:
    """Say whether the lab has room for two clouds of a job at a time."""
    return carry_two(job, open_ledger(settings).nodes)


def reference_of(
    job: Job, settings: Settings, state: StateFolder, work: WorkFolder, books: Playbooks
) -> ReferenceCloud:
    """Return the reference of a job that has one; its plan is in its folder."""
    port_base = settings.port_base + PORT_OFFSET
    folder = work.path / REFERENCE
    variables = cloud_variables(job.beside(), settings.root_dir)
    if job.reference is not None and job.reference.constraints is not None:
        variables["cloud_constraints"] = str(settings.root_dir / job.reference.constraints)
    shared = {"perfci_shared_dir": str(state.root)}
    return ReferenceCloud(
        playbooks=replace(
            books,
            variables={
                **books.variables,
                **shared,
                "perfci_state_dir": str(state.reference),
                "perfci_port_base": port_base,
            },
            environment={**books.environment, MARK: str(state.reference)},
        ).of_run(work.run_id),
        variables={**variables, "perfci_run_dir": str(folder)},
        folder=folder,
        plan=folder / "plan.json",
        state_dir=state.reference,
        port_base=port_base,
        seed=zlib.crc32(work.run_id.encode()),
    )


def by_pairs(found: Validity, run: PairedRun) -> Validity:
    """Return the validity of a run on an unfit lab: its pairs count where they are precise.

    What the machine did to both sides at a time is in no pair, so that the question is not what it did, but
    how far the pairs scatter: half of the scenarios can show changes of `useful_mde`.
    """
    whole = [draw_effect(one.differences) for one in run.series if one.key.action == TOTAL]
    seen = [smallest_visible(one) if one else math.inf for one in whole]
    if not seen or median(seen) > AnalysisSettings().useful_mde:
        return found
    return replace(found, valid=True, pairs_only=True)
