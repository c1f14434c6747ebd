"""A machine with real firmware: iPXE of its network card runs a script, and the BMC's orders are heard at POST.

That a system is installed on such a machine is tested with the playbooks.
"""

from __future__ import annotations

import psutil
import pytest
from programs import needs, needs_root
from virtual_labs import NO_TRACES, NetworkBoot, plan, project_in, traces, until

from perfci.lab.virtual import lab
from perfci.lab.virtual.plan import MachineKind

pytestmark = [
    pytest.mark.slow,
    needs_root,
    needs(*lab.PROGRAMS[MachineKind.QEMU], "ipmitool"),
    pytest.mark.timeout(600),
]

GREETING = "#!ipxe\necho perfci says hello to ${net0/mac}\nsleep 1\nreboot\n"


@pytest.fixture
def site(tmp_path):
    """A lab of one machine that is off, with a controller's DHCP and HTTP."""
    wanted = plan(1, kind=MachineKind.QEMU, state=tmp_path / "state", project=project_in(tmp_path))
    lab.up(wanted)
    try:
        with NetworkBoot(wanted, tmp_path) as network:
            yield network
    finally:
        lab.down(wanted.state_dir, wanted.project)
    assert traces(wanted.site) == NO_TRACES


def console(site):
    file = site.inside.folder.node("node-1").console
    return file.read_text(errors="replace") if file.exists() else ""


def power(site):
    return lab.status(site.plan.state_dir)["nodes"][0]["power"]


def test_a_one_shot_order_leads_to_ipxe_and_is_used_up_by_its_reboot(site):
    node = site.plan.nodes[0]
    site.order(node, task="wipe", script=GREETING)
    site.inside.bmc(node, "chassis", "bootdev", "pxe")
    site.inside.bmc(node, "power", "on")
    until(lambda: f"perfci says hello to {node.mac}" in console(site), 120)
    until(lambda: "resets" in site.inside.folder.log.read_text(), 60)
    until(lambda: "Boot failed" in console(site).partition("says hello")[2], 60)  # of the empty disk
    assert power(site) == "on"
    site.inside.bmc(node, "power", "off")
    assert power(site) == "off"


def test_a_card_that_dhcp_does_not_know(site):
    node = site.plan.nodes[0]
    site.order(node, task="wipe", script=GREETING)
    lab.set_faults(site.plan.state_dir, node.name, ["pxe_nak"])
    site.inside.bmc(node, "chassis", "bootdev", "pxe")
    site.inside.bmc(node, "power", "on")
    until(lambda: "5e:54:00:00:00:01" in console(site), 120)
    until(lambda: "Boot failed" in console(site) or "No configuration methods" in console(site), 120)
    assert "says hello" not in console(site)


def test_a_machine_whose_qemu_was_killed_is_off(site):
    node = site.plan.nodes[0]
    site.inside.bmc(node, "power", "on")
    until(lambda: "SeaBIOS" in console(site), 60)
    (pid,) = (
        int(pid)
        for pid in traces(site.plan.site)["processes"]
        if psutil.Process(int(pid)).name().startswith("qemu")
    )
    psutil.Process(pid).kill()
    until(lambda: power(site) == "off")
    site.inside.bmc(node, "power", "on")
    until(lambda: console(site).count("SeaBIOS") > 1, 60)
