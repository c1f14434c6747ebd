"""Which of the nodes that a run took it works on: those that came up, with spares for the others."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from perfci.errors import LabError
from perfci.runs.ansible.lab_playbooks import cloud_parts, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from perfci.runs.ansible.playbook import Playbooks
    from perfci.runs.jobs.model import Job
    from perfci.runs.state.run_folder import WorkFolder

PROVISIONED = "provision.json"
"""In the folder of a run: what came of each node, as playbooks/provision.yml writes it."""


class TooFewNodes(LabError):
    """Fewer nodes came up than the job needs."""

    template = "{came} of the {wanted} nodes that the job needs came up: {reasons}"
    help = (
        "docs/operator.md says what each reason means. `nodes: {{count: N, spares: M}}` takes more of them."
    )


@dataclass(frozen=True, slots=True)
class NodesUsed:
    """The nodes of a run, sorted; `lost` says of those that did not come up why."""

    nodes: tuple[str, ...]
    lost: Mapping[str, str] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """Say who was replaced, in one line; empty where nobody was."""
        if not self.lost:
            return ""
        reasons = "; ".join(f"{node}: {reason}" for node, reason in self.lost.items())
        return f"did not come up: {reasons}; the run is on {', '.join(self.nodes)}"


def lost_nodes(provisioned: Any, taken: Collection[str]) -> dict[str, str]:
    """Return which nodes did not come up, and why; `provisioned` is what the playbook wrote, or None."""
    known: dict[str, Any] = provisioned if isinstance(provisioned, dict) else {}
    found = {}
    for node in sorted(taken):
        result = known.get(node)
        failure = result.get("failure") if isinstance(result, dict) else None
        if isinstance(failure, dict):
            found[node] = f"{failure.get('stage', '?')}: {failure.get('reason', '?')}"
    return found


def choose(provisioned: Any, taken: Collection[str], count: int) -> NodesUsed:
    """Return the first `count` nodes by name that came up, so that the same ones are used every night.

    Without spares all are used: the playbook has refused too few. Raises TooFewNodes.
    """
    lost = lost_nodes(provisioned, taken)
    if len(taken) == count and not lost:
        return NodesUsed(tuple(sorted(taken)))
    known = provisioned if isinstance(provisioned, dict) else {}
    came = [node for node in sorted(taken) if node in known and node not in lost]
    if len(came) < count:
        silent = {node: "nothing is known of it" for node in sorted(taken) if node not in {*came, *lost}}
        reasons = "; ".join(f"{node}: {why}" for node, why in {**lost, **silent}.items())
        raise TooFewNodes(came=len(came), wanted=count, reasons=reasons)
    return NodesUsed(tuple(came[:count]), lost)


def playbooks_on_used(
    job: Job, work: WorkFolder, tell: Callable[[str], None]
) -> Callable[[Playbooks], Playbooks]:
    """Return what limits the playbooks to the nodes that a run works on, once it is known who came up.

    These become the nodes of the run, in its folder; `tell` hears of those that were replaced.
    """

    def limited(books: Playbooks) -> Playbooks:
        if books.nodes:
            used = choose(work.read(PROVISIONED), books.nodes, job.nodes.count)
            books = replace(books, nodes=used.nodes)
            work.note(nodes=list(used.nodes), **({"lost": dict(used.lost)} if used.lost else {}))
            if used.note:
                tell(used.note)
        return spread(books, cloud_parts(job, books), work.path)

    return limited
