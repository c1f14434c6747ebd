"""The command for a node's mains: no shell, no secrets, clear errors."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from perfci.lab.bmc.base import Target
from perfci.lab.bmc.errors import OutletCommandInvalid, OutletFailed
from perfci.lab.bmc.outlet import command, switch


def target(template, outlet="7"):
    return Target("node-1", "192.0.2.1", "perfci", "s3cret", outlet=outlet, outlet_command=template)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("pdu cycle {outlet}", ("pdu", "cycle", "7; rm -rf {node}")),
        ("'/opt/my pdu' --host=rack-{node}", ("/opt/my pdu", "--host=rack-node-1")),
        ("pdu $(id) `id` | {outlet}", ("pdu", "$(id)", "`id`", "|", "7; rm -rf {node}")),
    ],
)
def test_no_shell_ever_reads_an_argument(template, words):
    assert command(target(template, outlet="7; rm -rf {node}")) == words


@pytest.mark.parametrize("template", [None, "", "pdu '", "pdu {password}", "pdu {target.password}", "pdu {}"])
def test_what_is_no_command(template):
    with pytest.raises(OutletCommandInvalid) as caught:
        command(target(template))
    assert "s3cret" not in str(caught.value)
    assert "{outlet}" in caught.value.advice


def test_what_is_switched(tmp_path):
    log = tmp_path / "log"
    script = f"import sys; open({str(log)!r}, 'w').write(' '.join(sys.argv[1:]))"
    asyncio.run(switch(target(f'{sys.executable} -c "{script}" {{outlet}} {{node}}')))
    assert log.read_text() == "7 node-1"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("/nonexistent/pdu", "No such file"),
        (f"{sys.executable} -c 'print(1); raise SystemExit(\"password: hunter22\")'", "password: ****"),
        (f"{sys.executable} -c 'raise SystemExit(3)'", "status 3"),
    ],
)
def test_a_command_that_fails(template, words):
    with pytest.raises(OutletFailed, match=words.replace("*", r"\*")):
        asyncio.run(switch(target(template)))


def test_a_command_that_hangs_does_not_outlive_its_time(tmp_path):
    pid = tmp_path / "pid"
    script = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(600)"

    async def interrupted():
        switching = asyncio.create_task(switch(target(f'{sys.executable} -c "{script}"')))
        while not (pid.exists() and pid.read_text()):  # noqa: ASYNC110  (another process writes it)
            await asyncio.sleep(0.01)
        switching.cancel()
        await asyncio.wait([switching])

    asyncio.run(interrupted())
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
