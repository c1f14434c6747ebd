"""Ansible module: secrets of the lab, one file each, made up once."""

from __future__ import annotations

import base64
import fcntl
import os
import secrets
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ansible.module_utils.basic import AnsibleModule

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENTATION = r"""
module: lab_secrets
short_description: Secrets of the lab, one file each, made up once
description:
  - Reads each secret from its file, and makes up those that are missing. Use it with C(no_log).
  - Any number of machines may ask for the same folder at the same time; all of them get the same secrets.
options:
  folder: {description: Where the files are., type: path, required: true}
  passwords: {description: Names of secrets of 32 hexadecimal digits., type: list, elements: str, default: []}
  keys: {description: Names of Fernet keys., type: list, elements: str, default: []}
attributes:
  check_mode:
    support: full
    details: What is missing is made up for the answer, and not kept.
  diff_mode: {support: none}
author: [perfci]
"""
EXAMPLES = r"""
- lab_secrets: {folder: /srv/perfci/secrets, passwords: [mariadb_nova]}
  no_log: true
"""
RETURN = r"""
secrets: {description: The secrets by name., returned: always, type: dict}
"""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let only one of several deployments make up secrets in this folder; others wait, and read them then."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The folder itself is the lock: all files in it are secrets.
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def known(path: Path) -> str:
    """Return the secret of a file, empty where there is none; an earlier deployment may have left it empty."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return ""


def keep(path: Path, secret: str) -> None:
    """Write a secret so that its file is whole, or is not there."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w") as target:
        target.write(secret + "\n")
    Path(name).replace(path)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "required": True},
            "passwords": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
        },
        supports_check_mode=True,
    )
    folder = Path(module.params["folder"])
    fresh = {name: secrets.token_hex(16) for name in module.params["passwords"]}
    for name in module.params["keys"]:
        fresh[name] = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    found = {name: text for name in fresh if (text := known(folder / name))}
    missing = [name for name in fresh if name not in found]
    if missing and not module.check_mode:
        with alone(folder):
            for name in missing:
                if text := known(folder / name):  # another one was faster
                    fresh[name] = text
                else:
                    keep(folder / name, fresh[name])
    module.exit_json(changed=bool(missing), secrets={**fresh, **found})


if __name__ == "__main__":
    main()
