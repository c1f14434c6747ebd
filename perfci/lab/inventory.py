"""The nodes of a lab, from its Ansible inventory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from perfci.lab.errors import InventoryInvalid
from perfci.lab.model import Node

GROUP = "nodes"
"""The inventory group whose hosts can be reserved; an inventory without it means all its hosts."""
TIMEOUT_SECONDS = 60


def nodes(folder: Path) -> tuple[Node, ...]:
    """Return the nodes of the inventory, sorted by name. Raises InventoryInvalid."""
    if not folder.exists():
        others = sorted(path.name for path in folder.parent.glob("*") if path.is_dir())
        there = f"; there are: {', '.join(others)}" if others else ""
        raise InventoryInvalid(folder=folder, group=GROUP, reason=f"it does not exist{there}")
    groups = _listed(folder)
    # A group without hosts is listed only as a child of another.
    known = {*groups, *(child for group in groups.values() for child in group.get("children", ()))}
    names = _hosts(groups, GROUP if GROUP in known else "all")
    if not names:
        raise InventoryInvalid(folder=folder, group=GROUP, reason="it has no nodes")
    return tuple(Node(name) for name in sorted(names))


def _listed(folder: Path) -> dict[str, Any]:
    """Return what `ansible-inventory --list` prints; an inventory that can't be parsed is an error there."""
    program = Path(sys.executable).with_name("ansible-inventory")
    command = [str(program), "--list", "--inventory", str(folder)]
    environment = {
        **os.environ,
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true",
        "ANSIBLE_NOCOLOR": "true",
    }
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InventoryInvalid(folder=folder, group=GROUP, reason=f"{program.name}: {error}") from error
    if done.returncode:
        raise InventoryInvalid(folder=folder, group=GROUP, reason=_reason(done.stderr))
    groups: dict[str, Any] = json.loads(done.stdout)
    return groups


def _reason(stderr: str) -> str:
    """Return Ansible's own words for the error, in one line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("[ERROR]", "ERROR"))]
    return " ".join(told or lines[-1:]) or "ansible-inventory failed without a word"


def _hosts(groups: dict[str, Any], name: str) -> set[str]:
    group = groups.get(name, {})
    return set(group.get("hosts", ())).union(*(_hosts(groups, child) for child in group.get("children", ())))
