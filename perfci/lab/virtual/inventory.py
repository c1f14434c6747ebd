"""The Ansible inventory of a virtual lab: `inventory/virtual/hosts.yml`, beside committed group_vars.

What depends on this lab is written here, with values and not with Jinja, as programs read it too; what
all virtual labs have in common stands in the group_vars.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from perfci.files import write_whole
from perfci.lab.virtual.plan import (
    BMC_PORT,
    BMC_USERNAME,
    BRIDGE,
    TUNNEL_INTERFACE,
    TUNNEL_MTU,
    TUNNEL_NETWORK,
    MachineKind,
)
from perfci.parsing import yaml_value

if TYPE_CHECKING:
    from perfci.lab.virtual.folders import LabFolder
    from perfci.lab.virtual.plan import Plan, PlannedNode

HEAD = "---\n# Written by `perfci virtual up`, removed by `perfci virtual down`.\n"


def file_of(project: Path) -> Path:
    """Return where the inventory is written."""
    return project / "inventory" / "virtual" / "hosts.yml"


def write(plan: Plan, folder: LabFolder) -> Path:
    """Write the inventory, all of it or nothing; return its file."""
    file = file_of(plan.project)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, HEAD + yaml.safe_dump(inventory(plan, folder), sort_keys=False))
    return file


def owner(project: Path) -> Path | None:
    """Return the folder of the lab that the inventory was written for; None where there is none to read."""
    try:
        written = yaml_value(file_of(project).read_text(encoding="utf-8"))
        return Path(written["all"]["vars"]["virtual_folder"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def erase(project: Path) -> None:
    """Remove the inventory, and what `perfci lab inspect --write` has added for machines that are gone."""
    file = file_of(project)
    for written in file.parent.glob("host_vars/*/inspected.yml"):
        written.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # somebody's own variables are there, too
            written.parent.rmdir()
            written.parent.parent.rmdir()
    file.unlink(missing_ok=True)


def inventory(plan: Plan, folder: LabFolder) -> dict[str, Any]:
    """Return the inventory as YAML holds it."""
    hosts = {node.name: _host(node) for node in plan.nodes}
    names: dict[str, Any] = {node.name: {} for node in plan.nodes}
    return {
        "all": {
            "vars": _everywhere(plan, folder),
            "children": {
                "controller": {"hosts": {"controller": {}}},
                "nodes": {"hosts": hosts, "vars": _of_nodes(folder)},
                "cloud": {"hosts": {} if plan.kind is MachineKind.NULL else names},
            },
        }
    }


def _everywhere(plan: Plan, folder: LabFolder) -> dict[str, Any]:
    return {
        "virtual_folder": str(folder.root),
        "virtual_kind": str(plan.kind),
        "virtual_namespace": plan.site,
        "provision_network": str(plan.network),
        "provision_interface": BRIDGE,
        "provision_controller_address": plan.controller_address,
    }


def _of_nodes(folder: LabFolder) -> dict[str, Any]:
    perfci = ["env", f"PERFCI_STATE_DIR={folder.root.parent}", sys.executable, "-m", "perfci"]
    return {
        "bmc_port": BMC_PORT,
        "bmc_username": BMC_USERNAME,
        "bmc_password_file": str(folder.bmc_password),
        "bmc_cipher_suite": 17,
        "pdu_command": shlex.join([*perfci, "virtual", "outlet", "{outlet}"]),
    }


def _host(node: PlannedNode) -> dict[str, Any]:
    reached = {
        "ansible_host": node.address,
        "provision_mac": node.mac,
        "provision_address": node.address,
        "provision_firmware": str(node.firmware),
    }
    tunnels = {
        "tunnel_interface": TUNNEL_INTERFACE,
        "tunnel_address": node.tunnel_address,
        "tunnel_prefix": TUNNEL_NETWORK.prefixlen,
        "tunnel_mtu": TUNNEL_MTU,
    }
    return {
        "bmc_address": node.bmc_address,
        "pdu_outlet": node.name,
        **(reached if node.address else {}),
        **(tunnels if node.tunnel_address else {}),
    }
