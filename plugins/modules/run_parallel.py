"""Ansible module: run chains of commands side by side."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: run_parallel
short_description: Run chains of commands side by side
description:
  - Each chain runs its commands one after the other; chains run at the same time. The first command that
    fails ends its chain; the others run to their end. The output goes to the chain's log.
options:
  chains:
    description: What to run.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: For messages., type: str, required: true}
      log: {description: File that the output is appended to., type: path, required: true}
      environment: {description: Added to the environment., type: dict, default: {}}
      secrets:
        description: >-
          Added to the environment, too. Ansible takes these values out of all that the module returns, and anything that they are a
          part of; so nothing else stands here.
        type: dict
        default: {}
      commands: {description: Lists of a program and its arguments., type: list, elements: list, required: true}
      stdin: {description: File that the first command reads., type: path}
  timeout: {description: Seconds for all of it., type: float, default: 600}
  record:
    description: >-
      File for the seconds of each chain (JSON). What the module returns passes Ansible's filter for secrets, which takes
      any number that has a digit in common with a secret of one digit for one.
    type: path
attributes:
  check_mode:
    support: full
    details: No chain is run; each took no time.
  diff_mode:
    support: full
author: [perfci]
"""
EXAMPLES = r"""
- run_parallel:
    chains:
      - {name: keystone, log: /srv/perfci/logs/schema.log, commands: [[keystone-manage, db_sync]]}
"""
RETURN = r"""
seconds: {description: How long each chain took, by name., returned: always, type: dict}
"""
TAIL_LINES = 30


class ChainFailed(Exception):
    """A command of a chain failed or took too long."""


def run_chain(chain: dict[str, Any], deadline: float, stop: threading.Event) -> float:
    """Run one chain; return its seconds. Raises ChainFailed."""
    began = time.monotonic()
    log = Path(chain["log"])
    log.parent.mkdir(parents=True, exist_ok=True)
    added = {**(chain.get("environment") or {}), **(chain.get("secrets") or {})}
    environment = {**os.environ, **{name: str(value) for name, value in added.items()}}
    stdin = chain.get("stdin")
    for command in chain["commands"]:
        start = log.stat().st_size if log.exists() else 0
        with log.open("ab") as out, Path(stdin or os.devnull).open("rb") as source:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdin=source,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
            status = wait(process, deadline, stop)
        stdin = None
        if status != 0:
            said = log.read_bytes()[start:].decode(errors="replace").splitlines()[-TAIL_LINES:]
            how = "took too long" if status is None else f"ended with status {status}"
            raise ChainFailed(
                f"{chain['name']}: {' '.join(map(str, command[:3]))} {how}; the end of {log}:\n"
                + "\n".join(said)
            )
    return time.monotonic() - began


def wait(process: subprocess.Popen[bytes], deadline: float, stop: threading.Event) -> int | None:
    """Return the status of a process, or None where it had to be killed."""
    while True:
        try:
            return process.wait(timeout=0.1)
        except subprocess.TimeoutExpired:
            if time.monotonic() < deadline and not stop.is_set():
                continue
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "chains": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "log": {"type": "path", "required": True},
                    "environment": {"type": "dict", "default": {}},
                    "secrets": {"type": "dict", "default": {}, "no_log": True},
                    "commands": {"type": "list", "elements": "list", "required": True},
                    "stdin": {"type": "path"},
                },
            },
            "timeout": {"type": "float", "default": 600},
            "record": {"type": "path"},
        },
        supports_check_mode=True,
    )
    chains = module.params["chains"]
    names = [chain["name"] for chain in chains]
    diff = {"before": "", "after": "".join(f"{name}: run\n" for name in names)}
    if module.check_mode:
        module.exit_json(changed=bool(chains), seconds=dict.fromkeys(names, 0.0), diff=diff)
    deadline = time.monotonic() + module.params["timeout"]
    stop = threading.Event()
    # Ansible ends a task that it gives up with TERM: nothing may be left running then.
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    seconds, problems = {}, []
    with ThreadPoolExecutor(max(1, len(chains))) as pool:
        for chain, job in [(c, pool.submit(run_chain, c, deadline, stop)) for c in chains]:
            try:
                seconds[chain["name"]] = round(job.result(), 2)
            except (ChainFailed, OSError) as error:
                problems.append(str(error))
    if problems:
        module.fail_json(msg="\n\n".join(problems), seconds=seconds)
    if module.params["record"]:
        Path(module.params["record"]).write_text(json.dumps(seconds) + "\n")
    module.exit_json(changed=True, seconds=seconds, diff=diff)


if __name__ == "__main__":
    main()
