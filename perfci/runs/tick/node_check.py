"""An admin's check of one node: its canaries, on a fresh system if the admin wants that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfci.lab.errors import NodeNotProvisioned
from perfci.lab.reservations.checks import check_admin
from perfci.lab.reservations.model import Wipe
from perfci.lab.reservations.node_orders import NodeOrders
from perfci.runs.tick.node_playbooks import RECLAIMS

if TYPE_CHECKING:
    from perfci.lab.reservations.model import Actor, NodeStatus
    from perfci.lab.reservations.service import Reservations
    from perfci.runs.tick.node_playbooks import Play


def check_node(service: Reservations, node: str, actor: Actor, play: Play, *, provision: bool = False) -> str:
    """Run the canaries on a node, and note the result in its history; return why they failed, or nothing.

    With `provision` the machine gets a fresh system first. Afterwards it is taken back, whatever happened.
    Raises AdminsOnly, NodesUnknown, NodeNotProvisioned, ControllerUnprepared.
    """
    check_admin(actor, service.lab, f"checking {node[:60]}")
    status = service.node(node)
    orders, reason = NodeOrders(service), f"a check by {actor.name}"

    def done(playbook: str, *steps: str) -> str:
        words = play(playbook, (node,), reason).get(node, "")
        if words:
            orders.note(node, steps[-1], ok=False, detail=words)
        else:
            orders.passed([node], steps)
        return words

    if not provision:
        return done("check", "canary")
    _check_unused(status)
    try:
        words = done("provision", "power", "provision") or done("check", "canary")
    finally:
        left_on = done(RECLAIMS[Wipe.NONE], "reclaim")
    return words or left_on


def _check_unused(status: NodeStatus) -> None:
    """Raise NodeNotProvisioned where somebody has the node, or might get it meanwhile."""
    reason = ""
    if not status.has_bmc:
        reason = "it has no BMC"
    elif status.booking is not None:
        reason = f"{status.booking.holder} has it (reservation {status.booking.id})"
    elif status.quarantine is None:
        reason = "somebody could reserve it meanwhile: put it into quarantine first"
    if reason:
        raise NodeNotProvisioned(node=status.name, reason=reason)
