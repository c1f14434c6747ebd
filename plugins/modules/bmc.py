"""Ansible module: power and boot device of all hosts of a play, through their BMCs, in one process."""

from __future__ import annotations

from typing import Any

from ansible.module_utils import bmc_nodes
from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    from perfci import config
    from perfci.errors import PerfciError
    from perfci.lab.bmc.base import BootDevice, BootOrder, PowerOrder
    from perfci.lab.bmc.fleet import CONCURRENCY, run
    from perfci.lab.bmc.operations import Order
    from perfci.lab.bmc.orders import Means, give
    from perfci.lab.health import open_health, write_down
    from perfci.lab.sql import open_ledger
except ImportError as error:
    MISSING: ImportError | None = error
else:
    MISSING = None

DOCUMENTATION = r"""
module: bmc
short_description: Power and boot device of all hosts of a play, through their BMCs, in one process
description:
  - Brings many nodes to what is wanted at the same time. Every effect is looked at; on means that the BMC says on.
  - Call it once for all hosts, on the controller, with C(run_once) and C(delegate_to=localhost). It needs perfci's
    own Python there.
  - What is so already is left alone. An order for the next start only is used up by that start.
options:
  nodes:
    description: The BMCs.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Name of the node., type: str, required: true}
      address:
        description: Name or address of the BMC. Here and below, a number is refused where text is meant.
        type: raw
        required: true
      port: {description: UDP port., type: int, default: 623}
      username: {description: User; some BMCs have one without a name., type: raw, required: true}
      password: {description: Password., type: raw, required: true}
      cipher_suite: {description: IPMI cipher suite., type: int, choices: [3, 17], default: 17}
      power_seconds: {description: How long the machine may take to switch., type: float, default: 120}
      outlet: {description: "The node's outlet, for C(outlet_command).", type: raw}
      outlet_command:
        description: Program and arguments that switch the outlet off and on; C({outlet}) and C({node}) are filled in.
        type: raw
      protocol: {description: "What the BMC speaks; C(auto) finds out.", type: str, choices: [ipmi, redfish, auto], default: ipmi}
      redfish_url: {description: "Where its Redfish service is; left out, HTTPS at C(address).", type: raw}
      redfish_system: {description: Id of the node in a service that has several., type: raw}
      redfish_verify: {description: "Whether its certificate is checked, or the file with the authority.", type: raw, default: true}
  power:
    description: What to do to the power. C(cycle) is off and on, C(soft) asks the system to shut down.
    type: str
    choices: ['on', 'off', cycle, soft]
  boot_device:
    description: From where to boot; set before the power is switched.
    type: str
    choices: [network, disk, setup, default]
  persistent: {description: Boot from there from now on and not at the next start only., type: bool, default: false}
  uefi: {description: Boot by UEFI., type: bool, default: false}
  alone:
    description: End everybody else's sessions with the BMCs first, and open consoles with them, where the BMC allows it.
    type: bool
    default: false
  deadline_seconds:
    description: For each node and attempt; by default 60, and each node's C(power_seconds) for each switch.
    type: float
  concurrency: {description: How many BMCs at once; by default perfci's own choice., type: int}
  recover:
    description:
      - Bring sick BMCs back (retry, wait for a free session, restart the BMC, switch its outlet). The outlet is switched
        for the orders C(off) and C(cycle) only.
    type: bool
    default: false
  least: {description: How many nodes must succeed; by default all., type: int}
  lab:
    description: Lab in whose database the operations are counted and hopeless nodes put into quarantine. Left out,
      nothing is written.
    type: str
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
author: [perfci]
"""
EXAMPLES = r"""
- name: Start all nodes from the network
  bmc:
    nodes:
      - {name: node-1, address: 192.0.2.11, username: perfci, password: "{{ bmc_password }}"}
    boot_device: network
    power: cycle
    recover: true
  run_once: true
  delegate_to: localhost
"""
RETURN = r"""
nodes:
  description: What came of each node, by name.
  returned: always
  type: dict
  contains:
    ok: {description: Whether it is as wanted., type: bool}
    changed: {description: Whether an order was given., type: bool}
    power: {description: C(on) or C(off)., type: str}
    boot_device: {description: What was ordered for the next start., type: str}
    error: {description: What is wrong., type: str}
    error_kind: {description: Name of the error in docs/errors.md., type: str}
    seconds: {description: How long it took., type: float}
    steps: {description: The rungs of the ladder that were climbed., type: list}
    quarantined: {description: Whether nothing has helped., type: bool}
succeeded: {description: How many nodes are as wanted., returned: always, type: int}
"""
SHOWN_ERRORS = 10
ARGUMENTS: dict[str, Any] = {
    "nodes": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            **bmc_nodes.ARGUMENTS,
        },
    },
    "power": {"type": "str", "choices": ["on", "off", "cycle", "soft"]},
    "boot_device": {"type": "str", "choices": ["network", "disk", "setup", "default"]},
    "persistent": {"type": "bool", "default": False},
    "uefi": {"type": "bool", "default": False},
    "alone": {"type": "bool", "default": False},
    "deadline_seconds": {"type": "float"},
    "concurrency": {"type": "int"},
    "recover": {"type": "bool", "default": False},
    "least": {"type": "int"},
    "lab": {"type": "str"},
}


def wanted(parameters: dict[str, Any]) -> Order:
    """Return what is ordered."""
    device = parameters["boot_device"]
    boot = None
    if device:
        boot = BootOrder(BootDevice(device), persistent=parameters["persistent"], uefi=parameters["uefi"])
    power = PowerOrder(parameters["power"]) if parameters["power"] else None
    return Order(power, boot, alone=parameters["alone"])


def diff(results: Any) -> dict[str, str]:
    """Return a line for each node that differs, before and after."""
    changed = [result for result in results if result.done is not None and result.done.changed]
    return {
        "before": "".join(f"{one.node}: {shown(one.done.before)}\n" for one in changed),
        "after": "".join(f"{one.node}: {shown(one.done.after)}\n" for one in changed),
    }


def shown(state: Any) -> str:
    """Return a state in a few words."""
    return f"power {state.power}" + (f", boot {state.boot}" if state.boot else "")


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    if MISSING is not None:
        module.fail_json(msg=missing_required_lib("perfci"), exception=str(MISSING))
    parameters = module.params
    if wrong := bmc_nodes.unquoted(parameters["nodes"]):
        module.fail_json(msg="Correct the inventory:\n" + "\n".join(wrong))
    order = wanted(parameters)
    means = Means(
        parameters["deadline_seconds"],
        concurrency=parameters["concurrency"] or CONCURRENCY,
        recover=parameters["recover"],
        dry_run=module.check_mode,
    )
    try:
        results = run(give(map(bmc_nodes.target, parameters["nodes"]), order, means))
    except KeyboardInterrupt:
        module.fail_json(msg="stopped by a signal; all sessions are closed")
    if parameters["lab"] and not module.check_mode:
        record(module, results)
    told: dict[str, Any] = {
        "nodes": {result.node: result.as_dict() for result in results},
        "succeeded": sum(result.ok for result in results),
        "changed": any(result.done is not None and result.done.changed for result in results),
        "diff": diff(results),
    }
    least = len(results) if parameters["least"] is None else parameters["least"]
    if told["succeeded"] < least:
        module.fail_json(msg=complaint(results, least), **told)
    module.exit_json(**told)


def record(module: AnsibleModule, results: Any) -> None:
    """Count the operations in the lab's database; what is wrong with that is only a warning."""
    try:
        settings = config.load().model_copy(update={"lab": module.params["lab"]})
        write_down(results, open_health(settings), lambda: open_ledger(settings))
    except PerfciError as error:
        module.warn(f"the operations were not counted: {error}")


def complaint(results: Any, least: int) -> str:
    """Return what went wrong with how many nodes."""
    errors = [str(result.error) for result in results if not result.ok]
    more = f"\n... and {len(errors) - SHOWN_ERRORS} more" if len(errors) > SHOWN_ERRORS else ""
    head = f"{len(results) - len(errors)} of {len(results)} nodes are as wanted, {least} must be"
    return "\n".join([head, *errors[:SHOWN_ERRORS]]) + more


if __name__ == "__main__":
    main()
