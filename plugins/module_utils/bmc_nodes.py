"""How modules read BMCs from their arguments, and refuse values that YAML has changed."""

from __future__ import annotations

from typing import Any

TEXTS = ("address", "username", "password", "outlet", "outlet_command", "redfish_url", "redfish_system")
ARGUMENTS: dict[str, Any] = {
    # As text, Ansible would turn a number back into another text than was written: 000000 into 0.
    "address": {"type": "raw", "required": True},
    "port": {"type": "int", "default": 623},
    "username": {"type": "raw", "required": True},
    "password": {"type": "raw", "required": True, "no_log": True},
    "cipher_suite": {"type": "int", "choices": [3, 17], "default": 17},
    "power_seconds": {"type": "float", "default": 120},
    "outlet": {"type": "raw"},
    "outlet_command": {"type": "raw"},
    "protocol": {"type": "str", "choices": ["ipmi", "redfish", "auto"], "default": "ipmi"},
    "redfish_url": {"type": "raw"},
    "redfish_system": {"type": "raw"},
    "redfish_verify": {"type": "raw", "default": True},
}


def target(node: dict[str, Any]) -> Any:
    """Return how a BMC is reached."""
    from perfci.lab.bmc.base import BmcProtocol, Target, plain_address

    known = {name: node[name] for name in ARGUMENTS}
    known["address"] = plain_address(known["address"])
    return Target(**{**known, "node": node["name"], "protocol": BmcProtocol(node["protocol"])})


def unquoted(nodes: list[dict[str, Any]]) -> list[str]:
    """Return a sentence for each value that was meant as text and read as something else."""
    from perfci.validation import quote_it

    return [
        f"{node['name']}: {key} of its BMC: {quote_it(node[key])}"
        for node in nodes
        for key in TEXTS
        if node[key] is not None and not isinstance(node[key], str)
    ]
