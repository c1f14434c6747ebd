"""Whose fault a failure is."""

from __future__ import annotations

import pytest

from perfci.errors import FailureClass
from perfci.runs.classify import EXCERPT_LINES, diagnose

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
