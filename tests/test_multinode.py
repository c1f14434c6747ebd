"""A cloud on three machines: controller and network, two computes. Real agents, real tunnels.

The machines are nspawn nodes of the virtual lab, so this needs root. Nights on them: test_virtual_multinode.py.
"""

from __future__ import annotations

import json
import re

import pytest
from multinode_cloud import NODES, OUTSIDE, PAYLOAD, PORTS, ROUTED, STATUS, TENANT_MTU, Cloud
from virtual_labs import Inside, needs_nspawn, perfci, project_for_nights, until

from perfci.lab.virtual.plan import Plan

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), *needs_nspawn]


@pytest.fixture(scope="module")
def environ(tmp_path_factory):
    return {**project_for_nights(tmp_path_factory.mktemp("m")), "PERFCI_LAB": "virtual"}


@pytest.fixture(scope="module")
def inside(environ):
    """The lab's network."""
    code, now = perfci(environ, "virtual", "up", "--nodes", str(len(NODES)), "--kind", "nspawn")
    assert code == 0, now
    yield Inside(Plan.from_dict(now["plan"]))
    perfci(environ, "virtual", "down")
    perfci(environ, "clean", "--yes", "--purge")


@pytest.fixture(scope="module")
def cloud(environ, inside):
    made = Cloud(environ, inside, cloud_distributed_routers=True)
    made.deploy()
    yield made
    made.play("teardown")


@pytest.fixture(scope="module")
def probes(cloud):
    """A port on each compute, plugged in."""
    made = cloud.python(PORTS, *cloud.parts.computes)
    for node, port in zip(cloud.parts.computes, made["ports"], strict=True):
        cloud.plug(node, "probe", port, made["mtu"])
    ids = [port["id"] for port in made["ports"]]
    until(lambda: set(cloud.python(STATUS, *ids)) == {"ACTIVE"}, seconds=90, every=1)
    return made


def test_each_part_runs_on_its_machine(cloud):
    units = {
        name: set(
            re.findall(
                r"perfci-cloud-([\w-]+)\.service", cloud.on(name, "systemctl list-units perfci-cloud-*")
            )
        )
        for name in NODES
    }
    network = {"ovsdb-server", "ovs-vswitchd", "neutron-openvswitch-agent"}
    pretending = {"nova-compute", "fake-agents"}
    assert {"mariadb", "rabbitmq", "memcached", "keystone", "nova-conductor", "neutron-rpc"} < units["node-1"]
    assert network | {"neutron-l3-agent", "neutron-dhcp-agent"} <= units["node-1"]
    assert not units["node-1"] & pretending
    assert units["node-2"] == units["node-3"] == network | pretending | {"neutron-l3-agent"}


def test_secrets_do_not_stand_in_the_command_lines(cloud):
    secrets = cloud.on("node-1", "cat /var/lib/perfci/secrets/*").split()
    assert len(set(secrets)) > 10
    for node in NODES:
        commands = cloud.on(node, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
        assert not [one for one in secrets if one in commands]
    for log in cloud.folder.glob("*.log"):
        text = log.read_text()
        assert not [one for one in secrets if one in text], log


def test_the_tunnels_have_room_for_jumbo_frames(cloud, probes):
    assert probes["mtu"] == TENANT_MTU
    for node in NODES:
        (end,) = [one for one in json.loads(cloud.on(node, "ip -json link show br-phy")) if one]
        assert end["mtu"] == 9000


def test_real_tunnels_join_the_computes(cloud, probes):
    ends = {name: cloud.nodes[name].tunnel_address for name in cloud.parts.computes}
    for node, other in zip(ends, reversed(ends), strict=True):
        found = json.loads(
            cloud.on(node, "ovs-vsctl --format=json --columns=type,options find interface type=vxlan")
        )
        remotes = {dict(options[1])["remote_ip"] for _, options in found["data"]}
        assert ends[other] in remotes
        assert "vxlan" in cloud.on(node, "ovs-vsctl list-ports br-tun")
        responder = cloud.on(node, "ovs-ofctl dump-flows br-tun table=21")
        assert any(port["ip"] in responder for port in probes["ports"]), "ARP is answered where it is asked"


def test_full_packets_go_through_them(cloud, probes):
    second = probes["ports"][1]["ip"]
    cloud.reaches("node-2", second, space="probe", size=PAYLOAD)
    assert not cloud.answers("node-2", second, space="probe", size=PAYLOAD + 1)


@pytest.fixture(scope="module")
def outside(cloud):
    return cloud.python(OUTSIDE)


def routed(cloud, outside, *, distributed, start):
    """Make two networks with a port on each compute and a router between them; return what was made."""
    made = cloud.python(ROUTED, outside, str(distributed), str(start), *cloud.parts.computes)
    for number, (node, port) in enumerate(zip(cloud.parts.computes, made["ports"], strict=True), start):
        cloud.plug(node, f"net-{number}", port, made["mtu"])
    return made


@pytest.fixture(scope="module")
def central(cloud, probes, outside):
    return routed(cloud, outside, distributed=False, start=80)


@pytest.fixture(scope="module")
def distributed(cloud, probes, outside):
    return routed(cloud, outside, distributed=True, start=90)


@pytest.mark.parametrize(("router", "start"), [("central", 80), ("distributed", 90)])
def test_routers_carry_full_packets_and_lead_out_and_in(cloud, request, router, start):
    made = request.getfixturevalue(router)
    other, space = made["ports"][1]["ip"], f"net-{start}"
    cloud.reaches("node-2", other, space=space, size=PAYLOAD)
    cloud.reaches("node-3", "203.0.113.1", space=f"net-{start + 1}")
    cloud.reaches("node-1", made["floating"])


def test_computes_route_themselves_where_routers_are_distributed(cloud, central, distributed):
    near = {"space": "net-90", "address": distributed["ports"][1]["ip"]}
    far = {"space": "net-80", "address": central["ports"][1]["ip"]}
    for path in (near, far):
        cloud.reaches("node-2", size=PAYLOAD, **path)
    cloud.on("node-1", "systemctl stop perfci-cloud-ovs-vswitchd")
    try:
        assert cloud.answers("node-2", size=PAYLOAD, **near)
        assert not cloud.answers("node-2", size=PAYLOAD, **far), "the network node had no part in it"
    finally:
        cloud.on("node-1", "systemctl start perfci-cloud-ovs-vswitchd")
    cloud.reaches("node-2", size=PAYLOAD, **far)


def test_what_the_security_group_does_not_allow_is_dropped(cloud, probes):
    address = probes["ports"][1]["ip"]
    listen = "ip netns exec probe timeout 60 python3 -m http.server 8080 >/dev/null 2>&1 &"
    connect = "import socket, sys; socket.create_connection((sys.argv[1], 8080), timeout=3)"
    asking = f"ip netns exec probe python3 -c '{connect}' {address}"
    cloud.on("node-3", listen)
    until(lambda: not cloud.inside.ssh(cloud.nodes["node-3"], asking).returncode, seconds=30, every=0.5)
    assert "timed out" in cloud.inside.ssh(cloud.nodes["node-2"], asking).stderr
