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
    r"|Read-only file system|Input/output error|Too many open files"
    r"|Can't connect to MySQL server|Lost connection to MySQL server|Temporary failure in name resolution"
    r"|Failed to fetch|Could not connect to .*:\d+ \(|AMQP server on .* is unreachable"
    r"|(?:mariadb|rabbitmq|memcached) was not ready|Failed to connect to the host via ssh",
)
_TEST_SIGNS = re.compile(
    r"InvalidTaskException|InvalidTaskConfig|ValidationError|jsonschema|There is no .* plugin"
    r"|InvalidScenarioArgument|is not defined.*template|TemplateSyntaxError|UndefinedError",
)
_TRACEBACK = re.compile(r"^(?:.*[ \t])?Traceback \(most recent call last\):", re.MULTILINE)
_LAB_ROLES = frozenset(
    {
        "preflight", "packages", "service", "mariadb", "rabbitmq", "memcached", "influxdb", "fingerprint",
        "counters", "canary", "collect", "environment_copy", "node_fingerprint", "node_tuning", "provision",
        "netboot", "os_image", "deploy_ramdisk", "openvswitch",
    }
)  # fmt: skip
_PRODUCT_PATHS = re.compile(r"site-packages/(keystone|placement|glance|nova|neutron)/")
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
    if role in _LAB_ROLES:
        return Diagnosis(FailureClass.LAB, "message", _last(message))
    for source, text in sorted(logs.items()):
        if (place := _product_traceback(text)) is not None:
            return Diagnosis(FailureClass.PRODUCT, source, _around(text, place))
    if stage not in {"deploy", "hammer"}:
        return Diagnosis(FailureClass.LAB, "message", _last(message))
    return Diagnosis(FailureClass.UNKNOWN, "message", _last(message))


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
