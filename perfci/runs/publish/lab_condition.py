"""How the lab was during a run, in a sentence for the mail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfci.results.errors import ResultFileError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfci.results.archive import RunFiles
    from perfci.results.canaries import NodeCanaries


def lab_state(run: RunFiles) -> str:
    """Say how busy the nodes were with other things, and what the canaries took; empty where unknown."""
    try:
        shares, canaries = run.shares, run.canaries
    except ResultFileError:
        return ""
    parts = [
        f"processes outside the lab used {node.foreign:.1%} of {node.node}'s CPU time during the load, and "
        f"the hypervisor took {node.steal:.1%}"
        for node in shares
    ]
    parts += [f"canaries on {node.node}: {', '.join(_canaries(node))}" for node in canaries]
    return "; ".join(parts)


def _canaries(node: NodeCanaries) -> Iterator[str]:
    for name in sorted(node.before.keys() & node.after.keys()):
        yield f"{name} {1000 * node.before[name]:.1f} ms before and {1000 * node.after[name]:.1f} ms after"
