"""What is read from QEMU's monitor; the other end is played here."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from perfci.lab.virtual.qmp import GUEST_RESET, Monitor, parse


async def conversation(lines):
    """Return why it ended, and what was sent to QEMU."""
    ours, its = socket.socketpair()
    monitor = await Monitor.over(ours)
    monitor.order("qmp_capabilities", "cont")
    with its:
        its.sendall(b"".join(lines))
        its.settimeout(5)
        await asyncio.sleep(0)
        sent = its.recv(4096)
    reason = await monitor.reason_of_end()
    monitor.close()
    return reason, [json.loads(line)["execute"] for line in sent.splitlines()]


SHUTDOWN = b'{"timestamp": {"seconds": 1}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "%s"}}\r\n'


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([b'{"QMP": {}}\r\n', b'{"return": {}}\r\n', SHUTDOWN % b"guest-reset"], GUEST_RESET),
        ([SHUTDOWN % b"guest-shutdown"], "guest-shutdown"),
        ([b'{"event": "RESUME"}\r\n'], ""),
        ([], ""),
        ([b"garbage\n", b"[1]\n", b'{"error": {"desc": "no"}}\n', b'{"event": "SHUTDOWN"'], ""),
    ],
)
def test_why_it_ended(lines, reason):
    assert asyncio.run(conversation(lines)) == (reason, ["qmp_capabilities", "cont"])


def test_what_is_no_message():
    assert parse(b"\xff\xfe") == parse(b"3") == parse(b"") == {}
