"""Ansible module: the controller's SSH key and the nodes' host keys, for any number of nodes in one task."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.whole_files import write

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DOCUMENTATION = r"""
module: node_keys
short_description: The controller's SSH key and the nodes' host keys
description:
  - Makes the keys that are missing, and keeps the public host keys in files of known hosts. With C(absent) it removes
    a node's host key and forgets it. The controller's own key is never removed.
options:
  state: {description: Whether nodes shall have keys., type: str, choices: [present, absent], default: present}
  nodes:
    description: The nodes.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Name of the node; the comment of its key., type: str, required: true}
      address: {description: Where its SSH server is., type: str, required: true}
      port: {description: The port of it., type: int, default: 22}
      host_key_file: {description: Its private host key., type: path, required: true}
      login_key_file: {description: The private key that the controller logs in with., type: path, required: true}
      known_hosts_file: {description: File of known hosts., type: path, required: true}
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
author: [perfci]
"""
EXAMPLES = r"""
- node_keys:
    nodes:
      - {name: node-1, address: 192.168.240.11, host_key_file: /srv/ssh/node-1.host_ed25519,
         login_key_file: /srv/ssh/id_ed25519, known_hosts_file: /srv/ssh/known_hosts}
"""
RETURN = r"""
made: {description: Private keys that were made., returned: always, type: list}
removed: {description: Private keys that were removed., returned: always, type: list}
"""
LOGIN_COMMENT = "perfci"


def host_field(address: str, port: int) -> str:
    """Return how a file of known hosts names a server; see sshd(8)."""
    return address if port == 22 else f"[{address}]:{port}"  # noqa: PLR2004 - the well-known port


def updated(text: str, forgotten: Iterable[str], known: dict[str, str]) -> str:
    """Return a file of known hosts without some servers, and with the only keys of others."""
    gone = {*forgotten, *known}
    kept = [line for line in text.splitlines() if line.split(" ", 1)[0] not in gone]
    return "".join(f"{line}\n" for line in (*kept, *(f"{host} {key}" for host, key in known.items())))


def public(file: Path) -> Path:
    """Return where the public half of a key is."""
    return file.with_name(f"{file.name}.pub")


def make(file: Path, comment: str) -> None:
    """Make a pair of keys; a pair that was left half made is made again."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{file.name}.") as folder:
        new = Path(folder) / "key"
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(new)]
        subprocess.run(words, check=True, capture_output=True, text=True, errors="replace")
        # The private key last: where it is, the other is.
        public(new).replace(public(file))
        new.replace(file)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Keep other playbooks from writing the same file of known hosts."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def missing_keys(nodes: list[dict[str, Any]]) -> dict[Path, str]:
    """Return the keys that are to be made, each with its comment."""
    wanted = {Path(node["login_key_file"]): LOGIN_COMMENT for node in nodes}
    wanted |= {Path(node["host_key_file"]): node["name"] for node in nodes}
    return {
        file: comment for file, comment in wanted.items() if not (file.exists() and public(file).exists())
    }


def keep_known(nodes: list[dict[str, Any]], *, present: bool, check: bool) -> list[str]:
    """Bring the files of known hosts up to date; return those that were not."""
    files: dict[Path, list[dict[str, Any]]] = defaultdict(list)
    for node in nodes:
        files[Path(node["known_hosts_file"])].append(node)
    changed = []
    for file, members in files.items():
        fields = {host_field(node["address"], node["port"]): Path(node["host_key_file"]) for node in members}
        if not file.parent.is_dir() and (check or not present):
            changed += [str(file)] if present else []
            continue
        with locked(file):
            known = {
                field: public(key).read_text().strip()
                for field, key in fields.items()
                if present and public(key).exists()
            }
            before = file.read_text() if file.exists() else ""
            after = updated(before, fields, known)
            if after != before or (check and len(known) < len(fields) and present):
                changed.append(str(file))
                if not check:
                    write(file, after, 0o600)
    return changed


def present(nodes: list[dict[str, Any]], *, check: bool) -> tuple[list[str], list[str]]:
    """Make what is missing; return the keys that were made, and the files of known hosts that changed."""
    missing = missing_keys(nodes)
    if not check:
        for file, comment in missing.items():
            make(file, comment)
    return [str(file) for file in missing], keep_known(nodes, present=True, check=check)


def absent(nodes: list[dict[str, Any]], *, check: bool) -> tuple[list[str], list[str]]:
    """Remove host keys; return those that were there, and the files of known hosts that changed."""
    removed = []
    for file in dict.fromkeys(Path(node["host_key_file"]) for node in nodes):
        if file.exists():
            removed.append(str(file))
        if not check:
            file.unlink(missing_ok=True)
            public(file).unlink(missing_ok=True)
    return removed, keep_known(nodes, present=False, check=check)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "nodes": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "address": {"type": "str", "required": True},
                    "port": {"type": "int", "default": 22},
                    "host_key_file": {"type": "path", "required": True, "no_log": False},
                    "login_key_file": {"type": "path", "required": True, "no_log": False},
                    "known_hosts_file": {"type": "path", "required": True},
                },
            },
        },
        supports_check_mode=True,
    )
    act = present if module.params["state"] == "present" else absent
    try:
        keys, known = act(module.params["nodes"], check=module.check_mode)
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}")
    except subprocess.CalledProcessError as error:
        module.fail_json(msg=f"ssh-keygen: {error.stderr.strip()}")
    lines = [*(f"{key}: key" for key in keys), *(f"{file}: known hosts" for file in known)]
    texts = {
        "before": "".join(f"{line} {'missing or old' if act is present else 'there'}\n" for line in lines),
        "after": "".join(f"{line} {'as wanted' if act is present else 'removed'}\n" for line in lines),
    }
    made, removed = (keys, []) if act is present else ([], keys)
    module.exit_json(changed=bool(lines), made=made, removed=removed, diff=texts)


if __name__ == "__main__":
    main()
