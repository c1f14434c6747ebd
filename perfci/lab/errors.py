"""What can be in the way of having nodes."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from perfci.errors import LabError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from perfci.lab.model import Quarantine, Reservation
    from perfci.lab.reservations.model import Slot


class NodesBusy(LabError):
    """Somebody holds the nodes; `reservations` are the conflicting reservations."""

    template = "not enough free nodes for {wanted}:\n{holders}"
    help = "Wait until then, or ask the holder; `perfci lab nodes` shows who holds what now."

    def __init__(self, *, wanted: str, reservations: Iterable[Reservation]) -> None:
        self.reservations = tuple(reservations)
        super().__init__(wanted=wanted, holders="\n".join(f"  {held(one)}" for one in self.reservations))


class NodesUnknown(UsageError):
    """More nodes are wanted than the lab has, or nodes that it does not have."""

    template = "lab {lab} has {size} nodes ({known}); wanted: {wanted}"
    help = "Ask for nodes of this lab; they come from its Ansible inventory."


class NodesQuarantined(LabError):
    """Needed nodes are in quarantine; `quarantined` lists them."""

    template = "not enough usable nodes for {wanted}; in quarantine:\n{nodes}"
    help = "Repair them, then run `perfci lab node restore NODE`; or ask for other nodes."

    def __init__(self, *, wanted: str, quarantined: Iterable[Quarantine]) -> None:
        self.quarantined = tuple(quarantined)
        lines = (f"  {one.node}: since {local_time(one.since)}: {one.reason}" for one in self.quarantined)
        super().__init__(wanted=wanted, nodes="\n".join(lines))


class NodesUnhealthy(NodesQuarantined):
    """A reservation wants nodes that are in quarantine, and can't be met without them."""

    exit_code = 5


class NodeHeld(LabError):
    """Somebody else holds nodes that an order would disturb."""

    template = "somebody else holds some of these nodes:\n{holders}"
    help = "Ask the holder, leave those nodes out, or use --force."

    def __init__(self, *, reservations: Iterable[Reservation]) -> None:
        self.reservations = tuple(reservations)
        super().__init__(holders="\n".join(f"  {held(one)}" for one in self.reservations))


class ReservationInvalid(UsageError):
    """A reservation has no purpose, or ends before it begins."""

    template = "can't reserve: {reason}"
    help = "`perfci lab reserve --help` shows how to say which nodes you want, from when and for how long."


class ReservationNotFound(UsageError):
    """No reservation of this lab has this id."""

    template = "no reservation {id!r} in lab {lab}"
    help = "`perfci lab nodes` shows the reservations that hold nodes, with their ids."


class LeaseInUse(LabError):
    """A run in progress holds the nodes; taking them away would spoil it."""

    template = "reservation {id} belongs to process {pid}, which is running: {purpose}"
    help = "End that run (Ctrl-C, or `kill {pid}`); it then gives its nodes back."


class NoSuchSlot(LabError):
    """The nodes are not free at that time; `slot` is the earliest time that would work, if there is one."""

    template = "{wanted} can't be had {when}{why}.{nearest}"
    help = "Use --queue to take the earliest possible time, or --wait TIME to wait that long for the nodes."

    def __init__(self, *, wanted: str, when: str, why: str = "", slot: Slot | None = None) -> None:
        self.slot = slot
        nearest = "" if why else "No time would work."
        if slot is not None:
            nearest = f"The earliest that works: {local_time(slot.starts_at)} on {', '.join(slot.nodes)}."
        super().__init__(
            wanted=wanted, when=when, why=f": {why}" if why else "", nearest=f" {nearest}" if nearest else ""
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the error for `--json`, with the slot."""
        return {**super().as_dict(), "slot": None if self.slot is None else self.slot.as_dict()}


class ReservationLimit(LabError):
    """With this reservation, one person would have more than the limit."""

    template = "{who} may have at most {limit}; with this one it would be {would}"
    help = "Give something back (`perfci lab mine`), ask for less, or ask an admin of the lab."


class NotYours(LabError):
    """The reservation is somebody else's."""

    template = "reservation {id} is {holder}'s, not {actor}'s"
    help = "Ask {holder}. Admins (reservations.admins in the settings) may do it; perfci records that."
    exit_code = 4


class AdminsOnly(LabError):
    """Only an admin of the lab may do this."""

    template = "{actor} is not an admin of lab {lab}: {order}"
    help = "Ask one of the admins: reservations.admins in the settings names them."
    exit_code = 4


class NodesNotReserved(LabError):
    """Somebody who is not an admin gives orders to nodes that they don't hold."""

    template = "{actor} has not reserved {nodes}"
    help = "Reserve them first: `perfci lab reserve --node NAME --for TIME`. Admins may order free nodes."
    exit_code = 4


class ReservationOver(LabError):
    """The reservation is over or is ending."""

    template = "reservation {id} is {state}: {order} is no longer possible"
    help = "Make another one: `perfci lab reserve`."


class NotReady(LabError):
    """The nodes of a reservation are not ready yet, or no longer."""

    template = "reservation {id} is {state}, not ready"
    help = "`perfci lab show {id}` shows how far it is; `perfci lab why {id}` says why it waits."
    exit_code = 3


class NodeNotHeld(UsageError):
    """The node to give back or swap does not belong to the reservation."""

    template = "node {node} is not one of reservation {id}: {nodes}"
    help = "`perfci lab show {id}` shows its nodes."


class StateOrder(LabError):
    """A reservation can't go from one state to another: a step is missing."""

    template = "reservation {id} can't become {after}: it is {before}{why}"
    help = "This is a fault of perfci; `perfci lab show {id}` shows what was done. Please report it."


class TokenUnknown(UsageError):
    """A token that does not exist, was revoked, or has expired."""

    template = "no such token{which}"
    help = "`perfci lab token list` shows your tokens; `perfci lab token add` makes one."
    exit_code = 4


class NoCanary(LabError):
    """No canary has passed on a node since it went into quarantine."""

    template = "no canary has passed on {node} since it was put into quarantine, {since}"
    help = "Run one with `perfci lab node check {node} --provision`, or use --force, which perfci records."
    exit_code = 5


class NodeNotProvisioned(LabError):
    """A node can't get a fresh system for a check."""

    template = "perfci puts no fresh system on {node}: {reason}"
    help = (
        "Without --provision, `perfci lab node check {node}` runs the canaries on the system that is there."
    )


class InventoryInvalid(UsageError):
    """The lab's Ansible inventory is missing, can't be parsed or names no node."""

    template = "inventory {folder}: {reason}"
    help = "Check it with `ansible-inventory -i {folder} --graph`; nodes are the hosts of group {group!r}."


class VirtualInventoryMissing(InventoryInvalid):
    """No virtual lab is up, and only that writes the nodes of its inventory."""

    template = "inventory {folder}: it has no nodes, as no virtual lab is up"
    help = "Start one, which writes them there: `sudo .venv/bin/perfci virtual up --nodes 4`."


class ControllerUnprepared(LabError):
    """Nodes can't be prepared, and none of them is at fault: a playbook failed before it came to them."""

    template = "the controller can't prepare nodes: {reason}"
    help = (
        "Mend it on the controller. A reservation keeps its nodes, and perfci tries again every two minutes."
    )


class InspectionUnreadable(LabError):
    """The output of a node's inspection can't be read."""

    template = "the output of its inspection can't be read: {reason}"
    help = "Run `cat disks.sh inspect.sh | ssh NODE sh -s` in roles/deploy_ramdisk/files and read the output."


class NodesNotInspected(LabError):
    """perfci could not inspect some nodes."""

    template = "not inspected:\n{nodes}"
    help = "A node must accept SSH with the lab's key; `perfci lab power status NODE` says whether it is on."


class HostVariablesElsewhere(UsageError):
    """The inventory keeps a node's variables in a file, which Ansible would not read beside a folder."""

    template = "{file} is in the way of {wanted}"
    help = "Ansible reads either the file or the folder: mkdir {folder} && git mv {file} {folder}/."


class NodesUnmatched(UsageError):
    """A job wants nodes that the lab does not have."""

    template = "no node of the lab matches {where}: {reason}"
    help = "Correct the filter (`--where`, or nodes.where of the job), or node_labels in the inventory."


class NodesOutsideCloud(UsageError):
    """A run was given nodes on which the playbooks deploy no cloud."""

    template = "inventory {folder}: no cloud is deployed on {nodes}, as the group `cloud` has {cloud}"
    help = (
        "Put all nodes into the group: `cloud: {{children: {{nodes:}}}}` in hosts.yml, as in "
        "inventory/example."
    )


def held(reservation: Reservation) -> str:
    """Return one line about who holds what, with times in this machine's zone."""
    return (
        f"{', '.join(reservation.nodes)}: held by {reservation.holder} ({reservation.purpose}) "
        f"since {local_time(reservation.starts_at)} until {local_time(reservation.ends_at)}"
    )


def local_time(when: datetime) -> str:
    """Return a time for people, in the zone of this machine: `2026-03-01 14:05 CET`."""
    return when.astimezone().strftime("%Y-%m-%d %H:%M %Z")


_IN_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00")


def local_times(text: str, show: Callable[[datetime], str] = local_time) -> str:
    """Return a detail of the history for people: it keeps times in ISO 8601 and UTC."""
    return _IN_UTC.sub(lambda found: show(datetime.fromisoformat(found[0])), text)
