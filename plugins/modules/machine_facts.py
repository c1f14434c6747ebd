"""Ansible module: what of this machine's software a measurement depends on. Changes nothing."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: machine_facts
short_description: What of this machine's software a measurement depends on
description:
  - Only what stays the same from run to run on an unchanged machine, since it goes into the environment's digest.
    The machine itself is the affair of C(node_fingerprint).
options:
  packages: {description: Debian packages whose versions matter., type: list, elements: str, default: []}
  constraints: {description: File with the versions of Python packages., type: path, required: true}
author: [perfci]
"""
EXAMPLES = r"""
- machine_facts: {packages: [mariadb-server], constraints: constraints.txt}
"""
RETURN = r"""
machine: {description: The facts., returned: always, type: dict}
"""


def versions(packages: list[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    if not packages:
        return {}  # asked for none, dpkg-query names all
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${Version} ${db:Status-Status}\n", *packages],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,  # it ends with status 1 where one is not installed
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    return {line[0]: line[1] for line in lines if line[-1] == "installed"}


def constraints_digest(text: str) -> str:
    """Return a digest over the pins, in any order."""
    lines = sorted(line.strip() for line in text.splitlines() if line.strip())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "packages": {"type": "list", "elements": "str", "default": []},
            "constraints": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    constraints = Path(module.params["constraints"])
    # In check mode the environment that has them may not have been made.
    pins = "" if module.check_mode and not constraints.exists() else constraints.read_text()
    facts: dict[str, Any] = {
        "packages": versions(module.params["packages"]),
        "constraints": constraints_digest(pins),
    }
    module.exit_json(machine=facts)


if __name__ == "__main__":
    main()
