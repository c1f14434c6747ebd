"""Nodes with a real systemd: installed over the network, reached by SSH, rebooted, spoilt, killed."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from programs import needs, needs_root
from virtual_labs import (
    NO_TRACES,
    Inside,
    NetworkBoot,
    node_image,
    plan,
    project_in,
    traces,
    until,
)

from perfci.lab.virtual import lab
from perfci.lab.virtual.plan import MachineKind

pytestmark = [
    pytest.mark.slow,
    needs_root,
    needs(*lab.PROGRAMS[MachineKind.NSPAWN], "ipmitool", "ssh", "ssh-keygen"),
    pytest.mark.timeout(1800),  # the first of them builds the image
]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A lab of two nodes that are off, with a controller's DHCP and HTTP."""
    folder = tmp_path_factory.mktemp("nspawn")
    image = node_image()
    wanted = plan(2, state=folder / "state", project=project_in(folder))
    lab.up(wanted)
    try:
        with NetworkBoot(wanted, image) as network:
            yield network
    finally:
        lab.down(wanted.state_dir, wanted.project)
    assert traces(wanted.site) == NO_TRACES


def node_of(site, number):
    return next(one for one in lab.status(site.plan.state_dir)["nodes"] if one["name"] == f"node-{number}")


def console(site, node):
    return site.inside.folder.node(node.name).console.read_text(errors="replace")


def answers(site, node):
    """Tell whether the node's SSH answers with its host key."""
    return site.inside.ssh(node, "true").returncode == 0


def install(site, node):
    """Install a node from off, and wait until it is up."""
    site.order(node)
    site.inside.bmc(node, "chassis", "bootdev", "pxe")
    site.inside.bmc(node, "chassis", "power", "on")
    until(lambda: "deployed" in site.steps(node), 240)
    until(lambda: answers(site, node), 60)


@pytest.fixture
def installed(site):
    """A node that runs its system; the first test that wants it installs it."""
    node = site.plan.nodes[0]
    if not os.path.lexists(site.inside.folder.node(node.name).disk / "sbin/init"):
        install(site, node)
    elif node_of(site, 1)["power"] == "off":
        site.inside.bmc(node, "chassis", "power", "on")
    until(lambda: answers(site, node), 60)
    return node


def boot_id(site, node):
    return site.inside.ssh(node, "cat", "/proc/sys/kernel/random/boot_id").stdout


def test_from_off_over_the_network_to_a_system_that_is_well(site, installed):
    assert site.steps(installed) == ["ramdisk", "disk", "image", "verify", "inject", "deployed"]
    assert node_of(site, 1)["next_boot"] == "default"
    assert site.inside.ssh(installed, "hostname").stdout.strip() == "node-1"
    state = site.inside.ssh(installed, "systemctl", "is-system-running", "--wait", seconds=90).stdout.strip()
    assert state == "running", site.inside.ssh(installed, "systemctl", "--failed").stdout
    assert "Reached target" in console(site, installed)


def test_a_node_has_room_for_a_cloud(installed, site):
    """Processes, files, shared memory and temporary files as on a machine of its own."""
    command = (
        "for n in $(seq 300); do sleep 30 & done; jobs | wc -l;"
        " ulimit -Hn; df --output=size -m /dev/shm | tail -n 1; stat -f -c %T /tmp; kill $(jobs -p)"
    )
    jobs, files, shared, temporary = site.inside.ssh(installed, command).stdout.split()
    assert int(jobs) == 300
    assert int(files) >= min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 16384)  # no less than here
    assert int(shared) > 256
    assert temporary != "tmpfs"


def test_nodes_have_no_way_out(installed, site):
    routes = site.inside.ssh(installed, "ip", "-4", "route").stdout
    assert "192.168.240.0/24" in routes
    assert "default" not in routes


def test_a_reboot_from_inside_keeps_the_power_on(site, installed):
    before = boot_id(site, installed)
    site.inside.ssh(installed, "systemctl", "reboot")
    until(lambda: boot_id(site, installed) not in {before, ""}, 90)
    assert node_of(site, 1)["power"] == "on"


def test_a_one_shot_order_holds_for_one_reboot_from_inside(site, installed):
    steps = len(site.steps(installed))
    site.order(installed)
    site.inside.bmc(installed, "chassis", "bootdev", "pxe")
    site.inside.ssh(installed, "systemctl", "reboot")
    until(lambda: site.steps(installed)[steps:].count("deployed") == 1, 240)
    until(lambda: answers(site, installed), 60)
    assert node_of(site, 1)["next_boot"] == "default"


def test_power_off_from_inside_by_the_button_and_by_the_plug(site, installed):
    site.inside.ssh(installed, "systemctl", "poweroff")
    until(lambda: site.inside.bmc(installed, "power", "status") == "Chassis Power is off", 60)
    site.inside.bmc(installed, "power", "on")
    until(lambda: answers(site, installed), 60)
    site.inside.bmc(installed, "power", "soft")
    until(lambda: node_of(site, 1)["power"] == "off", 60)
    assert "Reached target" in console(site, installed)
    site.inside.bmc(installed, "power", "on")
    until(lambda: answers(site, installed), 60)
    site.inside.bmc(installed, "power", "off")
    assert node_of(site, 1)["power"] == "off"


def test_a_node_without_a_system_waits_for_one(site):
    node = site.plan.nodes[1]
    site.inside.bmc(node, "chassis", "bootdev", "disk")
    site.inside.bmc(node, "power", "on")
    until(lambda: node_of(site, 2)["stage"] == "no boot device")
    site.inside.bmc(node, "power", "soft")
    until(lambda: node_of(site, 2)["power"] == "off")


def spoilt(site, fault):
    """Let node 2 boot from the network with a fault."""
    node = site.plan.nodes[1]
    site.order(node)
    lab.set_faults(site.plan.state_dir, node.name, [fault])
    site.inside.bmc(node, "chassis", "bootdev", "pxe")
    site.inside.bmc(node, "power", "on")
    return node


@pytest.fixture
def sound(site):
    """End the faults of node 2, switched off, after the test."""
    yield
    node = site.plan.nodes[1]
    lab.clear_faults(site.plan.state_dir, node.name)
    site.inside.bmc(node, "power", "off")


@pytest.mark.usefixtures("sound")
def test_a_node_that_dhcp_does_not_know(site):
    node = spoilt(site, "pxe_nak")
    until(lambda: node_of(site, 2)["stage"] == "no boot device")
    assert "no answer to DHCP" in console(site, node)
    assert site.steps(node) == []


@pytest.mark.usefixtures("sound")
def test_a_disk_that_is_full(site):
    node = spoilt(site, "disk_full")
    until(lambda: node_of(site, 2)["power"] == "off", 120)
    assert site.steps(node)[-1] == "failed"
    assert "No space left" in console(site, node)


@pytest.mark.usefixtures("sound")
def test_a_node_that_dies_while_it_is_deployed(site):
    node = site.plan.nodes[1]
    before = len(site.steps(node))
    spoilt(site, "dies_in_deploy")
    until(lambda: node_of(site, 2)["power"] == "off", 120)
    assert site.steps(node)[before:][-1] == "image"
    lab.clear_faults(site.plan.state_dir, node.name)
    install(site, node)


@pytest.mark.usefixtures("sound")
def test_a_reboot_loop(site):
    node = spoilt(site, "reboot_loop")
    until(lambda: console(site, node).count("[firmware] DHCP") > 3, 60)
    assert node_of(site, 2)["power"] == "on"


def kill_process_of(wanted):
    """Kill a lab's own process, and nothing else."""
    for pid in traces(wanted.site)["processes"]:
        with contextlib.suppress(psutil.NoSuchProcess):
            if "perfci.lab.virtual.daemon" in psutil.Process(int(pid)).cmdline():
                psutil.Process(int(pid)).kill()


@pytest.fixture
def wanted(tmp_path):
    """A plan of another lab; nothing of it is left after the test."""
    one = plan(2, state=tmp_path / "s", project=project_in(tmp_path))
    lab.up(one)
    yield one
    lab.down(one.state_dir, one.project)
    assert traces(one.site) == NO_TRACES
    assert list(one.state_dir.iterdir()) == []


def test_killed_with_a_system_running(wanted, site, installed):
    """A lab whose process is killed leaves a running system; the next command removes that."""
    other = Inside(wanted)
    files = other.folder.node("node-1")
    subprocess.run(["cp", "--archive", site.inside.folder.node(installed.name).disk, files.disk], check=True)
    other.bmc(wanted.nodes[0], "power", "on")
    until(lambda: "Reached target" in files.console.read_text(errors="replace"))
    kill_process_of(wanted)
    assert traces(wanted.site)["processes"]
    assert lab.sweep(wanted.state_dir, wanted.project)
    assert traces(wanted.site) == NO_TRACES


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_any_moment_of_a_deployment(wanted, seed):
    before = set(Path("/tmp").glob("nspawn-root-*"))  # noqa: S108 - where systemd-nspawn leaves them
    with NetworkBoot(wanted, node_image()) as network:
        for node in wanted.nodes:
            network.order(node)
            network.inside.bmc(node, "chassis", "bootdev", "pxe")
            network.inside.bmc(node, "power", "on")
        time.sleep(random.Random(seed).uniform(0, 5))  # noqa: S311 - the same moments each time
        kill_process_of(wanted)
        if seed % 2:
            assert {node["power"] for node in lab.up(wanted)["nodes"]} == {"off"}
        assert lab.down(wanted.state_dir, wanted.project)
    assert traces(wanted.site) == NO_TRACES
    assert set(Path("/tmp").glob("nspawn-root-*")) == before  # noqa: S108
