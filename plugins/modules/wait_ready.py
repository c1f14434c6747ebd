"""Ansible module: wait until services really answer."""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab_processes import services

DOCUMENTATION = r"""
module: wait_ready
short_description: Wait until services really answer
description:
  - An open port says little (uwsgi opens it before the application is loaded), so an HTTP service
    must answer a request, and any other must say something after C(send).
  - A service of which no process runs for a while has been given up by what runs it; there is no point in waiting then.
options:
  checks:
    description: Services to wait for, all at the same time.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Name of the service., type: str, required: true}
      url: {description: "Address that must answer with a status below 500, or with one of C(status)", type: str}
      status: {description: Statuses that count as an answer., type: list, elements: int, default: []}
      address: {description: "Without C(url), the host to connect to", type: str}
      port: {description: "Without C(url), the TCP port", type: int}
      send: {description: What to say first., type: str, default: ''}
      log: {description: File whose end explains a failure., type: path, required: true}
  state_dir: {description: "The state folder, to look whether the services run at all", type: path}
  timeout: {description: Seconds for all of them., type: float, default: 90}
attributes:
  check_mode:
    support: full
    details: Nothing was started that could be waited for.
  diff_mode:
    support: none
    details: It changes nothing.
author: [perfci]
"""
EXAMPLES = r"""
- wait_ready:
    checks: [{name: keystone, url: 'http://127.0.0.1:17500/v3', log: /srv/perfci/logs/keystone.log}]
"""
RETURN = r"""
seconds: {description: How long each took to answer., returned: success, type: dict}
"""
TAIL_LINES = 30
ANSWER_SECONDS = 10
GONE_SECONDS = 12
"""Longer than a supervisor waits before it starts a crashed service again."""
SERVER_ERROR = 500


def ask(check: dict[str, Any], timeout: float) -> str:
    """Return why a service is not ready yet, or an empty string when it is."""
    try:
        return _http(check, timeout) if check.get("url") else _talk(check, timeout)
    except OSError as error:
        return str(getattr(error, "reason", error))


def _http(check: dict[str, Any], timeout: float) -> str:
    try:
        with urllib.request.urlopen(check["url"], timeout=timeout) as answer:  # noqa: S310
            status = answer.status
            answer.read()
    except urllib.error.HTTPError as error:
        status = error.code
        error.close()
    good = status in check["status"] if check.get("status") else status < SERVER_ERROR
    return "" if good else f"it answers with status {status}"


def _talk(check: dict[str, Any], timeout: float) -> str:
    with socket.create_connection((check["address"], check["port"]), timeout=timeout) as link:
        link.sendall(check.get("send", "").encode("latin-1"))
        return "" if link.recv(1) else "it closes the connection"


def wait(check: dict[str, Any], deadline: float, state_dir: str | None) -> tuple[float, str]:
    """Ask until the service answers, is gone for good or the deadline passes; return seconds and refusal."""
    began = seen = time.monotonic()
    while True:
        left = deadline - time.monotonic()
        refusal = ask(check, max(0.5, min(ANSWER_SECONDS, left)))
        now = time.monotonic()
        if not refusal or now > deadline:
            return now - began, refusal
        if not state_dir or check["name"] in services(state_dir).values():
            seen = now
        if now - seen > GONE_SECONDS:
            return now - began, "it does not run any more"
        time.sleep(0.2)


def tail(path: str) -> str:
    """Return the end of a log, or say that there is none."""
    try:
        lines = Path(path).read_text(errors="replace").splitlines()[-TAIL_LINES:]
    except OSError as error:
        return f"({path}: {error.strerror})"
    return "\n".join([f"the end of {path}:", *lines])


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "checks": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "url": {"type": "str"},
                    "status": {"type": "list", "elements": "int", "default": []},
                    "address": {"type": "str"},
                    "port": {"type": "int"},
                    "send": {"type": "str", "default": ""},
                    "log": {"type": "path", "required": True},
                },
            },
            "state_dir": {"type": "path"},
            "timeout": {"type": "float", "default": 90},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(seconds={check["name"]: 0.0 for check in module.params["checks"]})
    checks, timeout = module.params["checks"], module.params["timeout"]
    deadline = time.monotonic() + timeout
    with ThreadPoolExecutor(max(1, len(checks))) as pool:
        results = list(pool.map(lambda check: wait(check, deadline, module.params["state_dir"]), checks))
    problems = [
        f"{check['name']} was not ready after {seconds:.0f} s: {refusal}; {tail(check['log'])}"
        for check, (seconds, refusal) in zip(checks, results, strict=True)
        if refusal
    ]
    if problems:
        module.fail_json(msg="\n\n".join(problems))
    module.exit_json(seconds={c["name"]: round(s, 2) for c, (s, _) in zip(checks, results, strict=True)})


if __name__ == "__main__":
    main()
