"""Ansible module: refuse to go on where somebody else holds the nodes, or where they are in quarantine."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    from perfci import config
    from perfci.database.engine import open_database
    from perfci.errors import PerfciError
    from perfci.lab import owners, people
    from perfci.lab.claims import against, record_override
    from perfci.lab.model import Node
    from perfci.lab.sql import SqlLedger
except ImportError as error:
    MISSING: ImportError | None = error
else:
    MISSING = None

DOCUMENTATION = r"""
module: node_claims
short_description: Refuse to go on where somebody else holds the nodes, or where they are in quarantine
description:
  - Asks the book of reservations on the controller. Nodes that the calling person reserved, and nodes leased by the run
    that this playbook belongs to, are no obstacle.
  - With C(force) the order is given all the same, and who gave it and why is appended to C(record).
options:
  nodes: {description: Names of the nodes., type: list, elements: str, required: true}
  lab: {description: The lab whose book is asked., type: str, required: true}
  force: {description: Whether to go on in any case., type: bool, default: false}
  reason: {description: "Why, in one line; needed with C(force)", type: str, default: ""}
  record: {description: File in which forced orders are kept., type: path, required: true}
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
author: [perfci]
"""
EXAMPLES = r"""
- node_claims:
    nodes: [node-1, node-2]
    lab: rack
    record: /srv/perfci/state/forced.jsonl
"""
RETURN = r"""
against: {description: What spoke against it., returned: success, type: list, elements: str}
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "nodes": {"type": "list", "elements": "str", "required": True},
            "lab": {"type": "str", "required": True},
            "force": {"type": "bool", "default": False},
            "reason": {"type": "str", "default": ""},
            "record": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    if MISSING is not None:
        module.fail_json(msg=missing_required_lib("perfci"), exception=str(MISSING))
    wanted = module.params
    if wanted["force"] and not wanted["reason"].strip():
        module.fail_json(msg="-e provision_force=true needs a reason: -e 'provision_reason=...' says why")
    person = people.me()
    claims = claims_of(module, wanted, person)
    if claims and not wanted["force"]:
        module.fail_json(msg=refusal(claims.lines()))
    if claims and not module.check_mode:
        record(module, wanted, claims, person)
    module.exit_json(changed=bool(claims), against=claims.lines())


def claims_of(module: AnsibleModule, wanted: dict[str, Any], person: str) -> Any:
    """Return what the book says against it; a book that can't be read is no leave to wipe machines."""
    nodes = wanted["nodes"]
    try:
        ledger = SqlLedger(open_database(config.load()), wanted["lab"], [Node(name) for name in nodes])
        ledger.sweep()
        processes = owners.with_ancestors()
        return against(nodes, ledger.held(), ledger.quarantined(), person=person, processes=processes)
    except PerfciError as error:
        module.fail_json(msg=f"Who holds the nodes can't be told, so nothing was done: {error}")
        raise


def refusal(lines: list[str]) -> str:
    """Return what to tell, and what can be done."""
    head = "Nothing was done, since somebody would be disturbed:"
    advice = (
        "Leave those nodes out (-e 'provision_nodes=nodes:!NODE'), reserve them (perfci lab reserve), or say "
        "-e provision_force=true -e 'provision_reason=...', which is recorded."
    )
    return "\n".join([head, *lines, advice])


def record(module: AnsibleModule, wanted: dict[str, Any], claims: Any, person: str) -> None:
    """Keep who forced it; an order that can't be recorded is not given."""
    now = datetime.now(UTC)
    try:
        record_override(
            Path(wanted["record"]),
            claims,
            nodes=wanted["nodes"],
            person=person,
            reason=wanted["reason"],
            at=now,
        )
    except OSError as error:
        module.fail_json(msg=f"The forced order could not be recorded in {wanted['record']}: {error}")


if __name__ == "__main__":
    main()
