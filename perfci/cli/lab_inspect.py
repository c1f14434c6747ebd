"""`perfci lab inspect`: what machines the nodes are."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from perfci.cli.access import settings_for
from perfci.cli.choices import ChoiceUnclear
from perfci.cli.output import Json, errors_reported, print_json
from perfci.lab import inspecting, inspection, inventory
from perfci.lab.errors import NodesNotInspected, NodesUnknown
from perfci.lab.inspection import Inspection
from perfci.lab.node_cache import nodes_of
from perfci.lab.virtual.lab import entering

SAID = ("provision_mac", "provision_firmware", "provision_disk")
"""The variables that an inspection can tell, or contradict."""
SSH = ("ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10")


def inspect(
    nodes: Annotated[list[str] | None, typer.Argument(metavar="[NODE]...", help="Which nodes.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All nodes of the lab.")] = False,
    write: Annotated[
        bool,
        typer.Option("--write", help="Write the variables to host_vars/NODE/inspected.yml in the inventory."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Read the hardware of nodes: network cards, disks, memory, NUMA, CPU, firmware.

    It prints variables for the inventory as YAML, under each node's name: `node_facts`, which jobs and
    reservations use to choose nodes, and those of `provision_mac`, `provision_firmware` and `provision_disk`
    that the inventory does not set yet. Comments list network cards and disks, the disk rule that selects
    each disk, and where the inventory contradicts the machine.

    It connects over SSH, and changes nothing on the node.

    Exit code 3: a node did not answer; perfci printed or wrote the others.
    """
    with errors_reported(as_json=as_json):
        settings = settings_for()
        names = _chosen(nodes or [], everything=everything)
        arguments = inventory.ssh_arguments(settings.inventory_dir, names)
        said = inventory.texts(settings.inventory_dir, names, SAID)
        within = entering(settings.state_dir) if settings.lab == inventory.VIRTUAL else []
        commands = {name: [*within, *SSH, *arguments[name], "sh", "-s"] for name in names}
        answers = inspecting.ask(commands, inspecting.script(settings.root_dir))
        found = {name: one for name, one in answers.items() if isinstance(one, Inspection)}
        lines = {name: list(inspection.yaml_lines(one, said[name])) for name, one in found.items()}
        if write:
            for name in found:
                file = inspecting.write(settings.inventory_dir, name, lines[name])
                sys.stderr.write(f"{name}: written to {file}\n")
        silent = {name: one for name, one in answers.items() if isinstance(one, str)}
        if as_json:
            documents = [_document(name, one, said[name]) for name, one in found.items()]
            print_json({"nodes": documents, "not_inspected": silent})
            raise typer.Exit(NodesNotInspected.exit_code if silent else 0)
        if not write:
            for name in found:
                sys.stdout.write(f"{name}:\n" + "".join(f"  {line}\n" for line in lines[name]))
        if silent:
            raise NodesNotInspected(nodes="\n".join(f"  {name}: {why}" for name, why in silent.items()))


def _document(name: str, found: Inspection, said: dict[str, str]) -> dict[str, object]:
    return {
        "name": name,
        **asdict(found),
        "facts": inspection.facts(found),
        "disk_rules": inspection.disk_rules(found.disks),
        "variables": inspection.variables(found, said),
        "differences": inspection.differences(found, said),
    }


def _chosen(names: list[str], *, everything: bool) -> list[str]:
    """Return the nodes that are meant. Raises ChoiceUnclear, NodesUnknown."""
    if bool(names) == everything:
        raise ChoiceUnclear(choices="names of nodes, or --all", command="inspect")
    settings = settings_for()
    known = [node.name for node in nodes_of(settings)]
    if unknown := [name for name in names if name not in known]:
        raise NodesUnknown(
            lab=settings.lab, size=len(known), known=", ".join(known), wanted=", ".join(unknown)
        )
    return list(dict.fromkeys(names)) or known
