"""The IPMI client against Debian's `ipmi_sim` (package openipmi): a BMC that is not ours."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from programs import needs

from perfci.lab.bmc.base import BootDevice, BootOrder, Power, PowerOrder, Restart, Target
from perfci.lab.bmc.errors import BmcCredentialsWrong, BmcError, BmcIneffective, BmcRefused, BmcUnsupported
from perfci.lab.bmc.ipmi import connect
from perfci.lab.bmc.operations import Order
from perfci.lab.bmc.orders import Means, give

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, needs("ipmi_sim")]

LAN = """\
name "perfci"
set_working_mc 0x20
  startlan 1
    addr 127.0.0.1 {port}
    priv_limit admin
    allowed_auths_admin none md5
    guid a123456789abcdefa123456789abcdef
  endlan
  chassis_control "{folder}/chassis"
  user 1 true "" "" user 10 none md5
  user 2 true "perfci" "s3cret" admin 10 md5
"""
CHASSIS = """\
#!/bin/sh
# ipmi_sim asks and tells the machine through this: get NAME..., set NAME VALUE..., check NAME...
cd "{folder}" || exit 1
order=$1
shift
while [ $# -gt 0 ]; do
  case $order in
    get) echo "$1:$(cat "$1")" ;;
    set) echo "$2" > "$1"; shift ;;
  esac
  shift
done
"""
EMU = """\
mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
sel_enable 0x20 1000 0x0a
sensor_add 0x20 0 1 35 0x6f event-only
mc_enable 0x20
"""


def free_port(kind):
    with socket.socket(type=kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the machine keeps its state."""
    return tmp_path_factory.mktemp("ipmi_sim")


@pytest.fixture(scope="module")
def target(machine: Path) -> Iterator[Target]:
    folder = machine
    port = free_port(socket.SOCK_DGRAM)
    (folder / "lan.conf").write_text(LAN.format(port=port, folder=folder))
    (folder / "chassis").write_text(CHASSIS.format(folder=folder))
    (folder / "chassis").chmod(0o755)
    (folder / "power").write_text("0\n")
    (folder / "boot").write_text("none\n")
    (folder / "ipmisim.emu").write_text(EMU)
    command = [
        "ipmi_sim",
        "-c",
        folder / "lan.conf",
        "-f",
        folder / "ipmisim.emu",
        "-s",
        folder / "state",
        "-n",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    # It knows cipher suite 3 at best.
    one = Target("node-1", "127.0.0.1", "perfci", "s3cret", port=port, cipher_suite=3)
    try:
        wait_for(one, process, folder / "log")
        yield one
    finally:
        process.terminate()
        process.wait(10)


def wait_for(target, process, log):
    for _ in range(50):
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(BmcError):
            asyncio.run(ask(target, lambda bmc: bmc.power()))
            return
        time.sleep(0.1)
    pytest.fail(log.read_text())


async def ask(target, question):
    async with connect(target) as bmc:
        return await question(bmc)


def test_power(target):
    seen = []
    for order in (PowerOrder.ON, PowerOrder.CYCLE, PowerOrder.OFF):
        (result,) = asyncio.run(give([target], Order(order), Means()))
        assert result.ok, result.error
        seen.append(result.done.after.power)
    assert seen == [Power.ON, Power.ON, Power.OFF]


@pytest.mark.parametrize(("device", "told"), [(BootDevice.NETWORK, "pxe"), (BootDevice.DISK, "default")])
def test_a_boot_order_reaches_the_machine(target, machine, device, told):
    asyncio.run(ask(target, lambda bmc: bmc.set_boot(BootOrder(device))))
    assert (machine / "boot").read_text() == f"{told}\n"


def test_an_order_that_it_calls_invalid_is_not_believed(target):
    """It passes the device on, but says ever after that its boot flags are not valid."""
    (result,) = asyncio.run(give([target], Order(boot=BootOrder(BootDevice.NETWORK)), Means()))
    assert isinstance(result.error, BmcIneffective)
    assert "still says 'default'" in str(result.error)


def test_identify(target):
    asyncio.run(ask(target, lambda bmc: bmc.identify(5)))


def test_event_log_and_sensors(target):
    assert asyncio.run(ask(target, lambda bmc: bmc.events())) == ()
    assert isinstance(asyncio.run(ask(target, lambda bmc: bmc.sensors())), tuple)


def test_sessions_are_given_back(target):
    """It has a limited table: a client that leaks is locked out after some logins."""

    async def often():
        for _ in range(100):
            async with connect(target) as bmc:
                await bmc.power()

    asyncio.run(often())


@pytest.mark.parametrize("changes", [{"password": "wrong"}, {"username": "nobody"}])
def test_wrong_credentials(target, changes):
    with pytest.raises(BmcCredentialsWrong):
        asyncio.run(ask(replace(target, **changes), lambda bmc: bmc.power()))


def test_a_cipher_suite_that_it_does_not_know(target):
    with pytest.raises(BmcUnsupported, match="cipher suite 17"):
        asyncio.run(ask(replace(target, cipher_suite=17), lambda bmc: bmc.power()))


def test_sessions_that_it_does_not_close_are_not_counted(target):
    """It lists its sessions, but closes none by its handle."""

    async def two():
        async with connect(target) as first, connect(target) as second:
            return await second.close_other_sessions(), await first.power()

    assert asyncio.run(two()) == (0, Power.OFF)


@pytest.mark.parametrize("how", Restart)
def test_a_restart_is_understood_or_refused_in_words(target, how):
    async def restart(bmc):
        await bmc.restart(how)

    try:
        asyncio.run(ask(target, restart))
    except BmcRefused as error:
        assert "invalid command" in str(error)  # noqa: PT017
    assert asyncio.run(ask(target, lambda bmc: bmc.power())) is Power.OFF
