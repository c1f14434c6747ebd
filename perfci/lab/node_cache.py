"""Which nodes the lab has, kept between commands: Ansible takes a second to say so.

What is kept counts as long as nothing has changed that Ansible reads for it: the files of the inventory,
ansible.cfg, its variables in the environment, its version. An inventory that asks a program or a plugin is
never kept, as that may say something else each time.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from perfci import __version__
from perfci.files import write_json
from perfci.lab import inventory
from perfci.lab.model import Node
from perfci.parsing import json_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfci.config import Settings

FOLDER = "cache/nodes"
"""Where it is kept, in the state folder: one file for each inventory."""
_PLUGIN = re.compile(rb"^\s*[\"']?plugin[\"']?\s*:", re.MULTILINE)
_CONFIGURATIONS = ("ansible.cfg", "~/.ansible.cfg", "/etc/ansible/ansible.cfg")


def nodes_of(settings: Settings) -> tuple[Node, ...]:
    """Return the nodes of the lab that the settings name, sorted by name. Raises InventoryInvalid."""
    folder = settings.inventory_dir
    key = _fingerprint(folder)
    if key is None:
        return inventory.nodes(folder)
    file = settings.state_dir / FOLDER / f"{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}.json"
    found = _read(file, key)
    if found is None:
        found = inventory.nodes(folder)
        _keep(file, key, found)
    return found


def _read(file: Path, key: str) -> tuple[Node, ...] | None:
    try:
        kept = json_value(file.read_bytes())
        return tuple(Node(**one) for one in kept["nodes"]) if kept["key"] == key else None
    except (OSError, ValueError, TypeError, KeyError):
        return None  # missing or damaged: Ansible is asked


def _keep(file: Path, key: str, nodes: tuple[Node, ...]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {"key": key, "nodes": [asdict(node) for node in nodes]})
    except OSError:
        return  # the next command asks Ansible again


def _fingerprint(folder: Path) -> str | None:
    """Return a digest of all that the nodes follow from; None where that can't be known."""
    whole = hashlib.sha256()
    whole.update(f"{__version__} {version('ansible-core')}\n".encode())
    for name, value in sorted(os.environ.items()):
        if name.startswith("ANSIBLE_"):
            whole.update(f"{name}={value}\n".encode(errors="surrogateescape"))
    try:
        for path in _configurations():
            whole.update(f"{path}\n".encode(errors="surrogateescape") + path.read_bytes())
        for path in sorted(folder.rglob("*")):
            if not path.is_file():
                continue
            data = path.read_bytes()
            if os.access(path, os.X_OK) or _PLUGIN.search(data):
                return None
            whole.update(f"{path.relative_to(folder)} {len(data)}\n".encode(errors="surrogateescape") + data)
    except OSError:
        return None
    return whole.hexdigest()


def _configurations() -> Iterator[Path]:
    named = os.environ.get("ANSIBLE_CONFIG")
    for name in (*([named] if named else []), *_CONFIGURATIONS):
        path = Path(name).expanduser()
        if path.is_file():
            yield path
