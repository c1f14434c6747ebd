"""What machine a node is, as `inspect.sh` of the role deploy_ramdisk tells it, and what the inventory says.

Pure: text in, values and YAML out. The text has a line for each thing, with tabs between its fields.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfci.lab.errors import InspectionUnreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

FIRST_LINE, LAST_LINE = "perfci-inspection 1", "end"
GIB = 1 << 30
UNKNOWN = {"", "-1", "unknown"}
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_NO_TEMPLATE = str.maketrans("{}", "()")
"""What a node says ends up in variables, and Ansible would run a template in them on the controller."""


@dataclass(frozen=True, slots=True)
class Card:
    """A network card."""

    name: str
    mac: str
    link: str
    """`yes`, `no`, or `unknown` where its interface is down."""
    megabits: int | None
    """Speed in Mbit/s, None without a link."""
    driver: str
    place: str
    """Its address on the PCI bus; empty for a virtual one."""
    numa_node: int | None


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk that a system can be put on."""

    name: str
    bytes: int
    rotational: bool | None
    serial: str
    wwn: str
    """Without `naa.` or `0x`."""
    model: str
    links: tuple[str, ...]
    """What udev calls it below /dev/disk: `by-path/...`, `by-id/...`; empty in the deploy ramdisk."""


@dataclass(frozen=True, slots=True)
class NumaNode:
    """CPUs and the memory that is next to them."""

    number: int
    cpus: str
    """As the kernel lists them: `0-15,32-47`."""
    bytes: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """One machine."""

    maker: str
    model: str
    serial: str
    firmware: str
    """`bios` or `uefi`: how it booted."""
    firmware_maker: str
    firmware_version: str
    firmware_date: str
    secure_boot: str
    """`on`, `off`, or `unknown`."""
    cpu: str
    sockets: int
    cores: int
    threads: int
    memory_bytes: int
    numa: tuple[NumaNode, ...]
    cards: tuple[Card, ...]
    disks: tuple[Disk, ...]
    provision_mac: str
    """MAC of the card that it was reached by; empty where that is not known."""


def read(text: str) -> Inspection:
    """Return what `inspect.sh` has written. Raises InspectionUnreadable for all else."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines or lines[0] != FIRST_LINE:
        raise InspectionUnreadable(
            reason=f"it does not begin with {FIRST_LINE!r}, but with {''.join(lines[:1])[:80]!r}"
        )
    if lines[-1] != LAST_LINE:
        raise InspectionUnreadable(reason="it is cut short")
    rows = [line.split("\t") for line in lines[1:-1]]
    try:
        return _inspection(rows)
    except (ValueError, KeyError) as error:
        raise InspectionUnreadable(reason=f"{type(error).__name__}: {error}") from error


def _inspection(rows: Sequence[Sequence[str]]) -> Inspection:
    single = {row[0]: row[1] for row in rows if len(row) == 2}  # noqa: PLR2004 - a name and a value
    cards = tuple(_card(row[1:]) for row in rows if row[0] == "card")
    physical = tuple(card for card in cards if card.place)
    return Inspection(
        maker=single["maker"],
        model=single["model"],
        serial=single["serial"],
        firmware=_one_of(single["firmware"], "bios", "uefi"),
        firmware_maker=single["firmware_maker"],
        firmware_version=single["firmware_version"],
        firmware_date=single["firmware_date"],
        secure_boot=single["secure_boot"],
        cpu=single["cpu"],
        sockets=int(single["sockets"]),
        cores=int(single["cores"]),
        threads=int(single["threads"]),
        memory_bytes=int(single["memory_bytes"]),
        numa=tuple(NumaNode(int(row[1]), row[2], int(row[3])) for row in rows if row[0] == "numa"),
        # A system has bridges and tunnels beside its cards; a container has nothing else.
        cards=physical or cards,
        disks=tuple(_disk(row[1:]) for row in rows if row[0] == "disk"),
        provision_mac=_mac(single["provision_mac"]) if single["provision_mac"] else "",
    )


def _one_of(text: str, *choices: str) -> str:
    if text not in choices:
        msg = f"expected {' or '.join(choices)}, got {text!r}"
        raise ValueError(msg)
    return text


def _mac(text: str) -> str:
    if not _MAC.fullmatch(text.lower()):
        msg = f"{text!r} is no MAC"
        raise ValueError(msg)
    return text.lower()


def _card(fields: Sequence[str]) -> Card:
    name, mac, link, megabits, driver, place, numa_node = fields
    return Card(
        name=name,
        mac=_mac(mac),
        link=link,
        megabits=int(megabits) if megabits not in UNKNOWN and int(megabits) > 0 else None,
        driver=driver,
        place=place,
        numa_node=int(numa_node) if numa_node not in UNKNOWN else None,
    )


def _disk(fields: Sequence[str]) -> Disk:
    name, size, serial, wwn, model, rotational, links = fields
    return Disk(
        name=name,
        bytes=int(size),
        rotational={"0": False, "1": True}.get(rotational),
        serial=serial,
        wwn=wwn,
        model=model,
        links=tuple(links.split()),
    )


def facts(found: Inspection) -> dict[str, str]:
    """Return what jobs and reservations can choose a node by, as texts; what is not known is left out.

    `memory_gib` is in GiB, rounded; `nic_speed` is that of the fastest card with a link, in Gbit/s; `disk_gb`
    is that of all disks together, in GB. Curly brackets become round ones.
    """
    speeds = [card.megabits for card in found.cards if card.megabits]
    everything = {
        "maker": found.maker,
        "model": found.model,
        "cpu": found.cpu,
        "sockets": found.sockets,
        "cores": found.cores,
        "threads": found.threads,
        "memory_gib": round(found.memory_bytes / GIB),
        "numa_nodes": len(found.numa),
        "nics": len(found.cards),
        "nic_speed": f"{max(speeds) / 1000:g}" if speeds else "",
        "disks": len(found.disks),
        "disk_gb": round(sum(disk.bytes for disk in found.disks) / 1e9),
        "firmware": found.firmware,
        "firmware_version": found.firmware_version,
    }
    return {
        name: str(value).translate(_NO_TEMPLATE) for name, value in everything.items() if value not in ("", 0)
    }


def disk_rules(disks: Iterable[Disk]) -> dict[str, str]:
    """Return by name of each disk the `provision_disk` that means it alone, if possible for life."""
    disks = tuple(disks)
    rules = {}
    for disk in disks:
        for term, value in (("wwn", disk.wwn), ("serial", disk.serial), ("model", disk.model)):
            same = Counter(getattr(one, term) for one in disks)[value]
            # A comma would end the term.
            if value and same == 1 and "," not in value:
                rules[disk.name] = (
                    f"wwn=0x{value}" if term == "wwn" and len(value) in {16, 32} else f"{term}={value}"
                )
                break
        else:
            rules[disk.name] = f"/dev/{disk.name}"
    return rules


def differences(found: Inspection, said: Mapping[str, str]) -> list[str]:
    """Return where the inventory says something else than the machine, a sentence each."""
    wrong = []
    if said.get("provision_firmware") and said["provision_firmware"] != found.firmware:
        wrong.append(f"provision_firmware is {said['provision_firmware']}, and it booted by {found.firmware}")
    mac = said.get("provision_mac", "").lower().replace("-", ":")
    macs = {card.mac: card.name for card in found.cards}
    if mac and mac not in macs:
        wrong.append(f"provision_mac is {mac}, and no card has it")
    elif mac and found.provision_mac and mac != found.provision_mac:
        wrong.append(f"provision_mac is {mac} ({macs[mac]}), and it was reached by {found.provision_mac}")
    if found.secure_boot == "on":
        wrong.append(
            "Secure Boot is on: neither iPXE nor the image's GRUB are signed; switch it off in its setup"
        )
    return wrong


def variables(found: Inspection, said: Mapping[str, str]) -> dict[str, str]:
    """Return what the inventory does not say yet and the machine shows. Which disk is meant is not seen."""
    shown = {"provision_mac": found.provision_mac, "provision_firmware": found.firmware}
    if len(found.disks) == 1:
        shown["provision_disk"] = "smallest"
    return {name: value for name, value in shown.items() if value and not said.get(name)}


def yaml_lines(found: Inspection, said: Mapping[str, str]) -> Iterator[str]:
    """Yield the variables of one node as YAML, with all that a person chooses by in comments."""
    yield f"# {_headline(found)}"
    yield from (f"# {line}" for line in _numa_lines(found))
    yield from (f"# card {_card_line(card)}" for card in found.cards)
    rules = disk_rules(found.disks)
    yield from (f"# disk {_disk_line(disk)}; provision_disk: {rules[disk.name]}" for disk in found.disks)
    yield from (f"# Look at this: {line}." for line in differences(found, said))
    for name, value in variables(found, said).items():
        yield f"{name}: {json.dumps(value)}"
    yield "node_facts:"
    for name, value in facts(found).items():
        yield f"  {name}: {json.dumps(value)}"


def _headline(found: Inspection) -> str:
    firmware = (
        f"{found.firmware.upper()} {found.firmware_version} ({found.firmware_maker}, {found.firmware_date})"
    )
    words = (
        f"{found.maker} {found.model}".strip() or "a machine that does not say who made it",
        f"serial number {found.serial}" if found.serial else "",
        firmware,
        f"{found.sockets} x {found.cpu}, {found.cores} cores, {found.threads} threads",
        f"{found.memory_bytes / GIB:.1f} GiB",
    )
    return ", ".join(word for word in words if word)


def _numa_lines(found: Inspection) -> Iterator[str]:
    for node in found.numa:
        yield f"NUMA node {node.number}: CPUs {node.cpus}, {node.bytes / GIB:.1f} GiB"


def _card_line(card: Card) -> str:
    link = {"yes": "link", "no": "no link"}.get(card.link, "link unknown, its interface is down")
    speed = f" {card.megabits / 1000:g} Gbit/s" if card.megabits else ""
    numa = f", NUMA node {card.numa_node}" if card.numa_node is not None else ""
    where = f", {card.driver} at {card.place}" if card.place else ""
    return f"{card.name} {card.mac}: {link}{speed}{where}{numa}"


def _disk_line(disk: Disk) -> str:
    kind = {True: "turning", False: "flash", None: ""}[disk.rotational]
    words = [f"{disk.bytes / 1e9:.0f} GB", kind, disk.model, *disk.links]
    return f"{disk.name}: {', '.join(word for word in words if word)}"
