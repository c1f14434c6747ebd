"""What can be in the way of having nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perfci.errors import LabError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from perfci.lab.model import Quarantine, Reservation
    from perfci.lab.reservations.model import Slot


class NodesBusy(LabError):
    """Somebody holds the nodes; `reservations` are those in the way."""

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
    """Nodes in quarantine stand in the way; `quarantined` are those."""

    template = "not enough usable nodes for {wanted}; in quarantine:\n{nodes}"
    help = "Mend them, then `perfci lab node restore NODE`; or ask for others."

    def __init__(self, *, wanted: str, quarantined: Iterable[Quarantine]) -> None:
        self.quarantined = tuple(quarantined)
        lines = (f"  {one.node}: since {local_time(one.since)}: {one.reason}" for one in self.quarantined)
        super().__init__(wanted=wanted, nodes="\n".join(lines))


class NodesUnhealthy(NodesQuarantined):
    """A reservation wants nodes that are in quarantine, and can't be met without them."""

    exit_code = 5


class NodeHeld(LabError):
    """Somebody else holds nodes that an order would disturb."""

    template = "somebody else holds nodes of these:\n{holders}"
    help = "Ask the holder, leave those nodes out, or say --force."

    def __init__(self, *, reservations: Iterable[Reservation]) -> None:
        self.reservations = tuple(reservations)
        super().__init__(holders="\n".join(f"  {held(one)}" for one in self.reservations))


class ReservationInvalid(UsageError):
    """What is wanted is not a reservation: without a purpose, or over before it begins."""

    template = "can't reserve: {reason}"
    help = "Give a purpose that others understand, in one line, and an end in the future."


class ReservationNotFound(UsageError):
    """No reservation of this lab has this id."""

    template = "no reservation {id!r} in lab {lab}"
    help = "`perfci lab nodes` shows the reservations that hold nodes, with their ids."


class LeaseInUse(LabError):
    """A run that is going on holds the nodes; taking them away would spoil it."""

    template = "reservation {id} belongs to process {pid}, which is running: {purpose}"
    help = "End that run (Ctrl-C, or `kill {pid}`): it gives its nodes back itself."


class NoSuchSlot(LabError):
    """The nodes can't be had at that time; `slot` is the earliest time that would work, if there is one."""

    template = "{wanted} can't be had {when}{why}.{nearest}"
    help = "Say --queue to take the earliest time there is, or --wait TIME to wait so long for it."

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
    """Somebody has, with this, more than one person may have."""

    template = "{who} may have {limit} at most; with this it would be {would}"
    help = "Give something back (`perfci lab mine`), ask for less, or ask an admin of the lab."


class NotYours(LabError):
    """The reservation is somebody else's."""

    template = "reservation {id} is {holder}'s, not {actor}'s"
    help = "Ask {holder}. Admins (reservations.admins in the settings) may do it; it is recorded."
    exit_code = 4


class AdminsOnly(LabError):
    """Only an admin of the lab may do this."""

    template = "{actor} is no admin of lab {lab}: {order}"
    help = "Ask one of the admins: reservations.admins in the settings names them."
    exit_code = 4


class NodesNotReserved(LabError):
    """Somebody who is no admin gives orders to nodes that they did not reserve, or have no more."""

    template = "{actor} has not reserved {nodes}"
    help = "Reserve them first: `perfci lab reserve --node NAME --for TIME`. Admins may order free nodes."
    exit_code = 4


class ReservationOver(LabError):
    """What is to be changed is over, or is just being ended."""

    template = "reservation {id} is {state}: {order} is not possible any more"
    help = "Make another one: `perfci lab reserve`."


class NodeNotHeld(UsageError):
    """A node that is to be given back or swapped does not belong to the reservation."""

    template = "node {node} is not one of reservation {id}: {nodes}"
    help = "`perfci lab show {id}` shows its nodes."


class StateOrder(LabError):
    """A reservation can't go from one state to another: a step is missing."""

    template = "reservation {id} can't become {after}: it is {before}{why}"
    help = "This is a fault of perfci; `perfci lab show {id}` shows what was done. Please report it."


class TokenUnknown(UsageError):
    """A token that does not exist, was revoked, or has expired."""

    template = "no such token{which}"
    help = "`perfci lab token list` shows yours; `perfci lab token add` makes one."
    exit_code = 4


class NoCanary(LabError):
    """A node in quarantine has not shown since that it is well."""

    template = "no canary has passed on {node} since it was put into quarantine, {since}"
    help = "Run one: `perfci lab node check {node}`; or say --force, which is recorded."
    exit_code = 5


class InventoryInvalid(UsageError):
    """The lab's Ansible inventory is missing, can't be parsed or names no node."""

    template = "inventory {folder}: {reason}"
    help = "Check it with `ansible-inventory -i {folder} --graph`; nodes are the hosts of group {group!r}."


class InspectionUnreadable(LabError):
    """What a node tells of itself can't be read."""

    template = "what it tells of itself can't be read: {reason}"
    help = (
        "Run `cat disks.sh inspect.sh | ssh NODE sh -s` in roles/deploy_ramdisk/files and look at what comes."
    )


class NodesNotInspected(LabError):
    """Nodes did not tell what they are."""

    template = "not inspected:\n{nodes}"
    help = "A node must answer under SSH with the lab's key; `perfci lab power status NODE` says if it is on."


class HostVariablesElsewhere(UsageError):
    """The inventory keeps a node's variables in a file, which Ansible would not read beside a folder."""

    template = "{file} is in the way of {wanted}"
    help = "Ansible reads either the file or the folder: mkdir {folder} && git mv {file} {folder}/."


class NodesUnmatched(UsageError):
    """A job wants nodes of a kind that the lab does not have."""

    template = "no node of the lab is one where {where}: {reason}"
    help = "Correct nodes.where of the job, or node_labels in the inventory."


class NodesOutsideCloud(UsageError):
    """A run was given nodes on which the playbooks deploy no cloud."""

    template = "inventory {folder}: no cloud is deployed on {nodes}, as the group `cloud` has {cloud}"
    help = "Put all nodes into it: `cloud: {{children: {{nodes:}}}}` in hosts.yml, as inventory/example does."


def held(reservation: Reservation) -> str:
    """Return one line about who holds what, with times in this machine's zone."""
    return (
        f"{', '.join(reservation.nodes)}: held by {reservation.holder} ({reservation.purpose}) "
        f"since {local_time(reservation.starts_at)} until {local_time(reservation.ends_at)}"
    )


def local_time(when: datetime) -> str:
    """Return a time for people, in the zone of this machine: `2026-03-01 14:05 CET`."""
    return when.astimezone().strftime("%Y-%m-%d %H:%M %Z")
