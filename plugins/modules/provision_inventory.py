"""Ansible module: check what the inventory says about the machines of a provisioning network."""

from __future__ import annotations

import ipaddress
import re
from collections import defaultdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    from perfci.validation import quote_it
except ImportError as error:
    MISSING: ImportError | None = error
else:
    MISSING = None

DOCUMENTATION = r"""
module: provision_inventory
short_description: Check what the inventory says about the machines of a provisioning network
description:
  - Finds everything that is missing or wrong at once, and names the variable. Two machines with one address
    would be found out only when one of them overwrites the other.
options:
  network: {description: "C(provision_network): the provisioning network as CIDR", type: str, required: true}
  controller_address: {description: "C(provision_controller_address): the controller's address on it", type: str, required: true}
  nodes:
    description: The variables of each machine, empty where the inventory does not set them.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: The name in the inventory., type: str, required: true}
      provision_mac: {description: MAC of the interface that boots., type: raw, required: true}
      provision_address: {description: Its address., type: raw, required: true}
      provision_disk: {description: Rule for the disk., type: raw, required: true}
      provision_firmware: {description: bios or uefi., type: raw, required: true}
      provision_console: {description: "Its serial console, as ttyS1,115200.", type: raw, default: 'ttyS0,115200'}
      bmc_address: {description: Address of the BMC., type: raw, required: true}
      bmc_port: {description: Its UDP port., type: int, default: 623}
author: [perfci]
"""
EXAMPLES = r"""
- provision_inventory:
    network: 192.168.240.0/24
    controller_address: 192.168.240.1
    nodes:
      - name: node-1
        provision_mac: 52:54:00:aa:bb:01
        provision_address: 192.168.240.11
        provision_disk: smallest
        provision_firmware: bios
        bmc_address: 192.168.241.11
"""
RETURN = r"""
network: {description: First address of the network., returned: success, type: str}
netmask: {description: Its netmask., returned: success, type: str}
"""
NAME = re.compile(r"(?!.{254})[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
MAC = re.compile(r"[0-9a-f]{2}([:-])([0-9a-f]{2}\1){4}[0-9a-f]{2}")
DISK_TERM = re.compile(
    r"smallest|/dev/[a-z0-9]+|/dev/disk/by-(id|path)/[A-Za-z0-9:._+@-]+|(serial|wwn|model)=[^,]+|rotational=[01]|min_size=[0-9]+[KMGT]?"
)
DISK_RULE = (
    "smallest, /dev/NAME, /dev/disk/by-id/NAME, /dev/disk/by-path/NAME, serial=TEXT, wwn=TEXT, model=TEXT, "
    "rotational=0 or min_size=400G, or several with commas"
)
CONSOLE = re.compile(r"ttyS[0-9]{1,2},[0-9]{4,7}(n8)?")
NODE_OPTIONS = ("provision_mac", "provision_address", "provision_disk", "provision_firmware", "bmc_address")


def problems(network: str, controller_address: str, nodes: list[dict[str, Any]]) -> list[str]:
    """Return everything that is wrong, a sentence each; an empty list where nothing is."""
    try:
        net = ipaddress.IPv4Network(network)
    except ValueError as error:
        return [f"provision_network: {error}"]
    wrong = []
    if not _inside(controller_address, net):
        wrong.append(f"provision_controller_address: {controller_address!r} is no address of {net}")
    if not nodes:
        wrong.append("the group `nodes` is empty")
    for node in nodes:
        wrong += [f"{node['name']}: {text}" for text in _problems_of(node, net)]
    return wrong + _shared(controller_address, nodes)


def _problems_of(node: dict[str, Any], net: ipaddress.IPv4Network) -> list[str]:
    if unquoted := [name for name in NODE_OPTIONS if not isinstance(node[name], str)]:
        return [f"{name}: {quote_it(node[name])}" for name in unquoted]
    missing = [name for name in NODE_OPTIONS if not node[name]]
    wrong = [f"{name} is not set" for name in missing]
    if not NAME.fullmatch(node["name"]):
        wrong.append(
            "its name is no host name: small letters, digits and hyphens, at most 63, also with a domain"
        )
    checks = {
        "provision_mac": (
            bool(MAC.fullmatch(node["provision_mac"].lower())),
            "a MAC such as 52:54:00:aa:bb:01 or 52-54-00-aa-bb-01",
        ),
        "provision_address": (_inside(node["provision_address"], net), f"an address of {net}"),
        "provision_disk": (
            all(DISK_TERM.fullmatch(term) for term in node["provision_disk"].split(",")),
            DISK_RULE,
        ),
        "provision_console": (
            bool(CONSOLE.fullmatch(str(node.get("provision_console", "ttyS0,115200")))),
            "a serial port with its speed, such as ttyS1,115200",
        ),
        "provision_firmware": (node["provision_firmware"] in {"bios", "uefi"}, "bios or uefi"),
    }
    for name, (good, expected) in checks.items():
        if name not in missing and not good:
            wrong.append(f"{name}: expected {expected}, got {node.get(name)!r}")
    return wrong


def _inside(address: str, net: ipaddress.IPv4Network) -> bool:
    try:
        parsed = ipaddress.IPv4Address(address)
    except ValueError:
        return False
    return parsed in net and parsed not in {net.network_address, net.broadcast_address}


def _shared(controller_address: str, nodes: list[dict[str, Any]]) -> list[str]:
    """Find what two machines have in common and must not."""
    holders: dict[tuple[str, str], list[str]] = defaultdict(list)
    holders["provision_address", controller_address].append("the controller")
    for node in nodes:
        if not all(isinstance(node[name], str) for name in NODE_OPTIONS):
            continue
        # DHCP gives names without a domain.
        holders["short name", node["name"].partition(".")[0]].append(node["name"])
        holders["provision_mac", node["provision_mac"].lower().replace("-", ":")].append(node["name"])
        holders["provision_address", node["provision_address"]].append(node["name"])
        bmc = f"{node['bmc_address']} port {node['bmc_port']}" if node["bmc_address"] else ""
        holders["bmc_address", bmc].append(node["name"])
    return [
        f"{' and '.join(names)} have the same {variable} {value}"
        for (variable, value), names in holders.items()
        if value and len(names) > 1
    ]


def main() -> None:
    # As text, Ansible would turn a number back into another text than was written.
    texts = {name: {"type": "raw", "required": True} for name in NODE_OPTIONS}
    module = AnsibleModule(
        argument_spec={
            "network": {"type": "str", "required": True},
            "controller_address": {"type": "str", "required": True},
            "nodes": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    **texts,
                    "provision_console": {"type": "raw", "default": "ttyS0,115200"},
                    "bmc_port": {"type": "int", "default": 623},
                },
            },
        },
        supports_check_mode=True,
    )
    if MISSING is not None:
        module.fail_json(msg=missing_required_lib("perfci"), exception=str(MISSING))
    found = problems(module.params["network"], module.params["controller_address"], module.params["nodes"])
    if found:
        module.fail_json(msg="Correct the inventory:\n" + "\n".join(found))
    net = ipaddress.IPv4Network(module.params["network"])
    module.exit_json(network=str(net.network_address), netmask=str(net.netmask))


if __name__ == "__main__":
    main()
