"""The simulator with the clients that people use: ipmitool, FreeIPMI, pyghmi, community.general's modules.

None of these may leave a session behind, except those that never log out: the modules, and
ipmipower after a reset.
"""

from __future__ import annotations

import asyncio
import json
import os
import pty
import sys
from contextlib import asynccontextmanager

import pytest
from lab.virtual.ipmi.client import at_rest, until
from programs import needs

from perfci.lab.virtual.ipmi import BootFlags, Faults, SessionLimits, VirtualBmc, crypto, handshake
from perfci.lab.virtual.machine import Boot, BootFrom
from perfci.lab.virtual.null import NullMachine

pytestmark = [
    pytest.mark.slow,
    needs("ipmitool", "bmc-info", "ipmi-chassis", "ipmi-raw", "ipmi-sel", "ipmi-sensors", "ipmipower"),
]

PASSWORD = "correct horse"
QUICK = SessionLimits(cycle_seconds=0, reset_seconds=0.1)


class Echo:
    """A console that greets, and sends back in capitals what is typed."""

    def __init__(self):
        self.receive = None

    def attach(self, receive):
        self.receive = receive
        asyncio.get_running_loop().call_soon(receive, b"n1 login: ")

    def detach(self):
        self.receive = None

    def write(self, data):
        if self.receive:
            self.receive(data.upper())


class Site:
    """One BMC on a real port, and how to reach it."""

    def __init__(self, folder, *, faults=None, console=None, limits=QUICK):
        self.folder = folder
        self.boot, self.faults = BootFlags(), faults or Faults()
        self.machine = NullMachine(self.boot.next_boot)
        self.bmc = VirtualBmc(
            "n1",
            {"admin": PASSWORD.encode()},
            self.machine,
            boot=self.boot,
            faults=self.faults,
            limits=limits,
            console=console,
        )
        (folder / "password").write_text(PASSWORD)

    @property
    def port(self):
        return self.bmc.address[1]

    async def run(self, *command, **environment):
        """Run a program; return its exit code and all it said."""
        process = await asyncio.create_subprocess_exec(
            *map(str, command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "HOME": str(self.folder), **environment},
        )
        said, _ = await process.communicate()
        return process.returncode, said.decode()

    def ipmitool_command(self, *command, suite=17, user="admin"):
        where = ("-I", "lanplus", "-C", str(suite), "-H", "127.0.0.1", "-p", str(self.port))
        return ("ipmitool", *where, "-U", user, "-f", str(self.folder / "password"), *command)

    def ipmitool(self, *command, **options):
        return self.run(*self.ipmitool_command(*command, **options))

    def freeipmi(self, program, *command, suite=17, password=PASSWORD):
        settings = self.folder / "freeipmi.conf"
        settings.write_text(f'username admin\npassword "{password}"\ndriver-type LAN_2_0\n')
        where = ("-h", f"127.0.0.1:{self.port}", "-I", suite, f"--config-file={settings}")
        return self.run(program, *where, *command)

    def python(self, program, **environment):
        """Run a program that has the BMC's place and password in WHERE."""
        where = {"bmc": "127.0.0.1", "port": self.port, "userid": "admin", "password": PASSWORD}
        return self.run(sys.executable, "-c", program, WHERE=json.dumps(where), **environment)


@pytest.fixture
def site(tmp_path):
    """Return a function that runs a test, given as a coroutine function, with a BMC that listens."""

    def run(test, **options):
        async def main():
            async with listening(Site(tmp_path, **options)) as site:
                await test(site)

        asyncio.run(main())

    return run


@asynccontextmanager
async def listening(site):
    await site.bmc.listen("127.0.0.1", 0)
    try:
        yield site
    finally:
        await site.bmc.close()


@pytest.mark.parametrize("suite", [3, 17])
def test_ipmitool_power_and_boot(site, suite):
    async def test(site):
        async def said(*command, code=0):
            found, text = await site.ipmitool(*command, suite=suite)
            assert found == code, text
            assert site.bmc.sessions == 0
            return text

        assert "Chassis Power is off" in await said("chassis", "power", "status")
        await said("chassis", "bootdev", "pxe", "options=persistent,efiboot")
        text = await said("chassis", "bootparam", "get", "5")
        assert "Force PXE" in text
        assert "EFI" in text
        await said("chassis", "power", "on")
        assert site.machine.booted == Boot(BootFrom.NETWORK, uefi=True)
        await said("chassis", "bootdev", "disk")
        await said("chassis", "power", "reset")
        assert site.machine.booted == Boot(BootFrom.DISK)
        assert "Chassis Power is on" in await said("chassis", "power", "status")
        await said("chassis", "power", "cycle")
        await said("chassis", "power", "soft")
        assert not site.machine.is_on
        await said("chassis", "power", "cycle", code=1)

    site(test)


def test_ipmitool_asks_for_everything(site):
    async def test(site):
        for command, expected in (
            ("mc info", "IPMI Version              : 2.0"),
            ("mc guid", "System GUID"),
            ("mc selftest", "Selftest: passed"),
            ("sdr list", "Inlet Temp       | 22 degrees C"),
            ("sdr type Temperature", "CPU Temp"),
            ("sensor list", "Inlet Temp"),
            ("sel info", "Entries          : 0"),
            ("chassis status", "System Power         : off"),
            ("chassis identify 5", "Chassis identify interval: 5 seconds"),
            ("session info active", "user id"),
            ("user list 1", "admin"),
            ("channel info 1", "802.3 LAN"),
            ("channel authcap 1 4", "IPMI v2.0"),
            ("sol info 1", "Enabled                         : false"),
        ):
            code, text = await site.ipmitool(*command.split())
            assert code == 0, (command, text)
            assert expected in text, (command, text)
            assert site.bmc.sessions == 0

    site(test)


def test_ipmitool_reads_and_clears_the_log(site):
    async def test(site):
        for order in ("on", "off"):
            await site.ipmitool("chassis", "power", order)
        _, text = await site.ipmitool("sel", "elist")
        assert text.count("Power Unit Power Unit") == 2
        assert "Power off/down | Deasserted" in text
        assert "Power off/down | Asserted" in text
        code, text = await site.ipmitool("sel", "clear")
        assert code == 0
        _, text = await site.ipmitool("sel", "elist")
        assert len(text.splitlines()) == 1
        assert "Log area reset/cleared" in text

    site(test)


@pytest.mark.parametrize("how", ["warm", "cold"])
def test_ipmitool_resets_the_bmc(site, how):
    async def test(site):
        code, text = await site.ipmitool("-N", "1", "-R", "1", "mc", "reset", how)
        assert code == 0, text
        assert f"Sent {how} reset command to MC" in text
        assert site.bmc.sessions == 0
        code, _ = await site.ipmitool("mc", "info")  # it tries again while the BMC starts
        assert code == 0

    site(test)


def test_ipmitool_is_refused(site):
    async def test(site):
        code, text = await site.ipmitool("-L", "USER", "chassis", "power", "on")
        assert code != 0
        assert "Insufficient privilege level" in text
        code, text = await site.ipmitool("raw", "0x06", "0x99")
        assert code != 0
        assert "rsp=0xc1" in text
        for user in ("nobody", "admin"):
            site.faults.wrong_credentials = True
            code, text = await site.ipmitool("mc", "info", user=user)
            assert code != 0
            assert "Unable to establish IPMI v2 / RMCP+ session" in text
        site.faults.wrong_credentials = False
        site.faults.sessions_full = True
        code, text = await site.ipmitool("mc", "info")
        assert code != 0
        assert "insufficient resources" in text
        assert not site.machine.is_on
        assert site.bmc.sessions == 0

    site(test)


def test_ipmitool_over_ipmi_1_5_is_refused(site):
    async def test(site):
        where = ("-I", "lan", "-H", "127.0.0.1", "-p", site.port, "-U", "admin")
        code, text = await site.run("ipmitool", *where, "-f", site.folder / "password", "mc", "info")
        assert code != 0
        assert "Authentication type NONE not supported" in text or "Unable to establish LAN session" in text

    site(test)


def test_ipmitool_on_the_console(site):
    async def test(site):
        ours, theirs = pty.openpty()
        console = await asyncio.create_subprocess_exec(
            *site.ipmitool_command("sol", "activate"), stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        seen = b""
        for awaited, typed in ((b"n1 login: ", b"root\r"), (b"ROOT", b"~.")):
            while awaited not in seen:
                seen += await asyncio.to_thread(os.read, ours, 4096)
            os.write(ours, typed)
        assert await console.wait() == 0
        os.close(ours)
        assert site.bmc._bmc.sol.session is None
        assert site.bmc.sessions == 0

    site(test, console=Echo())


@pytest.mark.parametrize("suite", [3, 17])
def test_freeipmi_power(site, suite):
    async def test(site):
        for order, expected, is_on, left in (
            ("--stat", "off", False, 0),
            ("--on", "ok", True, 0),
            ("--on", "ok", True, 0),
            ("--stat", "on", True, 0),
            ("--reset", "ok", True, 1),
            ("--cycle", "ok", True, 1),
            ("--soft", "ok", False, 1),
            ("--off", "ok", False, 1),
        ):
            code, text = await site.freeipmi("ipmipower", order, suite=suite)
            assert code == 0, text
            assert text.strip().endswith(f": {expected}"), (order, text)
            # It does not wait until its session is closed.
            await until(lambda left=left: site.bmc.sessions == left and at_rest(site))
            assert site.machine.is_on == is_on, order

    site(test)


def test_freeipmi_asks_for_everything(site):
    async def test(site):
        await site.freeipmi("ipmipower", "--on")
        await until(lambda: site.bmc.sessions == 0)
        for program, command, expected in (
            ("bmc-info", (), "2.0"),
            ("bmc-info", ("--get-device-guid",), "-"),
            ("ipmi-chassis", ("--get-chassis-status",), "System Power                        : on"),
            ("ipmi-chassis", ("--get-chassis-capabilities",), "FRU Info Device Address"),
            ("ipmi-chassis", ("--chassis-identify=5",), ""),
            ("ipmi-sensors", ("--sdr-cache-recreate",), "Fan 1"),
            ("ipmi-sel", ("--sdr-cache-recreate",), "Power Unit"),
            ("ipmi-sel", ("--info",), "Number of log entries"),
            ("ipmi-sel", ("--clear",), ""),
            ("ipmi-raw", ("0", "6", "1"), "rcvd: 01 00 20"),
            ("ipmi-raw", ("0", "6", "0x99"), "rcvd: 99 C1"),
        ):
            code, text = await site.freeipmi(program, *command)
            assert code == 0, (program, command, text)
            assert expected in text, (program, command, text)
            assert site.bmc.sessions == 0

    site(test)


def test_freeipmi_is_refused(site):
    async def test(site):
        code, text = await site.freeipmi("ipmipower", "--stat", password="wrong")
        assert "password invalid" in text
        site.faults.sessions_full = True
        code, text = await site.freeipmi("ipmipower", "--stat")
        assert "BMC busy" in text
        code, text = await site.freeipmi("bmc-info", "-D", "LAN")
        assert code != 0
        assert "authentication type" in text
        assert site.bmc.sessions == 0

    site(test)


PYGHMI = """
import json, os
from pyghmi.ipmi.command import Command
bmc = Command(**json.loads(os.environ["WHERE"]))
def show(**found): print(json.dumps(found, default=str))
"""
PYGHMI_END = "bmc.ipmi_session.logout()\nos._exit(0)\n"


def shown(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_pyghmi(site):
    async def test(site):
        code, text = await site.python(
            PYGHMI
            + """
show(power=bmc.get_power())
bmc.set_bootdev("network", persist=True, uefiboot=True)
show(boot=bmc.get_bootdev())
show(on=bmc.set_power("on", wait=10))
bmc.set_identify(duration=5)
show(sensors={one.name: [one.value, one.units, one.states] for one in bmc.get_sensor_data()})
show(log=[one["event"] for one in bmc.get_event_log(clear=True)])
show(after=[one["event"] for one in bmc.get_event_log()])
show(users=[one["name"] for one in bmc.get_users().values()])
"""
            + "import sys; sys.stdout.flush()\n"
            + PYGHMI_END
        )
        assert code == 0, text
        found = {key: value for line in shown(text) for key, value in line.items()}
        assert found["power"] == {"powerstate": "off"}
        assert found["boot"] == {"bootdev": "network", "persistent": True, "uefimode": True}
        assert found["on"] == {"powerstate": "on"}
        assert site.machine.booted == Boot(BootFrom.NETWORK, uefi=True)
        assert found["sensors"]["Inlet Temp"][:2] == [23.0, "°C"]
        assert found["sensors"]["Fan 1"][:2] == [5400.0, "RPM"]
        assert found["sensors"]["Power"][:2] == [118.0, "W"]
        assert found["sensors"]["Power Unit"][2] == []
        assert len(found["log"]) == 1
        assert found["after"] == ["Log clear"]
        assert "admin" in found["users"]
        assert site.bmc.sessions == 0

    site(test)


def test_pyghmi_on_the_console(site):
    async def test(site):
        code, text = await site.python(
            """
import json, os, sys, time
from pyghmi.ipmi.console import Console
seen = b""
def show(data):
    global seen
    if isinstance(data, dict):
        print(data, flush=True)
    else:
        seen += data
where = json.loads(os.environ["WHERE"])
console = Console(where["bmc"], where["userid"], where["password"], show, port=where["port"])
end = time.monotonic() + 30
typed = False
while b"LS" not in seen and time.monotonic() < end:
    Console.wait_for_rsp(0.2)
    if b"login: " in seen and not typed:
        console.send_data(b"ls")
        typed = True
print(json.dumps({"seen": seen.decode()}), flush=True)
session = console.ipmi_session
console.close()
session.logout()
os._exit(0)
"""
        )
        assert code == 0, text
        assert shown(text) == [{"seen": "n1 login: LS"}], text
        assert site.bmc._bmc.sol.session is None
        assert site.bmc.sessions == 0

    site(test, console=Echo())


def test_pyghmi_falls_back_to_the_older_suite(site, monkeypatch):
    """A BMC that has suite 3 only says so in a way that clients understand."""
    only = tuple(one for one in crypto.SUITES if one.id == 3)
    monkeypatch.setattr(crypto, "SUITES", only)
    monkeypatch.setattr(handshake, "SUITES", only)

    async def test(site):
        code, text = await site.python(
            PYGHMI + "show(power=bmc.get_power())\nimport sys; sys.stdout.flush()\n" + PYGHMI_END
        )
        assert code == 0, text
        assert shown(text) == [{"power": {"powerstate": "off"}}]

    site(test)


PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
  module_defaults:
    community.general.ipmi_power: &bmc
      name: 127.0.0.1
      port: "{{ (lookup('env', 'WHERE') | from_json).port }}"
      user: admin
      password: "{{ (lookup('env', 'WHERE') | from_json).password }}"
    community.general.ipmi_boot: *bmc
  tasks:
    - community.general.ipmi_boot: {bootdev: network, persistent: true}
    - community.general.ipmi_boot: {bootdev: network, persistent: true}
      register: again
      failed_when: again is changed
    - community.general.ipmi_power: {state: "on", timeout: 10}
    - community.general.ipmi_power: {state: "on", timeout: 10}
      register: again
      failed_when: again is changed
"""


def test_the_ansible_modules(site):
    async def test(site):
        (site.folder / "play.yml").write_text(PLAYBOOK)
        (site.folder / "ansible.cfg").write_text("[defaults]\n")
        program = f"import sys; sys.argv[1:] = ['-i', 'localhost,', '-c', 'local', {str(site.folder / 'play.yml')!r}]"
        program += "; from ansible.cli.playbook import main; main()"
        code, text = await site.python(
            program, ANSIBLE_CONFIG=str(site.folder / "ansible.cfg"), ANSIBLE_HOME=str(site.folder)
        )
        assert code == 0, text
        assert site.machine.is_on
        assert site.machine.booted == Boot(BootFrom.NETWORK)
        assert site.bmc.sessions == 4  # one for each task: the modules never log out

    site(test)


def test_many_bmcs_at_once(tmp_path):
    """Three hundred BMCs in one process are reset by one client."""

    async def test():
        sites = [Site(tmp_path) for _ in range(300)]
        for number, one in enumerate(sites):
            await one.bmc.listen(f"127.31.{number // 200}.{number % 200 + 1}", sites[0].port if number else 0)
            one.machine.is_on = True
        settings = tmp_path / "freeipmi.conf"
        settings.write_text(f'username admin\npassword "{PASSWORD}"\ndriver-type LAN_2_0\n')
        hosts = ",".join("{}:{}".format(*one.bmc.address) for one in sites)
        patience = ("--session-timeout=300000", "--retransmission-timeout=5000")
        command = (
            "ipmipower",
            "-h",
            hosts,
            "-I",
            17,
            f"--config-file={settings}",
            "-F",
            64,
            *patience,
            "--reset",
        )
        code, text = await sites[0].run(*command)
        resets = sum(len(one.bmc._bmc.events) for one in sites)
        for one in sites:
            await one.bmc.close()
        assert code == 0, text
        assert text.count(": ok") == 300
        assert resets == 300

    asyncio.run(test())
