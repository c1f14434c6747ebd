"""A cloud on three machines: controller and network, two computes. Real agents, real tunnels; then a whole night.

The machines are nspawn nodes of the virtual lab, so this needs root; see test_virtual_night.py.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest
import yaml
from virtual_labs import Inside, perfci, project_for_nights, until

from perfci.config import load
from perfci.lab.model import Node
from perfci.lab.virtual.lab import PROGRAMS
from perfci.lab.virtual.plan import Kind, Plan
from perfci.results.archive import read_archive
from perfci.results.leftovers import read_leftovers
from perfci.results.model import TOTAL, Metric
from perfci.runs.job import load_job
from perfci.runs.projects import cloud_parts, cloud_variables, node_playbooks, spread

MISSING = [program for program in PROGRAMS[Kind.NSPAWN] if not shutil.which(program)]
pytestmark = [
    pytest.mark.virtual,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(os.geteuid() != 0, reason="the virtual lab needs root"),
    pytest.mark.skipif(bool(MISSING), reason=f"the virtual lab needs {', '.join(MISSING)}"),
]
NODES = ("node-1", "node-2", "node-3")
TENANT_MTU = 9000 - 50
PAYLOAD = TENANT_MTU - 28
"""Without the headers of IPv4 and ICMP."""
PORTS = """
import json, sys, openstack
with openstack.connect() as cloud:
    network = cloud.network.create_network(name="probes")
    cloud.network.create_subnet(name="probes", network_id=network.id, ip_version=4, cidr="10.77.0.0/24")
    group = cloud.network.create_security_group(name="probes")
    cloud.network.create_security_group_rule(
        security_group_id=group.id, direction="ingress", ethertype="IPv4", protocol="icmp")
    ports = [
        cloud.network.create_port(network_id=network.id, binding_host_id=host, device_owner="compute:probe",
                                  security_groups=[group.id])
        for host in sys.argv[1:]
    ]
    print(json.dumps({"mtu": network.mtu, "segment": network.provider_segmentation_id, "ports": [
        {"id": p.id, "mac": p.mac_address, "ip": p.fixed_ips[0]["ip_address"]} for p in ports]}))
"""
ROUTER = """
import json, sys, openstack
with openstack.connect() as cloud:
    net = cloud.network
    probes, group = net.find_network("probes"), net.find_security_group("probes")
    other = net.create_network(name="other")
    subnet = net.create_subnet(name="other", network_id=other.id, ip_version=4, cidr="10.78.0.0/24")
    outside = net.create_network(name="outside", is_router_external=True,
                                 provider_network_type="flat", provider_physical_network="external")
    net.create_subnet(name="outside", network_id=outside.id, ip_version=4, cidr="203.0.113.0/24",
                      gateway_ip="203.0.113.1", enable_dhcp=False,
                      allocation_pools=[{"start": "203.0.113.100", "end": "203.0.113.200"}])
    router = net.create_router(name="probes", external_gateway_info={"network_id": outside.id})
    for one in (next(net.subnets(network_id=probes.id)), subnet):
        net.add_interface_to_router(router, subnet_id=one.id)
    port = net.create_port(network_id=other.id, binding_host_id=sys.argv[1], device_owner="compute:probe",
                           security_groups=[group.id])
    floating = net.create_ip(floating_network_id=outside.id, port_id=sys.argv[2])
    print(json.dumps({"mtu": other.mtu, "floating": floating.floating_ip_address, "port": {
        "id": port.id, "mac": port.mac_address, "ip": port.fixed_ips[0]["ip_address"]}}))
"""
STATUS = """
import json, sys, openstack
with openstack.connect() as cloud:
    print(json.dumps([cloud.network.get_port(id).status for id in sys.argv[1:]]))
"""
PLUG = """
set -e
ip netns add {space}
ip link add {tap} type veth peer name eth0 netns {space}
ip link set {tap} mtu {mtu} up
ip -n {space} link set lo up
ip -n {space} link set eth0 address {mac} mtu {mtu} up
ip -n {space} address add {ip}/24 dev eth0
ip -n {space} route add default via {gateway}
ip netns exec {space} ethtool --offload eth0 tx off >/dev/null
ovs-vsctl add-port br-int {tap} -- set interface {tap} external_ids:iface-id={id} \
  external_ids:attached-mac={mac} external_ids:iface-status=active
"""


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
    perfci(environ, "clean", "--yes")


class Cloud:
    """A cloud that stays up while tests look at it."""

    def __init__(self, environ, inside):
        self.inside = inside
        self.nodes = {node.name: node for node in inside.plan.nodes}
        settings = load(environ=environ)
        self.job = load_job("multinode", settings.jobs_dir)
        # Not among those of the state folder: the next night would take it for a run that was killed.
        self.folder = settings.state_dir.parent / "runs" / "by-hand"
        self.folder.mkdir(parents=True)
        books = node_playbooks(settings, [Node(name, has_bmc=True) for name in NODES], threading.Event())
        self.parts = cloud_parts(self.job, books)
        self.books = spread(books, self.parts, self.folder)
        self.variables = {
            **cloud_variables(self.job, settings.root_dir),
            "perfci_run_dir": str(self.folder),
        }
        self.returned = False

    def play(self, *names):
        for name in names:
            self.books.run(
                name, log=self.folder / f"{name}.log", limit_seconds=1800, variables=self.variables
            )

    def give_back(self):
        if not self.returned:
            self.play("teardown", "reclaim")
        self.returned = True

    def on(self, node, *words):
        done = self.inside.ssh(self.nodes[node], *words, seconds=110)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def python(self, script, *words):
        """Run a script with OpenStack's SDK on the controller."""
        place = "/var/lib/perfci"
        command = (
            f"cat > /tmp/script.py && OS_CLIENT_CONFIG_FILE={place}/clouds.yaml OS_CLOUD=perfci "
            f"{place}/venvs/*/bin/python /tmp/script.py {' '.join(words)}"
        )
        options = [
            "-F",
            "none",
            "-i",
            self.inside.key,
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=yes",
        ]
        options += ["-o", f"UserKnownHostsFile={self.inside.key.with_name('known_hosts')}"]
        login = f"root@{self.nodes[self.parts.controller].address}"
        done = subprocess.run(
            self.inside.command("ssh", *options, login, command),
            input=script,
            capture_output=True,
            text=True,
            check=True,
            timeout=110,
        )
        return json.loads(done.stdout)

    def plug(self, node, space, port, mtu):
        """Plug a port into the integration bridge of a node, as that of a server would be."""
        gateway = f"{port['ip'].rpartition('.')[0]}.1"
        self.on(node, PLUG.format(space=space, gateway=gateway, tap=f"tap{port['id'][:11]}", mtu=mtu, **port))

    def answers(self, node, address, *, space="", size=56):
        """Tell whether an address answers to packets of this size that must not be taken apart."""
        within = f"ip netns exec {space} " if space else ""
        ping = f"{within}ping -c 2 -i 0.2 -W 5 -M do -s {size} {address}"
        return not self.inside.ssh(self.nodes[node], ping, seconds=60).returncode


@pytest.fixture(scope="module")
def cloud(environ, inside):
    made = Cloud(environ, inside)
    made.play("supplies", "provision", "setup", "deploy")
    yield made
    made.give_back()


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
    assert units["node-2"] == units["node-3"] == network | pretending


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
    until(lambda: cloud.answers("node-2", second, space="probe", size=PAYLOAD), seconds=60, every=1)
    assert not cloud.answers("node-2", second, space="probe", size=PAYLOAD + 1)


def test_routers_carry_full_packets_and_lead_out_and_in(cloud, probes):
    made = cloud.python(ROUTER, "node-3", probes["ports"][0]["id"])
    cloud.plug("node-3", "other", made["port"], made["mtu"])
    for node, address, where in (
        ("node-2", made["port"]["ip"], {"space": "probe", "size": PAYLOAD}),
        ("node-3", "203.0.113.1", {"space": "other"}),
        ("node-1", made["floating"], {}),
    ):
        until(lambda n=node, a=address, w=where: cloud.answers(n, a, **w), seconds=120, every=1)


def test_what_the_security_group_does_not_allow_is_dropped(cloud, probes):
    address = probes["ports"][1]["ip"]
    listen = "ip netns exec probe timeout 60 python3 -m http.server 8080 >/dev/null 2>&1 &"
    connect = "import socket, sys; socket.create_connection((sys.argv[1], 8080), timeout=3)"
    asking = f"ip netns exec probe python3 -c '{connect}' {address}"
    cloud.on("node-3", listen)
    until(lambda: not cloud.inside.ssh(cloud.nodes["node-3"], asking).returncode, seconds=30, every=0.5)
    assert "timed out" in cloud.inside.ssh(cloud.nodes["node-2"], asking).stderr


@pytest.fixture(scope="module")
def run(environ, inside, cloud):
    cloud.give_back()
    return perfci(environ, "run", "multinode")


def test_the_night_ends_well(run):
    code, outcome = run
    assert outcome["failure"] is None
    assert (code, outcome["status"], outcome["valid"], outcome["later"]) == (0, "finished", True, [])


def test_every_machine_was_measured(run):
    folder = Path(run[1]["folder"])
    results = read_archive(folder)
    totals = [m for m in results.measurements if (m.key.action, m.key.metric) == (TOTAL, Metric.SECONDS)]
    assert len(totals) == 5
    assert all(one.failures == 0 for one in totals)
    counted = {m.key.action for m in results.measurements if m.key.metric is Metric.CPU_SECONDS}
    assert {"nova-api", "mariadb", "neutron-openvswitch-agent", "ovs-vswitchd", "nova-compute"} <= counted
    assert any(m.key.metric is Metric.SQL_STATEMENTS for m in results.measurements)
    for node in NODES:
        assert (folder / "counters" / f"{node}.jsonl").exists()
        assert (folder / "canaries" / f"{node}-after.json").exists()
        with tarfile.open(folder / "logs" / f"{node}.tar.gz") as logs:
            assert any(name.endswith("neutron-openvswitch-agent.log") for name in logs.getnames())


def test_the_record_says_who_played_what(run):
    folder = Path(run[1]["folder"])
    facts = json.loads((folder / "run.json").read_text())["environment"]["facts"]
    assert facts["cloud"]["parts"] == {
        "node-1": ["controller", "network"],
        "node-2": ["compute"],
        "node-3": ["compute", "load"],
    }
    assert facts["cloud"]["datapath"] == "netdev"
    assert set(facts["nodes"]) == set(NODES)
    assert (
        "cloud_load"
        in yaml.safe_load((folder / "parts.yml").read_text())["all"]["children"]["cloud_multinode"][
            "children"
        ]
    )


@pytest.fixture(scope="module")
def dataplane(environ, run):  # after that night: the nodes are its
    return perfci(environ, "run", "dataplane")


def test_every_path_of_the_data_plane_carries_packets_and_keeps_out_what_it_must(dataplane):
    code, outcome = dataplane
    assert (code, outcome["failure"], outcome["status"]) == (0, None, "finished")
    results = read_archive(Path(outcome["folder"]))
    totals = [m for m in results.measurements if (m.key.action, m.key.metric) == (TOTAL, Metric.SECONDS)]
    assert [(len(one.values), one.failures) for one in totals if "first_packet" in one.key.scenario] == [
        (10, 0)
    ]
    assert [(len(one.values), one.failures) for one in totals if "first_packet" not in one.key.scenario] == [
        (3, 0)
    ] * 4


def test_first_packet_round_trips_and_throughput_are_series(dataplane):
    found = {(m.key.action, m.key.metric): m for m in read_archive(Path(dataplane[1]["folder"])).measurements}
    assert len(found["dataplane.port_create_to_first_packet", Metric.SECONDS].values) == 10
    assert 0 < found["round trip", Metric.SECONDS].values[0] < 1
    rates = {
        action: m.values for (action, metric), m in found.items() if metric is Metric.MEGABITS_PER_SECOND
    }
    assert set(rates) == {
        f"{path}, {pairs}"
        for path in ("east-west", "east-west routed", "north-south, SNAT", "north-south, floating IP")
        for pairs in ("1 pair", "4 pairs")
    }
    assert all(len(values) == 1 and values[0] > 1 for values in rates.values())


def test_the_data_plane_leaves_nothing_behind(dataplane):
    left = read_leftovers(Path(dataplane[1]["folder"])).values()
    assert [one.found for one in left] == [()] * 5
