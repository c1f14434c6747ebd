"""Whose fault a failure is."""

from __future__ import annotations

import pytest

from perfci.errors import FailureClass
from perfci.runs.night.classify import EXCERPT_LINES, diagnose

NOVA_TRACEBACK = """2026-11-21 04:00:01.000 INFO nova.service starting
2026-11-21 04:00:02.000 CRITICAL nova Unhandled error: Traceback (most recent call last):
  File "/x/lib/python3.11/site-packages/nova/service.py", line 10, in start
    self.broken()
AttributeError: 'Service' object has no attribute 'broken'
"""
OTHER_TRACEBACK = """Traceback (most recent call last):
  File "/x/lib/python3.11/site-packages/amqp/transport.py", line 10, in read
OSError: closed
"""


GONE = "error : virNetSocketReadWire:1793 : End of file while reading data: Input/output error"


@pytest.mark.parametrize(
    ("stage", "role", "message", "logs", "expected"),
    [
        ("deploy", "nova", "did not answer", {"nova-api": NOVA_TRACEBACK}, FailureClass.PRODUCT),
        ("deploy", "nova", "did not answer", {"nova-api": OTHER_TRACEBACK}, FailureClass.UNKNOWN),
        ("deploy", "nova", "did not answer", {}, FailureClass.UNKNOWN),
        ("deploy", "nova", "did not answer", {"nova-api": "all is well"}, FailureClass.UNKNOWN),
        ("deploy", "", "rabbitmq was not ready after 120 s", {"nova-api": NOVA_TRACEBACK}, FailureClass.LAB),
        ("deploy", "mariadb", "did not answer", {"nova-api": NOVA_TRACEBACK}, FailureClass.LAB),
        (
            "deploy",
            "nova",
            "did not answer",
            {"nova-api": NOVA_TRACEBACK, "mariadb": "write: No space left on device"},
            FailureClass.LAB,
        ),
        (
            "deploy",
            "nova",
            "did not answer",
            {"libvirtd": GONE, "nova-api": NOVA_TRACEBACK},
            FailureClass.PRODUCT,
        ),
        ("deploy", "nova", "did not answer", {"libvirtd": "read: Input/output error"}, FailureClass.LAB),
        ("hammer", "rally", "InvalidTaskException: no such scenario", {}, FailureClass.TEST),
        ("deploy", "nova", "ValidationError: flavor", {}, FailureClass.UNKNOWN),
        ("hammer", "rally", "cloud does not answer", {"neutron-api": NOVA_TRACEBACK}, FailureClass.PRODUCT),
        (
            "hammer",
            "canary",
            "Run them on node-3: Failed to connect to the host via ssh: timed out",
            {"node-1/nova-api": NOVA_TRACEBACK},
            FailureClass.LAB,
        ),
        ("provision", "", "anything", {}, FailureClass.LAB),
        ("store", "", "anything", {"x": OTHER_TRACEBACK}, FailureClass.LAB),
    ],
)
def test_classes(stage, role, message, logs, expected) -> None:
    for ordered in (logs, dict(reversed(logs.items()))):
        assert diagnose(stage=stage, role=role, message=message, logs=ordered).failure_class is expected


def test_the_excerpt_is_the_part_that_says_why() -> None:
    log = "noise\n" * 500 + NOVA_TRACEBACK + "more noise\n" * 500
    found = diagnose(stage="deploy", role="nova", message="nova-api did not answer", logs={"nova-api": log})
    assert found.source == "nova-api"
    assert "has no attribute 'broken'" in found.excerpt
    assert len(found.excerpt.splitlines()) <= EXCERPT_LINES


def test_the_last_traceback_of_the_product_counts() -> None:
    log = (
        NOVA_TRACEBACK.replace("broken", "first")
        + NOVA_TRACEBACK.replace("broken", "second")
        + OTHER_TRACEBACK
    )
    found = diagnose(stage="deploy", role="nova", message="", logs={"nova-api": log})
    assert "second" in found.excerpt
    assert "'first'" not in found.excerpt


STACK_TRACEBACK = """+ nova-manage api_db sync
Traceback (most recent call last):
  File "/opt/stack/nova/nova/db/migration.py", line 10, in db_sync
KeyError: 'revision'
[ERROR] /opt/stack/devstack/lib/nova:800 failed
"""
STACK_WHEEL = "ERROR: No matching distribution found for oslo.log===8.1.0\n[ERROR] inc/python:220 failed\n"


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (STACK_TRACEBACK, FailureClass.PRODUCT),
        (STACK_WHEEL, FailureClass.LAB),
        (STACK_WHEEL + "ok\n" * 500, FailureClass.UNKNOWN),  # it went on after that
        ("fatal: unable to access 'https://opendev.org/': Could not resolve host\n", FailureClass.LAB),
        ("E: Unable to locate package conntrackd\n", FailureClass.LAB),
        ("curl: (7) Failed to connect to 127.0.0.1: Connection refused\n", FailureClass.UNKNOWN),
        ("", FailureClass.UNKNOWN),
    ],
)
def test_the_end_of_stack_sh_says_whose_fault_it_was(log, expected):
    found = diagnose(
        stage="deploy", role="devstack", message="stack.sh failed", logs={"node-1/stack.sh.log": log}
    )
    assert found.failure_class is expected


@pytest.mark.parametrize(
    ("log", "expected"),
    [(STACK_TRACEBACK, FailureClass.PRODUCT), ("it just stopped\n", FailureClass.UNKNOWN)],
)
def test_of_several_nodes_only_those_count_where_stack_sh_failed(log, expected):
    logs = {
        "node-1/stack.sh.log": STACK_WHEEL,
        "node-1/stack.sh.log.summary": "2026-11-21 21:00:54.149 | stack.sh completed in 745 seconds.\n",
        "node-2/stack.sh.log": log,
    }
    found = diagnose(stage="deploy", role="devstack", message="stack.sh failed", logs=logs)
    assert found.failure_class is expected


def test_a_service_of_devstack_that_could_not_start_is_the_code_under_test():
    logs = {"node-1/stack.sh.log": "n-api did not start\n", "node-1/n-api.log": STACK_TRACEBACK}
    found = diagnose(stage="deploy", role="devstack", message="stack.sh failed", logs=logs)
    assert (found.failure_class, found.source) == (FailureClass.PRODUCT, "node-1/n-api.log")


@pytest.mark.parametrize(
    ("role", "message"),
    [
        ("mirror", "/srv/git/openstack/nova: there is no branch, tag or commit 'nope'"),
        ("openstack_code", "/srv/git/nova has no branch or tag 'nope'; give one of those, or a full commit"),
    ],
)
def test_a_revision_that_no_repository_has_is_the_jobs(role, message):
    found = diagnose(stage="provision", role=role, message=message, logs={})
    assert found.failure_class is FailureClass.TEST


def test_a_mirror_that_can_not_be_had_is_the_labs():
    found = diagnose(stage="provision", role="mirror", message="no copy of openstack/nova yet", logs={})
    assert found.failure_class is FailureClass.LAB


def ends(text):
    return {"node-1/stack.sh.log": f"+ set -o xtrace\n{text}\n+ ./stack.sh:exit_trap:547 :   exit 1\n"}


STACK_ENDS = {
    "socket": "ERROR 2002 (HY000): Can't connect to local MySQL server through socket '/run/mysqld.sock' (2)",
    "MariaDB's socket": "ERROR 2002 (HY000): Can't connect to local server through socket '/run/mysqld.sock' (2)",
    "MariaDB's port": "ERROR 2003 (HY000): Can't connect to server on '127.0.0.1' (111)",
    "MariaDB went": "ERROR 2013 (HY000): Lost connection to server during query",
    "apt's lock": "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1234 (apt-get)",
    "pip": "pip._vendor.urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool(host='x', port=443): Read timed out.",
    "git": "fatal: early EOF\nfatal: index-pack failed",
    "git over HTTP": "error: RPC failed; curl 18 transfer closed with outstanding read data remaining",
    "held packages": "E: Unable to correct problems, you have held broken packages.",
    "archive": "E: Failed to fetch http://deb.example/x.deb  Hash Sum mismatch",
    "sysctl": "sysctl: cannot stat /proc/sys/net/bridge/bridge-nf-call-iptables: No such file or directory",
}


@pytest.mark.parametrize("end", STACK_ENDS.values(), ids=STACK_ENDS)
def test_machine_and_network_that_failed_stack_sh_are_the_labs(end):
    found = diagnose(stage="deploy", role="devstack", message="stack.sh failed", logs=ends(end))
    assert (found.failure_class, found.source) == (FailureClass.LAB, "node-1/stack.sh.log")
    assert end.splitlines()[0] in found.excerpt


def test_a_database_that_is_gone_is_the_labs_also_where_the_product_falls_over_it():
    gone = STACK_TRACEBACK.replace(
        "KeyError: 'revision'", 'OperationalError: (2003, "Can\'t connect to MySQL server")'
    )
    for logs in (
        ends(gone),
        {"nova-api": NOVA_TRACEBACK.replace("AttributeError", "Can't connect to server on")},
    ):
        found = diagnose(stage="deploy", role="devstack", message="stack.sh failed", logs=logs)
        assert found.failure_class is FailureClass.LAB


@pytest.mark.parametrize(
    "words",
    [
        "ERROR neutron.agent.l3.agent Failed to fetch router information for '6f1c': RemoteError",
        "WARNING nova.compute.api Failed to fetch instance by id",
        "ERROR oslo.messaging AMQP server on 127.0.0.1:5672 is unreachable",
        "OSError: [Errno 24] Too many open files",
        "nova.exception Quota exceeded for resources: ['security_group']",
    ],
)
def test_services_own_words_are_no_sign_of_a_broken_lab(words):
    logs = {"node-2/neutron-l3-agent.log": words, "node-1/nova-api.log": NOVA_TRACEBACK}
    found = diagnose(stage="deploy", role="nova", message="agents did not come up", logs=logs)
    assert (found.failure_class, found.source) == (FailureClass.PRODUCT, "node-1/nova-api.log")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("Forbidden Quota exceeded for resources: ['security_group'].", FailureClass.TEST),
        ("OverQuotaClient Quota exceeded for resources: ['port'].", FailureClass.TEST),
        (
            "IpAddressGenerationFailureClient No more IP addresses available on network 6f1c.",
            FailureClass.TEST,
        ),
        (
            "GetResourceErrorStatus Server s_rally has ERROR status: Failed to fetch the port",
            FailureClass.UNKNOWN,
        ),
    ],
)
def test_what_a_task_asks_for_beyond_its_quota_or_network_is_the_tests(error, expected):
    message = f"1 of 1 tasks gave no results\n01-x: all 10 iterations failed; the first with {error}"
    assert diagnose(stage="hammer", role="rally", message=message, logs={}).failure_class is expected
