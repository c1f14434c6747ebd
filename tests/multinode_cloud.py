"""A cloud on three nspawn nodes, controller and network beside two computes, for tests to look into."""

from __future__ import annotations

import json
import threading

import pytest
from virtual_labs import until

from perfci.config import load
from perfci.lab.model import Node
from perfci.runs.ansible.lab_playbooks import cloud_parts, cloud_variables, node_playbooks, spread
from perfci.runs.ansible.playbook import PlaybookFailed
from perfci.runs.jobs.load import load_job

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
OUTSIDE = """
import json, sys, openstack
with openstack.connect() as cloud:
    net = cloud.network
    outside = net.create_network(name="outside", is_router_external=True,
                                 provider_network_type="flat", provider_physical_network="external")
    net.create_subnet(name="outside", network_id=outside.id, ip_version=4, cidr="203.0.113.0/24",
                      gateway_ip="203.0.113.1", enable_dhcp=False,
                      allocation_pools=[{"start": "203.0.113.100", "end": "203.0.113.200"}])
    print(json.dumps(outside.id))
"""
ROUTED = """
import json, sys, openstack
outside, distributed, start, *hosts = sys.argv[1:]
with openstack.connect() as cloud:
    net = cloud.network
    group = net.find_security_group("probes")
    router = net.create_router(distributed=distributed == "True", external_gateway_info={"network_id": outside})
    ports = []
    for number, host in enumerate(hosts, int(start)):
        network = net.create_network(name=f"net-{number}")
        subnet = net.create_subnet(network_id=network.id, ip_version=4, cidr=f"10.{number}.0.0/24")
        net.add_interface_to_router(router, subnet_id=subnet.id)
        ports.append(net.create_port(network_id=network.id, binding_host_id=host, device_owner="compute:probe",
                                     security_groups=[group.id]))
    floating = net.create_ip(floating_network_id=outside, port_id=ports[0].id)
    print(json.dumps({"mtu": network.mtu, "floating": floating.floating_ip_address, "ports": [
        {"id": p.id, "mac": p.mac_address, "ip": p.fixed_ips[0]["ip_address"]} for p in ports]}))
"""
STATUS = """
import json, sys, openstack
with openstack.connect() as cloud:
    print(json.dumps([cloud.network.get_port(id).status for id in sys.argv[1:]]))
"""
SEEN = """
import json, openstack
with openstack.connect() as cloud:
    net = cloud.network
    print(json.dumps({
        "agents that do not answer": [f"{a.binary} {a.host}" for a in net.agents() if not a.is_alive],
        "routers": {r.id: [a.host for a in net.routers_hosting_l3_agents(r.id)] for r in net.routers()},
        "ports": [f"{p.device_owner} {p.binding_host_id} {p.binding_vif_type} {p.status} "
                  f"{p.fixed_ips[0]['ip_address']} {p.mac_address}" for p in net.ports() if p.fixed_ips]}))
"""
FLOWS = (
    "ip netns; ovs-vsctl list-ports br-tun; "
    "for n in 20 21 22; do ovs-ofctl dump-flows br-tun table=$n; done | sed 's/.*n_packets/n_packets/'"
)
"""What the network of a node looks like: its routers, its tunnels, and which addresses they lead to."""
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


class Cloud:
    """A cloud that stays up while tests look at it."""

    def __init__(self, environ, inside, **variables):
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
            **variables,
            "perfci_run_dir": str(self.folder),
        }

    def play(self, *names):
        for name in names:
            self.books.run(
                name, log=self.folder / f"{name}.log", limit_seconds=1800, variables=self.variables
            )

    def deploy(self):
        self.play("supplies", "provision", "setup")
        try:
            self.play("deploy")
        except PlaybookFailed as error:
            pytest.fail(f"{error}\nneutron's logs say {self.complaints()}")

    def complaints(self):
        """What neutron's services complained of, by node."""
        command = "grep -h 'ERROR\\|CRITICAL\\|Timeout' /var/lib/perfci/logs/neutron-*.log | tail -n 8 | cut -c 1-300"
        return {name: self.inside.ssh(self.nodes[name], command).stdout for name in NODES}

    def on(self, node, *words, given=None):
        done = self.inside.ssh(self.nodes[node], *words, seconds=110, given=given)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def python(self, script, *words):
        """Run a script with OpenStack's SDK on the controller."""
        place = "/var/lib/perfci"
        command = (
            f"cat > /tmp/script.py && OS_CLIENT_CONFIG_FILE={place}/clouds.yaml OS_CLOUD=perfci "
            f"{place}/venvs/*/bin/python /tmp/script.py {' '.join(words)}"
        )
        return json.loads(self.on(self.parts.controller, command, given=script))

    def plug(self, node, space, port, mtu):
        """Plug a port into the integration bridge of a node, as that of a server would be."""
        gateway = f"{port['ip'].rpartition('.')[0]}.1"
        self.on(node, PLUG.format(space=space, gateway=gateway, tap=f"tap{port['id'][:11]}", mtu=mtu, **port))

    def reaches(self, node, address, **where):
        """Wait until an address answers; where it does not, show what the cloud knows and does."""
        try:
            until(lambda: self.answers(node, address, **where), seconds=240, every=1)
        except AssertionError:
            flows = {name: self.inside.ssh(self.nodes[name], FLOWS).stdout.splitlines() for name in NODES}
            seen = json.dumps({**self.python(SEEN), **flows}, indent=1)
            pytest.fail(
                f"{address} does not answer to {node}: {seen}\nneutron's logs say {self.complaints()}"
            )

    def answers(self, node, address, *, space="", size=56):
        """Tell whether an address answers to packets of this size that must not be taken apart.

        A router's new port has a smaller MTU for a moment. What a kernel was told of that it would believe for
        ten minutes.
        """
        within = f"ip netns exec {space} " if space else ""
        forget = f"{within}ip route flush cache"
        ping = f"{within}ping -c 2 -i 0.2 -W 5 -M do -s {size} {address}"
        return not self.inside.ssh(self.nodes[node], f"{forget}; {ping}", seconds=60).returncode
