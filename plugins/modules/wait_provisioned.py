"""Ansible module: wait until machines have come so far, and notice early when they will not."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils import bmc_nodes
from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    from perfci.lab.bmc import protocols
    from perfci.lab.bmc.base import Power
    from perfci.lab.bmc.errors import BmcError
except ImportError as error:
    MISSING: ImportError | None = error
else:
    MISSING = None

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DOCUMENTATION = r"""
module: wait_provisioned
short_description: Wait until machines have come so far, and notice early when they will not
description:
  - Watches at once what a machine reports by phone-home, what its BMC says of its power, and its SSH port. A machine that
    reports a failure, or that is off, is not waited for any longer. What one machine does is never another's failure.
options:
  goal:
    description:
      - C(ramdisk), C(deployed) and C(wiped) are reports of the attempt; C(ssh) is an SSH server that answers.
    type: str
    choices: [ramdisk, deployed, wiped, ssh]
    required: true
  nodes:
    description: The machines to wait for.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Name of the machine., type: str, required: true}
      attempt: {description: Only reports with this attempt count., type: str, required: true}
      since: {description: "When the attempt began, in seconds of the epoch", type: float, required: true}
      ssh_address: {description: Where its SSH server is., type: str, required: true}
      ssh_port: {description: The port of it., type: int, default: 22}
      silence_seconds: {description: "In place of the C(silence_seconds) of all, for this one.", type: float}
      mac: {description: "Its MAC, to be found in the log of the DHCP server", type: str, required: true}
      address: {description: "Address of its BMC. This and the next ones are as in the module bmc.", type: raw, required: true}
      port: {description: UDP port of its BMC., type: int, default: 623}
      username: {description: User of the BMC., type: raw, required: true}
      password: {description: Password of that user., type: raw, required: true}
      cipher_suite: {description: Cipher suite for RMCP+., type: int, choices: [3, 17], default: 17}
      power_seconds: {description: How long the machine may take to switch., type: float, default: 120}
      outlet: {description: Not used here., type: raw}
      outlet_command: {description: Not used here., type: raw}
      protocol: {description: "What the BMC speaks; C(auto) finds out.", type: str, choices: [ipmi, redfish, auto], default: ipmi}
      redfish_url: {description: "Where its Redfish service is; left out, HTTPS at C(address).", type: raw}
      redfish_system: {description: Id of the node in a service that has several., type: raw}
      redfish_verify: {description: "Whether its certificate is checked, or the file with the authority.", type: raw, default: true}
  reports: {description: "Folder with the reports, NAME.jsonl", type: path, required: true}
  dhcp_log: {description: "Log of the DHCP server, which tells how far a silent machine came", type: path}
  dhcp_log_begin: {description: "Where the attempt's lines begin in it, in bytes", type: int, default: 0}
  silence_seconds: {description: A machine without any news for so long is given up., type: float, default: 300}
  poll_seconds: {description: How often a BMC is asked., type: float, default: 5}
attributes:
  check_mode:
    support: full
    details: Nothing was ordered that could be waited for; all machines count as there.
  diff_mode:
    support: none
    details: It changes nothing.
author: [perfci]
"""
EXAMPLES = r"""
- wait_provisioned:
    goal: deployed
    reports: /srv/perfci/state/netboot/phone-home
    nodes:
      - {name: node-1, attempt: 5f2c, since: 1795257875.0, mac: 52:54:00:aa:bb:01, ssh_address: 192.168.240.11,
         address: 192.168.241.11, username: perfci, password: '{{ bmc_password }}'}
"""
RETURN = r"""
nodes:
  description: By name, C(ok), C(error) (null where there is none), C(seconds) from the attempt's begin until then, and all
    C(reports) of the attempt.
  returned: always
  type: dict
"""
TICK_SECONDS = 0.5
SSH_SECONDS = 3
OFF_READINGS = 2
"""So often in a row a BMC must say off; a machine that resets may look off for a moment."""
GOALS = ("ramdisk", "deployed", "wiped", "ssh")


@dataclass
class View:
    """What is known of one machine; `power` is None where the BMC has not said yet, or did not answer."""

    reports: list[dict[str, Any]] = field(default_factory=list)
    power: Power | None = None
    off_readings: int = 0
    bmc_error: str = ""
    ssh: bool = False
    silent_seconds: float = 0.0

    def see_power(self, power: Power | None, error: str = "") -> None:
        """Take a reading of the BMC; none at all proves nothing."""
        self.power, self.bmc_error = power, error
        self.off_readings = self.off_readings + 1 if power is Power.OFF else 0

    @property
    def steps(self) -> list[str]:
        """The steps that were reported, in their order."""
        return [report["step"] for report in self.reports]

    @property
    def queued(self) -> bool:
        """Say whether it waits until the controller has time to send it the image."""
        return self.steps[-1:] == ["queued"]

    @property
    def last(self) -> str:
        """The last report, in words."""
        if not self.reports:
            return "it has reported nothing"
        return f"its last report was {self.reports[-1]['step']!r} ({self.reports[-1]['text']})"


def reached(goal: str, view: View) -> bool:
    """Say whether a machine is where it should be."""
    return view.ssh if goal == "ssh" else goal in view.steps


def refusal(goal: str, view: View, silence_seconds: float) -> str:
    """Return why a machine will not get there any more, empty while it may."""
    failed = [report["text"] for report in view.reports if report["step"] == "failed"]
    if failed:
        return f"its deployment failed: {failed[-1]}"
    if view.off_readings >= OFF_READINGS:
        return f"its BMC says off while {_awaited(goal)} was waited for; {view.last}"
    if view.silent_seconds < silence_seconds:
        return ""
    told = f"; its BMC did not answer: {view.bmc_error}" if view.bmc_error else f", its BMC says {view.power}"
    return f"{_awaited(goal)} did not come within {silence_seconds:.0f} s; {view.last}{told}"


def _awaited(goal: str) -> str:
    return {
        "ramdisk": "a first report from the deploy ramdisk",
        "deployed": "the report that the image is in place",
        "wiped": "the report that the disk is wiped",
        "ssh": "an answer of its SSH server",
    }[goal]


def reports_of(file: Path, attempt: str) -> list[dict[str, Any]]:
    """Return the reports of one attempt; a line that is still being written is left for later."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    found = []
    for line in text.split("\n")[:-1]:
        with suppress(ValueError):
            report = json.loads(line)
            if isinstance(report, dict) and report.get("attempt") == attempt:
                found.append(report)
    return found


def dhcp_hint(lines: Sequence[str], node: str, mac: str) -> str:
    """Return how far a machine came that never reported, from the log of dnsmasq."""
    mac = mac.lower().replace("-", ":")
    mine = [line for line in lines if mac in line.lower()]
    tags = [set(line.partition(" tags: ")[2].split(", ")) for line in lines]
    if not mine:
        return "the DHCP server has not heard of it: it does not boot from the network, or provision_mac is wrong"
    if not any("DHCPACK" in line for line in mine):
        return f"the DHCP server has heard of it, but it got no address: {mine[-1].strip()}"
    if not any({node, "ipxe"} <= found for found in tags):
        return "it asked for an address, but not as iPXE does: it boots from its disk, or its firmware did not get iPXE"
    return (
        "iPXE was told where its boot script is; http.log beside the log of DHCP shows whether it fetched it"
    )


async def ssh_answers(address: str, port: int) -> bool:
    """Say whether an SSH server greets there."""
    try:
        async with asyncio.timeout(SSH_SECONDS):
            reader, writer = await asyncio.open_connection(address, port)
            try:
                return (await reader.readline()).startswith(b"SSH-")
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
    except (OSError, ValueError):
        return False


class Watch:
    """Watches one machine."""

    def __init__(self, node: dict[str, Any], params: dict[str, Any]) -> None:
        self.node, self.params = node, params
        self.view = View()
        self._file = Path(params["reports"]) / f"{node['name']}.jsonl"
        self._target = bmc_nodes.target(node)
        self._silence_seconds = node.get("silence_seconds") or params["silence_seconds"]

    async def run(self, clock: Callable[[], float] = time.monotonic) -> dict[str, Any]:
        """Watch until the goal is reached or can't be any more; return what is told about the machine."""
        news_at = next_reading = clock()
        while True:
            # The power first: a machine that reports its failure and switches itself off shall be quoted.
            if clock() >= next_reading:
                await self._read_power()
                next_reading = clock() + self.params["poll_seconds"]
            if self.params["goal"] == "ssh":
                self.view.ssh = await ssh_answers(self.node["ssh_address"], self.node["ssh_port"])
            reports = reports_of(self._file, self.node["attempt"])
            if len(reports) != len(self.view.reports):
                self.view.reports, news_at = reports, clock()
            if self.view.queued:
                news_at = clock()  # it waits for the controller, not the other way round
            self.view.silent_seconds = clock() - news_at
            done = reached(self.params["goal"], self.view)
            error = "" if done else refusal(self.params["goal"], self.view, self._silence_seconds)
            if done or error:
                return {
                    "ok": done,
                    "error": self._with_hint(error) if error else None,
                    "seconds": round(self._reached_at() - self.node["since"], 2),
                    "reports": self.view.reports,
                }
            await asyncio.sleep(TICK_SECONDS)

    def _reached_at(self) -> float:
        """Return when the goal was reported, for what is reported; else now."""
        at = [report["time"] for report in self.view.reports if report["step"] == self.params["goal"]]
        return at[0] if at else time.time()

    async def _read_power(self) -> None:
        try:
            async with protocols.connect(self._target) as bmc:
                self.view.see_power(await bmc.power())
        except BmcError as error:
            self.view.see_power(None, str(error))

    def _with_hint(self, error: str) -> str:
        if self.view.reports or not self.params["dhcp_log"]:
            return error
        try:
            log = Path(self.params["dhcp_log"]).read_bytes()
        except OSError:
            return error
        begin = self.params["dhcp_log_begin"]
        lines = log[begin if begin <= len(log) else 0 :].decode(errors="replace").splitlines()
        return f"{error}; {dhcp_hint(lines, self.node['name'], self.node['mac'])}"


async def watch_all(params: dict[str, Any]) -> dict[str, Any]:
    """Watch all machines at once; return what is told about each, by name."""
    found = await asyncio.gather(*(Watch(node, params).run() for node in params["nodes"]))
    return {node["name"]: told for node, told in zip(params["nodes"], found, strict=True)}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "goal": {"type": "str", "choices": list(GOALS), "required": True},
            "nodes": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    **{
                        name: {"type": "str", "required": True} for name in ("name", "attempt", "ssh_address")
                    },
                    "mac": {"type": "str", "required": True},
                    "since": {"type": "float", "required": True},
                    "ssh_port": {"type": "int", "default": 22},
                    "silence_seconds": {"type": "float"},
                    **bmc_nodes.ARGUMENTS,
                },
            },
            "reports": {"type": "path", "required": True},
            "dhcp_log": {"type": "path"},
            "dhcp_log_begin": {"type": "int", "default": 0},
            "silence_seconds": {"type": "float", "default": 300},
            "poll_seconds": {"type": "float", "default": 5},
        },
        supports_check_mode=True,
    )
    if MISSING is not None:
        module.fail_json(msg=missing_required_lib("perfci"), exception=str(MISSING))
    if module.check_mode:
        arrived: dict[str, Any] = {"ok": True, "error": None, "seconds": 0.0, "reports": []}
        module.exit_json(nodes={node["name"]: arrived for node in module.params["nodes"]})
    module.exit_json(nodes=asyncio.run(watch_all(module.params)))


if __name__ == "__main__":
    main()
