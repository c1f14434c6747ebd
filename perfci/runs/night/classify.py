"""Whose fault a failed stage is: a pure decision on what the playbook and the logs say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING

from perfci.errors import FailureClass

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class _Source(StrEnum):
    """Who says it: the same words mean different things in different mouths."""

    ANSIBLE = "ansible"
    """What the failed task of a playbook said."""
    RALLY = "rally"
    """What the first failed iteration of a task said: words of the cloud's API."""
    STACK = "stack"
    """The end of stack.sh's log."""
    SERVICE = "service"
    """A log of the code under test."""
    BESIDE = "beside"
    """A log of what the cloud stands on: database, message queue, libvirt, Open vSwitch, the kernel."""


_EVERYWHERE = frozenset(_Source)
_NOT_THE_CLOUD = frozenset({_Source.ANSIBLE, _Source.STACK, _Source.BESIDE})


@dataclass(frozen=True, slots=True)
class _Sign:
    """Words of a machine, or of a service beside the cloud, that gave up; `by` says in whose mouth."""

    words: re.Pattern[str]
    by: frozenset[_Source]


_LAB_SIGNS = (
    # libvirtd says "Input/output error" of every client that leaves without a word.
    _Sign(
        re.compile(
            r"No space left on device|Cannot allocate memory|Read-only file system"
            r"|(?<!End of file while reading data: )Input/output error"
        ),
        _EVERYWHERE,
    ),
    # A service can run out of these by its own fault.
    _Sign(re.compile(r"MemoryError|Out of memory|oom-kill|Too many open files"), _NOT_THE_CLOUD),
    _Sign(
        re.compile(
            r"E: ?(?:Failed to fetch|Unable to fetch)|Failed to fetch \w+://|Hash Sum mismatch"
            r"|held broken packages|Could not connect to .*:\d+ \("
        ),
        _NOT_THE_CLOUD,
    ),
    _Sign(
        re.compile(r"(?:mariadb|rabbitmq|memcached) was not ready|Failed to connect to the host via ssh"),
        frozenset({_Source.ANSIBLE, _Source.RALLY}),
    ),
)
# MySQL's and MariaDB's words (since 10.6 without "MySQL"), kombu's, the resolver's. A service says them, too,
# where another one has fallen over: a traceback of the product without them says more.
_GONE = re.compile(
    r"Can't connect to (?:local )?(?:MySQL |MariaDB )?server|Lost connection to (?:MySQL |MariaDB )?server"
    r"|(?:MySQL )?server has gone away|AMQP server on .* is unreachable|Temporary failure in name resolution"
)
_TEST_SIGNS = re.compile(
    r"InvalidTaskException|InvalidTaskConfig|ValidationError|jsonschema|There is no .* plugin"
    r"|InvalidScenarioArgument|is not defined.*template|TemplateSyntaxError|UndefinedError"
    # The task asks for more than its tenant, or its network, has.
    r"|[Qq]uota exceeded|OverQuota|exceeds? .{0,40}quota|No more IP addresses|IpAddressGenerationFailure",
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
    r"|E: (?:Unable to locate package|Package .* has no installation candidate|Unable to correct problems"
    r"|Could not get lock|Unable to (?:acquire|lock)|Sub-process .*dpkg|Some index files failed)"
    r"|unmet dependencies|dpkg: error|is held by process|Temporary failure resolving"
    r"|(?<!broken by ')(?:ReadTimeoutError|ConnectTimeoutError|NewConnectionError|ProxyError|IncompleteRead)"
    r"|Max retries exceeded with url|DO NOT MATCH THE HASHES"
    r"|fatal: (?:unable to access|Could not read from remote|unable to connect|the remote end hung up"
    r"|fetch-pack|protocol error)|error: RPC failed|early EOF|index-pack failed"
    r"|sysctl: (?:cannot stat|permission denied|.*(?:Read-only|Operation not permitted|Invalid argument))"
    r"|Network is unreachable|No route to host"
    r"|Job for (?:mariadb|mysql|rabbitmq-server|openvswitch-switch)",
)
_STACK_ROLE = "devstack"
_STACK_LOG = "stack.sh.log"
_SERVICE_LOG = re.compile(
    r"(?:devstack@)?(?:keystone|placement|glance|nova|neutron|cinder|key|n-|q-|g-|c-)", re.IGNORECASE
)
"""How the names of logs begin that the code under test writes, here and in devstack."""
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
    a job that can't work, then a traceback in the code under test. Words count only from the source that
    knows: "Failed to fetch" of apt is the lab's, of neutron's agent it is not. What shows nothing of this
    is the lab's in the lab's own stages and roles, else unknown: a guess would send the mail to the wrong
    people.
    """
    said_by = _Source.RALLY if (stage, role) == ("hammer", "rally") else _Source.ANSIBLE
    texts = [("message", said_by, message), *((name, _source_of(name), text) for name, text in _ends(logs))]
    if (of_lab := _of_lab(texts)) is not None:
        return of_lab
    if stage == "hammer" and (found := _TEST_SIGNS.search(message)):
        return Diagnosis(FailureClass.TEST, "message", _around(message, found.start()))
    if found := _NO_REVISION.search(message):
        return Diagnosis(FailureClass.TEST, "message", _around(message, found.start()))
    if role in _LAB_ROLES:
        return Diagnosis(FailureClass.LAB, "message", _last(message))
    if role == _STACK_ROLE and (of_stack := _of_stack(logs)) is not None:
        return of_stack
    return _of_services(stage, message, logs)


def _source_of(log: str) -> _Source:
    name = log.rpartition("/")[2]
    if name.endswith(_STACK_LOG):
        return _Source.STACK
    return _Source.SERVICE if _SERVICE_LOG.match(name) else _Source.BESIDE


def _ends(logs: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the logs by name; of stack.sh only the end, and nothing of a node where it went well."""
    return [
        (name, "\n".join(text.splitlines()[-_STACK_LINES:]) if name.endswith(_STACK_LOG) else text)
        for name, text in sorted(logs.items())
        if _STACK_COMPLETED not in logs.get(f"{name}.summary", "")
    ]


def _of_lab(texts: Sequence[tuple[str, _Source, str]]) -> Diagnosis | None:
    """Return the lab's diagnosis where somebody who knows says that a machine or a service gave up."""
    for name, source, text in texts:
        for sign in _LAB_SIGNS:
            if source in sign.by and (found := sign.words.search(text)):
                return Diagnosis(FailureClass.LAB, name, _around(text, found.start()))
    return _gone(texts)


def _gone(texts: Sequence[tuple[str, _Source, str]]) -> Diagnosis | None:
    """Return the lab's diagnosis where database, message queue or names were out of reach.

    Services' words of it do not count beside a traceback of the product that has another reason.
    """
    traces = [text[place:] for _, _, text in texts if (place := _product_traceback(text)) is not None]
    other = any(not _GONE.search("\n".join(trace.splitlines()[:EXCERPT_LINES])) for trace in traces)
    for name, source, text in texts:
        if source in (_Source.SERVICE, _Source.STACK, _Source.RALLY) and other:
            continue
        if found := _GONE.search(text):
            return Diagnosis(FailureClass.LAB, name, _around(text, found.start()))
    return None


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
