"""Open vSwitch as the role runs it: really, in user space, in a network namespace of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from programs import needs, needs_root, path_of

pytestmark = [
    pytest.mark.slow,
    needs_root,
    needs("ovs-vswitchd", "ovs-vsctl", "ovsdb-server", "ethtool", "ip", "unshare", "nsenter"),
]
ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PRIVATE = 'mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns && ip link set lo up && exec "$@"'
"""The role removes what neutron's agents left: it must not see this machine's namespaces."""


class Machine:
    """A network namespace with an interface for tunnels, held open by a process that sleeps."""

    def __init__(self, folder):
        self.folder = folder
        self.ethtool = path_of("ethtool")  # before a test puts another into PATH
        self.holder = subprocess.Popen(
            [
                "unshare",
                "--net",
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                PRIVATE,
                "sh",
                "sleep",
                "600",
            ]
        )
        here = Path("/proc/self/ns/net").readlink()
        while Path(f"/proc/{self.holder.pid}/ns/net").readlink() == here:
            assert self.holder.poll() is None
        self.run(
            "ip", "link", "add", "data0", "mtu", "9000", "type", "veth", "peer", "name", "far0", "mtu", "9000"
        )
        self.run("ip", "link", "set", "far0", "up")

    def run(self, *words, check=True, **more):
        inside = ["nsenter", "--target", str(self.holder.pid), "--net", "--mount", *map(str, words)]
        return subprocess.run(inside, check=check, capture_output=True, text=True, timeout=110, **more)

    def vsctl(self, *words):
        return self.run(
            "ovs-vsctl", f"--db=unix:{self.folder}/run/db.sock", "--timeout=20", *words
        ).stdout.strip()

    def play(self, role="openvswitch", verb="main", **variables):
        hosts = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "perfci_state_dir": str(self.folder / "state"),
            "provision_address": "192.0.2.1",
            "service_manager": "supervisor",
            "service_supervisord": str(BIN / "supervisord"),
            "openvswitch_run_dir": str(self.folder / "run"),
            "tunnel_interface": "data0",
            "tunnel_address": "198.18.0.1",
            "openvswitch_tunnel_mtu": 9000,
            "openvswitch_external_bridge": "br-ex",
            **variables,
        }
        (self.folder / "hosts.yml").write_text(yaml.safe_dump({"cloud": {"hosts": {"node-1": hosts}}}))
        task = {"name": "Try", "ansible.builtin.import_role": {"name": role, "tasks_from": verb}}
        (self.folder / "play.yml").write_text(
            yaml.safe_dump([{"name": "Try", "hosts": "cloud", "tasks": [task]}])
        )
        command = [BIN / "ansible-playbook", "-i", self.folder / "hosts.yml", self.folder / "play.yml"]
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.folder / "ansible"),
        }
        return self.run(*command, check=False, env=environment)


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path)
    yield made
    stopped = made.play("service", "stop")
    made.holder.kill()
    made.holder.wait()
    assert stopped.returncode == 0, stopped.stdout


def well(done):
    assert done.returncode == 0, done.stdout + done.stderr


def test_tunnels_end_on_a_bridge_with_room_for_jumbo_frames(machine):
    well(machine.play())
    (end,) = [
        one
        for one in json.loads(machine.run("ip", "-json", "address", "show", "to", "198.18.0.1").stdout)
        if one
    ]
    assert (end["ifname"], end["mtu"]) == ("br-phy", 9000)
    assert machine.vsctl("list-ports", "br-phy") == "data0"
    assert {
        machine.vsctl("get", "bridge", name, "datapath_type") for name in ("br-int", "br-ex", "br-phy")
    } == {"netdev"}
    assert machine.vsctl("get", "bridge", "br-int", "fail_mode") == "secure"


def test_a_deployment_begins_with_nothing_of_the_last(machine):
    well(machine.play())
    machine.vsctl("add-port", "br-int", "far0")
    machine.run("ip", "netns", "add", "qrouter-1f2e")
    machine.run("ip", "netns", "add", "probe-1")
    well(machine.play("service", "stop"))
    well(machine.play())
    assert machine.vsctl("list-ports", "br-int") == ""
    assert machine.run("ip", "netns", "list").stdout.split() == ["probe-1"]


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"tunnel_interface": ""}, "tunnels need an interface of their own"),
        ({"tunnel_address": "nowhere"}, "nowhere"),
        pytest.param(
            {"openvswitch_datapath": "system"},
            "no module openvswitch",
            marks=pytest.mark.skipif(Path("/sys/module/openvswitch").exists(), reason="the kernel has it"),
        ),
    ],
)
def test_what_can_not_work_is_said(machine, variables, said):
    done = machine.play(**variables)
    assert done.returncode != 0
    assert said in done.stdout


def test_an_mtu_that_came_down_is_noticed(machine):
    well(machine.play())
    machine.vsctl("set", "interface", "br-phy", "mtu_request=1500")
    done = machine.play(verb="check", openvswitch_in_effect="netdev")
    assert done.returncode != 0
    assert "br-phy with MTU 1500" in " ".join(done.stdout.split())


@pytest.mark.parametrize(("virtualization", "fails"), [("none", True), ("systemd-nspawn", False)])
def test_a_real_machine_must_have_room_for_neighbours(machine, virtualization, fails):
    """In a namespace there is no such setting, as in a container: of a real machine that is not accepted."""
    done = machine.play(
        verb="tables", openvswitch_detected={"stdout": virtualization}, openvswitch_in_effect="netdev"
    )
    assert (done.returncode != 0) is fails
    assert ("gc_thresh3 could not be set to 65536" in " ".join(done.stdout.split())) is fails


def offloads(machine, **more):
    """Look after the offloads as where the kernel switches; a veth has those of sending, and not that of receiving."""
    machine.run("ip", "address", "add", "198.18.0.1/24", "dev", "data0")
    machine.run(machine.ethtool, "--features", "data0", "tx-udp_tnl-segmentation", "off")
    end = {"stdout": machine.run("ip", "-json", "address", "show", "to", "198.18.0.1").stdout}
    return machine.play(verb="offloads", tunnel_interface="", openvswitch_tunnel_end=end, **more)


def test_a_card_does_what_it_can_for_tunnels(machine):
    well(offloads(machine))
    (features,) = json.loads(machine.run("ethtool", "--json", "--show-features", "data0").stdout)
    assert features["tx-udp_tnl-segmentation"]["active"]
    assert features["rx-udp_tunnel-port-offload"] == {"active": False, "fixed": True, "requested": False}


def test_a_card_that_could_and_does_not_is_told(machine):
    shim = machine.folder / "ethtool"
    shim.write_text('#!/bin/sh\n[ "$1" = --features ] || PATH=/usr/sbin:/sbin exec ethtool "$@"\n')
    shim.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{machine.folder}{os.pathsep}{os.environ['PATH']}")
        done = offloads(machine)
    assert done.returncode != 0
    assert "data0 could do these for tunnels and can't be brought to: tx-udp_tnl-segmentation" in " ".join(
        done.stdout.split()
    )
