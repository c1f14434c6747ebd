"""Whose fault a failed stage is: a pure decision on what the playbook and the logs say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from perfci.errors import FailureClass

if TYPE_CHECKING:
    from collections.abc import Mapping

# Signs of a machine or of a service beside the cloud that gave up: they explain whatever came after.
_LAB_SIGNS = re.compile(
    r"No space left on device|Cannot allocate memory|MemoryError|Out of memory|oom-kill"
    # libvirtd says this of every client that leaves without a word.
    r"|Read-only file system|(?<!End of file while reading data: )Input/output error|Too many open files"
    r"|Can't connect to MySQL server|Lost connection to MySQL server|Temporary failure in name resolution"
    r"|Failed to fetch|Could not connect to .*:\d+ \(|AMQP server on .* is unreachable"
    r"|(?:mariadb|rabbitmq|memcached) was not ready|Failed to connect to the host via ssh",
)
_TEST_SIGNS = re.compile(
    r"InvalidTaskException|InvalidTaskConfig|ValidationError|jsonschema|There is no .* plugin"
    r"|InvalidScenarioArgument|is not defined.*template|TemplateSyntaxError|UndefinedError",
)
# Said by plugins/modules: the job, or a variable of its cloud, names what no repository has.
_NO_REVISION = re.compile(r"there is no branch, tag or commit|has no branch or tag")
_TRACEBACK = re.compile(r"^(?:.*[ \t])?Traceback \(most recent call last\):", re.MULTILINE)
_LAB_ROLES = frozenset(
    {
        "preflight", "packages", "service", "mariadb", "rabbitmq", "memcached", "influxdb", "fingerprint",
        "counters", "canary", "collect", "environment_copy", "node_fingerprint", "node_tuning", "provision",
        "netboot", "os_image", "deploy_ramdisk", "openvswitch", "libvirt", "mirror",
    }
)  # fmt: skip
_PRODUCT_PATHS = re.compile(r"(?:site-packages|opt/stack/\w+)/(keystone|placement|glance|nova|neutron)/")
# What stack.sh says in its last lines where an archive, a wheelhouse, a repository or the node failed it.
_STACK_SIGNS = re.compile(
    r"No matching distribution found for|Could not find a version that satisfies|Could not resolve host"
    r"|E: (?:Unable to locate package|Package .* has no installation candidate|Unable to fetch)"
    r"|fatal: (?:unable to access|Could not read from remote)|Temporary failure resolving"
    r"|sysctl: .*(?:Read-only|Operation not permitted)"
    r"|Job for (?:mariadb|mysql|rabbitmq-server|openvswitch-switch)",
)
_STACK_ROLE = "devstack"
_STACK_LOG = "stack.sh.log"
_STACK_LINES = 150
"""So many last lines of stack.sh's log are about its end."""
_STACK_COMPLETED = "stack.sh completed"
"""Stands in its summary where it went well: of several nodes, only those count where it did not."""
EXCERPT_LINES = 30
_LEAD_LINES = 1


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The class of a failure, and the part of a log that says why (`excerpt`, from `source`)."""

    failure_class: FailureClass
    source: str
    excerpt: str


def diagnose(*, stage: str, role: str, message: str, logs: Mapping[str, str]) -> Diagnosis:
    """Say whose fault a failed stage is.

    `role` is the Ansible role that failed, empty where it was none; `message` what it said; `logs`
    the ends of the services' logs by name. The strongest sign wins: a machine that gave up, then
    a job that can't work, then a traceback in the code under test. What shows none of them is the
    lab's in the lab's own stages and roles, else unknown: a guess would send the mail to the wrong people.
    """
    for source, text in (("message", message), *sorted(logs.items())):
        if found := _LAB_SIGNS.search(text):
            return Diagnosis(FailureClass.LAB, source, _around(text, found.start()))
    if stage == "hammer" and (found := _TEST_SIGNS.search(message)):
        return Diagnosis(FailureClass.TEST, "message", _around(message, found.start()))
    if found := _NO_REVISION.search(message):
        return Diagnosis(FailureClass.TEST, "message", _around(message, found.start()))
    if role in _LAB_ROLES:
        return Diagnosis(FailureClass.LAB, "message", _last(message))
    if role == _STACK_ROLE and (of_stack := _of_stack(logs)) is not None:
        return of_stack
    return _of_services(stage, message, logs)


def _of_services(stage: str, message: str, logs: Mapping[str, str]) -> Diagnosis:
    for source, text in sorted(logs.items()):
        if (place := _product_traceback(text)) is not None:
            return Diagnosis(FailureClass.PRODUCT, source, _around(text, place))
    if stage not in {"deploy", "hammer"}:
        return Diagnosis(FailureClass.LAB, "message", _last(message))
    return Diagnosis(FailureClass.UNKNOWN, "message", _last(message))


def _of_stack(logs: Mapping[str, str]) -> Diagnosis | None:
    """Say whose fault it is that stack.sh failed, from the end of its log; None where that does not tell."""
    ends = {
        name: "\n".join(text.splitlines()[-_STACK_LINES:])
        for name, text in sorted(logs.items())
        if name.endswith(_STACK_LOG)
    }
    failed = {
        name: text for name, text in ends.items() if _STACK_COMPLETED not in logs.get(f"{name}.summary", "")
    }
    for source, text in (failed or ends).items():
        if (place := _product_traceback(text)) is not None:
            return Diagnosis(FailureClass.PRODUCT, source, _around(text, place))
        if seen := _STACK_SIGNS.search(text):
            return Diagnosis(FailureClass.LAB, source, _around(text, seen.start()))
    return None


def _product_traceback(text: str) -> int | None:
    """Return where the last traceback begins whose frames stand in the code under test."""
    starts = [found.start() for found in _TRACEBACK.finditer(text)]
    for start, stop in reversed(list(pairwise([*starts, len(text)]))):
        if _PRODUCT_PATHS.search(text, start, stop):
            return start
    return None


def _around(text: str, position: int) -> str:
    """Return the lines from just before a position on."""
    lines = text.splitlines()
    at = text.count("\n", 0, position)
    return "\n".join(lines[max(0, at - _LEAD_LINES) : max(0, at - _LEAD_LINES) + EXCERPT_LINES])


def _last(text: str) -> str:
    return "\n".join(text.splitlines()[-EXCERPT_LINES:])
