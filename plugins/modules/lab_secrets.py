"""Ansible module: secrets of the lab, one file each, made up once."""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: lab_secrets
short_description: Secrets of the lab, one file each, made up once
description:
  - Reads each secret from its file, and makes up those that are missing. Use it with C(no_log).
options:
  folder: {description: Where the files are., type: path, required: true}
  passwords: {description: Names of secrets of 32 hexadecimal digits., type: list, elements: str, default: []}
  keys: {description: Names of Fernet keys., type: list, elements: str, default: []}
author: [perfci]
"""
EXAMPLES = r"""
- lab_secrets: {folder: /srv/perfci/secrets, passwords: [mariadb_nova]}
  no_log: true
"""
RETURN = r"""
secrets: {description: The secrets by name., returned: always, type: dict}
"""


def secret(path: Path, fresh: str) -> tuple[str, bool]:
    """Return the secret of a file, and whether it had to be made up."""
    try:
        # Only one of several deployments at a time may make it up.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if text := path.read_text().strip():
            return text, False
        handle = os.open(path, os.O_WRONLY | os.O_TRUNC)  # a killed deployment left it empty
    with os.fdopen(handle, "w") as target:
        target.write(fresh + "\n")
    return fresh, True


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "required": True},
            "passwords": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
        }
    )
    folder = Path(module.params["folder"])
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = {name: secret(folder / name, secrets.token_hex(16)) for name in module.params["passwords"]}
    for name in module.params["keys"]:
        found[name] = secret(folder / name, base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
    module.exit_json(
        changed=any(new for _, new in found.values()),
        secrets={name: text for name, (text, _) in found.items()},
    )


if __name__ == "__main__":
    main()
