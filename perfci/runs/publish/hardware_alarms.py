"""Asks the BMCs of machines what is wrong with them, and tells the admins what is new, each thing once.

What was told is noted in the history of the node (`perfci lab history --node NODE`), together with the mail
in one transaction: neither a kill nor a second controller makes a mail twice, or loses it.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from typing import TYPE_CHECKING

from perfci.alerts.outbox import Outbox
from perfci.database.schema import node_event
from perfci.lab import inventory
from perfci.lab.bmc.fleet import FleetLimits, each
from perfci.lab.bmc.protocols import connect
from perfci.lab.bmc_network import bmc_network
from perfci.lab.hardware import news
from perfci.lab.reservations.node_health import HARDWARE
from perfci.lab.reservations.service import open_reservations

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from perfci.config import Settings
    from perfci.lab.bmc.base import Connect, Event, Reading, Target
    from perfci.lab.hardware import HardwareAlarm
    from perfci.lab.reservations.service import Reservations

ASK_SECONDS = 60.0
"""How long one BMC may take to tell its sensors and its event log."""
LOOKED = "looked at for the first time"
_MOST_IN_A_MAIL = 50


@dataclass(frozen=True, slots=True)
class HardwareLook:
    """What a look at machines found: new alarms by node, and why the BMCs of others did not answer."""

    alarms: Mapping[str, tuple[HardwareAlarm, ...]] = field(default_factory=dict)
    silent: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """Say it in one line."""
        parts = [f"{node}: {'; '.join(one.text for one in found)}" for node, found in self.alarms.items()]
        parts += [f"{node} could not be asked: {why}" for node, why in self.silent.items()]
        return " | ".join(parts) or "no new alarm"


def look_at_hardware(
    settings: Settings,
    nodes: Iterable[str],
    *,
    reservations: Reservations | None = None,
    connecting: Connect = connect,
) -> HardwareLook:
    """Ask the BMCs of these nodes, note what is new, and put a mail about it into the outbox.

    Without `mail.admins` it is noted, and nobody gets a mail. Raises InventoryInvalid, BmcUnknown,
    SecretUnreadable, DatabaseUnavailable, VirtualLabDown, RootNeeded.
    """
    names = sorted(nodes)
    if not names:
        return HardwareLook()
    service = reservations or open_reservations(settings)
    with bmc_network(settings):
        told = asyncio.run(_asked(inventory.targets(settings.inventory_dir, names), connecting))
    silent = {node: one for node, one in told.items() if isinstance(one, str)}
    alarms = {}
    for node, one in told.items():
        if not isinstance(one, str) and (found := _noted(settings, service, node, *one)):
            alarms[node] = found
    return HardwareLook(alarms, silent)


async def _asked(
    targets: Iterable[Target], connecting: Connect
) -> dict[str, tuple[tuple[Reading, ...], tuple[Event, ...]] | str]:
    """Return sensors and events of each node, or why its BMC did not tell them."""

    async def ask(target: Target) -> tuple[tuple[Reading, ...], tuple[Event, ...]]:
        async with connecting(target) as bmc:
            return await bmc.sensors(), await bmc.events()

    outcomes = await each(targets, ask, limits=FleetLimits(deadline_seconds=ASK_SECONDS))
    return {
        node: one.value if one.value is not None else str(one.error or "no answer")
        for node, one in outcomes.items()
    }


def _noted(
    settings: Settings,
    service: Reservations,
    node: str,
    readings: tuple[Reading, ...],
    events: tuple[Event, ...],
) -> tuple[HardwareAlarm, ...]:
    """Note what is new of one node, with the mail about it; return it."""
    outbox = Outbox(service.database)  # the same database object: note and mail are one transaction
    with service.order() as (store, now):
        before = store.node_events(node_event.c.node == node, node_event.c.action == HARDWARE)
        known: dict[str, bool] = {one.detail: one.ok for one in before}
        found = news(
            readings,
            events,
            {name for name, ok in known.items() if not ok},
            first=LOOKED not in known,
            now=now,
        )
        if LOOKED not in known:
            store.note_node(node, now, "perfci", HARDWARE, detail=LOOKED)
        for name in found.well:
            store.note_node(node, now, "perfci", HARDWARE, detail=name)
        for alarm in (*found.old, *found.alarms):
            store.note_node(node, now, "perfci", HARDWARE, ok=False, detail=alarm.name)
        if found.alarms and settings.mail.admins:
            told = "\n".join(alarm.name for alarm in found.alarms)
            outbox.put(
                f"hardware-{store.lab}-{node}-{now.isoformat()}-{hashlib.sha256(told.encode()).hexdigest()[:12]}",
                hardware_mail(settings, store.lab, node, found.alarms, now),
                sender=settings.mail.from_address,
                recipients=settings.mail.admins,
                now=now,
            )
    return found.alarms


def hardware_mail(
    settings: Settings, lab: str, node: str, alarms: tuple[HardwareAlarm, ...], now: datetime
) -> EmailMessage:
    """Return the mail to the admins about what is new of one node."""
    lines = [f"- {alarm.text}" for alarm in alarms[:_MOST_IN_A_MAIL]]
    if len(alarms) > _MOST_IN_A_MAIL:
        lines.append(f"- and {len(alarms) - _MOST_IN_A_MAIL} more")
    message = EmailMessage()
    message["From"] = Address("perfci", addr_spec=settings.mail.from_address)
    message["To"] = ", ".join(settings.mail.admins)
    more = f", and {len(alarms) - 1} more" if len(alarms) > 1 else ""
    message["Subject"] = f"[{lab}] Hardware of {node}: {alarms[0].text[:100]}{more}"
    message["Date"] = now
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(
        f"The BMC of {node} reports:\n\n"
        + "\n".join(lines)
        + "\n\nYou get no further mail about these alarms. If a sensor recovers and fails again, perfci "
        "reports it again.\n\n"
        f"  perfci lab sensors {node}\n"
        f"  perfci lab events {node}\n"
        f'  perfci lab node quarantine {node} --reason "..."     # take it out of use until it is repaired\n'
    )
    return message
