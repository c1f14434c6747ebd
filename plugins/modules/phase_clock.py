"""Ansible module: the moments at which the phases of a play begin."""

from __future__ import annotations

import json
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: phase_clock
short_description: The moments at which the phases of a play begin
description:
  - Adds the present moment to a file. A phase ends where the next one begins, so what Ansible itself takes
    between two tasks is in it.
options:
  file: {description: File with all moments so far; it is made where it is missing., type: path, required: true}
  phase: {description: "The phase that begins; empty: the last one ends", type: str, default: ''}
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
author: [perfci]
"""
EXAMPLES = r"""
- phase_clock: {file: /srv/perfci/run/clock.json, phase: stop}
"""
RETURN = r"""
at: {description: "The moment, in seconds since the epoch", returned: success, type: float}
"""


def add(file: Path, phase: str, at: float) -> None:
    """Add a moment. Raises ValueError where the file holds something else."""
    known = json.loads(file.read_text()) if file.exists() else []
    if not isinstance(known, list):
        raise ValueError(f"{file} is not a list of moments")  # noqa: TRY004
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    partial.write_text(json.dumps([*known, {"phase": phase, "at": at}]) + "\n")
    partial.replace(file)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "file": {"type": "path", "required": True},
            "phase": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    at = time.time()
    diff = {
        "before": "",
        "after": f"{module.params['file']}: {module.params['phase'] or 'the end'} at {at:.3f}\n",
    }
    if module.check_mode:
        module.exit_json(changed=True, at=at, diff=diff)
    try:
        add(Path(module.params["file"]), module.params["phase"], at)
    except (OSError, ValueError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=True, at=at, diff=diff)


if __name__ == "__main__":
    main()
