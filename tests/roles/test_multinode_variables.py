"""What each machine of a cloud on several is told: the inventory of the parts, the group's variables, and the roles' files."""

from __future__ import annotations

import json
import subprocess
from configparser import RawConfigParser
from pathlib import Path

import pytest
import yaml
from role_plays import LOCAL
from role_plays import play as run_play

from perfci.runs.jobs.node_roles import assign

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
NODES = {f"node-{number}": f"192.0.2.{number}" for number in (1, 2, 3)}
NAMES = (
    "perfci_hosts",
    "perfci_bind_address",
    "secrets_node",
    "preflight_ports",
    "smoke_computes",
    "smoke_agents",
    "smoke_network_mtu",
    "canary_python",
    "canary_mariadb",
    "counters_mariadb",
    "fake_compute_prefix",
    "fingerprint_spread",
    "packages_services",
    "fingerprint_packages",
)


def role(name, verb):
    return {"name": f"{name} {verb}", "ansible.builtin.import_role": {"name": name, "tasks_from": verb}}


def for_(part, task):
    return {**task, "when": f"'{part}' in cloud_parts"}


def of_networks(task):
    return {**task, "when": "cloud_has_agents"}


def tell(folder, parts, more_tasks=(), told_too="", **more):
    """Configure the machines; `more` are variables of all of them, `told_too` more entries of a dictionary.

    The folder has NODE.json (variables), and NODE/ (the state folder of each machine, with its configuration).
    """
    inventory = folder / "inventory"
    (inventory / "group_vars").mkdir(parents=True)
    (inventory / "group_vars" / "all.yml").symlink_to(ROOT / "inventory/embedded/group_vars/all.yml")
    for group in ("cloud_several", "cloud_multinode"):
        (inventory / "group_vars" / f"{group}.yml").symlink_to(ROOT / f"playbooks/group_vars/{group}.yml")
    local = {
        **LOCAL,
        "openvswitch_in_effect": "netdev",
        "tunnel_mtu": 9000,
        "perfci_state_dir": f"{folder}/{{{{ inventory_hostname }}}}",
        "openstack_code_result": {"venv": "/venv", "key": "k"},
        **more,
    }
    hosts = {name: {"provision_address": address, **local} for name, address in NODES.items()}
    (inventory / "hosts.yml").write_text(yaml.safe_dump({"cloud": {"hosts": hosts}}))
    (inventory / "parts.yml").write_text(yaml.safe_dump(parts.inventory()))
    variables = ", ".join(f"'{name}': {name} | default(none)" for name in NAMES)
    tasks = [
        role("secrets", "config"),
        for_("controller", role("neutron", "config")),
        role("nova", "config"),
        {**role("openvswitch", "start"), "when": False},
        of_networks(role("neutron_agents", "config")),
        *more_tasks,
        {
            "name": "Tell",
            "ansible.builtin.copy": {
                "content": f"{{{{ {{{variables}, 'units': neutron_agents_units{told_too}}} | to_json }}}}",
                "dest": f"{folder}/{{{{ inventory_hostname }}}}.json",
                "mode": "0600",
            },
        },
    ]
    done = run_play(folder, inventory, tasks=tasks)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The machines of a cloud whose hypervisors pretend."""
    return tell(tmp_path_factory.mktemp("multinode"), assign(NODES, computes=5))


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The machines of a cloud whose computes run servers; what is outside of their state folders is told."""
    files = {
        name: f"{ROOT}/roles/libvirt/templates/{name}.j2" for name in ("qemu.conf", "qemu-system-x86_64")
    }
    contents = ", ".join(
        f"'{name}': lookup('ansible.builtin.template', '{file}')" for name, file in files.items()
    )
    return tell(
        tmp_path_factory.mktemp("libvirt"),
        assign(NODES, computes=None),
        [
            {**role("service", "start"), "when": False},
            {**role("libvirt", "start"), "when": False},
            {**role("nova_compute", "config"), "when": "cloud_has_libvirt"},
        ],
        f", 'compute': libvirt_units + nova_compute_units, {contents}",
        cloud_virt="libvirt",
        libvirt_in_effect="qemu",
        openvswitch_in_effect="system",
        openvswitch_offloads_in_effect=["tx-udp_tnl-segmentation"],
    )


@pytest.fixture(scope="module")
def distributed(tmp_path_factory):
    """The machines of a cloud whose computes route."""
    folder = tmp_path_factory.mktemp("distributed")
    return tell(folder, assign(NODES, computes=5), cloud_distributed_routers=True)


def variables(told, node):
    return json.loads((told / f"{node}.json").read_text())


def ini(path):
    parser = RawConfigParser(strict=False, allow_no_value=True)
    parser.read_string(path.read_text())
    return parser


def test_services_are_on_the_controller_and_listen_on_their_own_address(told):
    for node, address in NODES.items():
        found = variables(told, node)
        assert set(found["perfci_hosts"].values()) == {NODES["node-1"]}
        assert found["perfci_bind_address"] == address
        assert found["secrets_node"] == "node-1"
        assert bool(found["preflight_ports"]) is (node == "node-1")


def test_only_the_controller_asks_its_database(told):
    for node in NODES:
        found = variables(told, node)
        assert bool(found["canary_mariadb"]) is bool(found["counters_mariadb"]) is (node == "node-1")
    pythons = [variables(told, node)["canary_python"] for node in NODES]
    assert [path.endswith("rally/venv/bin/python") for path in pythons] == [True, False, True]


def test_what_is_waited_for_is_the_whole_cloud(told):
    found = variables(told, "node-1")
    assert int(found["smoke_computes"]) == 5
    assert int(found["smoke_agents"]) == 5 + 3 + 2, (
        "pretend ones, Open vSwitch on three nodes, L3 and DHCP on one"
    )
    assert int(found["smoke_network_mtu"]) == 8950
    assert variables(told, "node-2")["fake_compute_prefix"] == "fake-node-2"


def test_the_environment_says_who_plays_what(told):
    assert variables(told, "node-1")["fingerprint_spread"] == {
        "parts": {
            "node-1": ["controller", "network"],
            "node-2": ["compute"],
            "node-3": ["compute", "load"],
        },
        "fake_computes": {"node-2": 3, "node-3": 2},
        "network_agents": ["openvswitch", "l3", "dhcp"],
        "datapath": "netdev",
        "tunnel_mtu": 9000,
    }


def test_secrets_are_the_same_everywhere_and_kept_on_one_machine(told):
    assert [(told / node / "secrets").exists() for node in NODES] == [True, False, False]
    password = (told / "node-1/secrets/rabbitmq_openstack").read_text().strip()
    for node, address in NODES.items():
        text = ini(told / node / "etc/neutron-agents/neutron.conf").get("DEFAULT", "transport_url")
        assert text == f"rabbit://openstack:{password}@{NODES['node-1']}:17672/", address


def test_a_compute_has_no_way_into_a_database(told):
    passwords = [path.read_text().strip() for path in (told / "node-1/secrets").glob("mariadb_*")]
    for node in ("node-2", "node-3"):
        for file in (told / node / "etc").rglob("*"):
            text = file.read_text() if file.is_file() else ""
            assert not [one for one in passwords if one in text], file
    assert ini(told / "node-1/etc/nova/nova.conf").has_section("api_database")


def test_the_mtu_of_projects_follows_the_tunnels(told):
    assert ini(told / "node-1/etc/neutron/neutron.conf").get("DEFAULT", "global_physnet_mtu") == "9000"
    ml2 = ini(told / "node-1/etc/neutron/ml2_conf.ini")
    assert (ml2.get("ml2", "path_mtu"), ml2.get("ml2", "physical_network_mtus")) == ("9000", "external:1500")
    assert ml2.get("ml2", "mechanism_drivers") == "openvswitch,l2population"


def test_which_agents_run_where(told):
    names = {node: [unit["name"] for unit in variables(told, node)["units"]] for node in NODES}
    assert names == {
        "node-1": ["neutron-openvswitch-agent", "neutron-l3-agent", "neutron-dhcp-agent"],
        "node-2": ["neutron-openvswitch-agent"],
        "node-3": ["neutron-openvswitch-agent"],
    }
    etc = told / "node-1/etc/neutron-agents"
    assert ini(etc / "openvswitch_agent.ini").get("ovs", "bridge_mappings") == "external:br-ex"
    assert ini(etc / "openvswitch_agent.ini").get("ovs", "datapath_type") == "netdev"
    assert ini(etc / "neutron.conf").get("DEFAULT", "ovs_use_veth") == "true"
    compute = ini(told / "node-2/etc/neutron-agents/openvswitch_agent.ini")
    assert compute.get("ovs", "bridge_mappings") == ""
    assert compute.get("ovs", "local_ip") == NODES["node-2"]


def test_each_compute_node_is_one_hypervisor_under_its_own_name(real):
    found = variables(real, "node-1")
    assert int(found["smoke_computes"]) == 2
    assert int(found["smoke_agents"]) == 3 + 2, (
        "nobody pretends: Open vSwitch on three nodes, L3 and DHCP on one"
    )
    for node in ("node-2", "node-3"):
        compute = ini(real / node / "etc/nova/compute.conf")
        agent = ini(real / node / "etc/neutron-agents/neutron.conf")
        assert compute.get("DEFAULT", "host") == agent.get("DEFAULT", "host") == node
        assert compute.get("DEFAULT", "compute_driver") == "libvirt.LibvirtDriver"
        assert compute.get("libvirt", "virt_type") == "qemu"
    assert not (real / "node-1/etc/nova/compute.conf").exists()


def test_servers_wait_for_ports_that_neutron_tells_of(told, real):
    for cloud, waits in ((told, "false"), (real, "true")):
        neutron = ini(cloud / "node-1/etc/neutron/neutron.conf")
        assert neutron.get("DEFAULT", "notify_nova_on_port_status_changes") == waits
    compute = ini(real / "node-2/etc/nova/compute.conf")
    assert compute.get("DEFAULT", "vif_plugging_is_fatal") == "true"
    assert int(compute.get("DEFAULT", "vif_plugging_timeout")) > 0
    assert compute.get("os_vif_ovs", "ovsdb_connection") == "tcp:127.0.0.1:6640"


def test_free_disks_do_not_decide_where_real_servers_run(told, real):
    pretended, run = (ini(cloud / "node-1/etc/nova/nova.conf") for cloud in (told, real))
    assert not pretended.has_option("filter_scheduler", "disk_weight_multiplier")
    assert run.get("filter_scheduler", "disk_weight_multiplier") == "0"
    assert run.get("filter_scheduler", "shuffle_best_same_weighed_hosts") == "true"


def test_nothing_of_nova_compute_needs_sudo(real):
    compute = ini(real / "node-2/etc/nova/compute.conf")
    for section in ("nova_sys_admin", "privsep_osbrick", "vif_plug_ovs_privileged"):
        assert compute.get(section, "helper_command").startswith("/venv/bin/privsep-helper --config-file /")


def test_nova_compute_sees_the_binding_and_nothing_else_of_debian(real):
    units = {unit["name"]: unit for unit in variables(real, "node-2")["compute"]}
    assert set(units) == {"libvirtd", "nova-compute"}
    assert units["nova-compute"]["environment"]["PYTHONPATH"] == f"{real}/node-2/libvirt/python"
    assert units["nova-compute"]["command"][-1] == f"{real}/node-2/etc/nova/compute.conf"


def test_servers_end_with_the_service_and_are_counted(real):
    found = variables(real, "node-2")
    assert "cgroup_controllers = []" in found["qemu.conf"].splitlines()
    path = next(u for u in found["compute"] if u["name"] == "libvirtd")["environment"]["PATH"]
    assert path.split(":")[0] == f"{real}/node-2/libvirt/bin"
    script = found["qemu-system-x86_64"].replace("exec /usr/bin/qemu-system-x86_64", "env; echo")
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, env={})
    assert {f"PERFCI_STATE_DIR={real}/node-2", "PERFCI_SERVICE=qemu"} <= set(done.stdout.splitlines())


def test_what_runs_servers_is_part_of_the_environment(told, real):
    spread = variables(real, "node-1")["fingerprint_spread"]
    assert spread["libvirt"] == {"node-2": "qemu", "node-3": "qemu"}
    assert spread["fake_computes"] == {}
    packages = {"libvirt-daemon", "qemu-system-x86", "python3-libvirt"}
    assert packages <= set(variables(real, "node-1")["fingerprint_packages"])
    assert not packages & set(variables(told, "node-1")["fingerprint_packages"])


def test_what_cards_do_for_tunnels_is_part_of_it_where_the_kernel_switches(told, real):
    assert "tunnel_offloads" not in variables(told, "node-1")["fingerprint_spread"]
    assert variables(real, "node-1")["fingerprint_spread"]["tunnel_offloads"] == {
        key: ["tx-udp_tnl-segmentation"] for key in NODES
    }


def test_only_computes_need_what_runs_servers(told, real):
    needed = {"libvirt-daemon", "qemu-system-x86", "qemu-utils", "python3-libvirt"}
    assert not needed & set(variables(told, "node-2")["packages_services"])
    assert not needed & set(variables(real, "node-1")["packages_services"])
    assert needed <= set(variables(real, "node-2")["packages_services"])


def modes(cloud):
    files = {node: cloud / node / "etc/neutron-agents/l3_agent.ini" for node in NODES}
    return {node: ini(file).get("DEFAULT", "agent_mode") for node, file in files.items() if file.exists()}


def test_routers_are_in_one_place_or_on_every_compute(told, distributed):
    assert modes(told) == {"node-1": "legacy"}
    assert modes(distributed) == {
        "node-1": "dvr_snat",
        "node-2": "dvr_no_external",
        "node-3": "dvr_no_external",
    }
    for cloud, said in ((told, "false"), (distributed, "true")):
        assert ini(cloud / "node-1/etc/neutron/neutron.conf").get("DEFAULT", "router_distributed") == said
        for node in NODES:
            agent = ini(cloud / node / "etc/neutron-agents/openvswitch_agent.ini")
            assert agent.get("agent", "enable_distributed_routing") == said


def test_a_compute_that_routes_has_an_agent_and_what_it_runs(told, distributed):
    names = [unit["name"] for unit in variables(distributed, "node-2")["units"]]
    assert names == ["neutron-openvswitch-agent", "neutron-l3-agent"]
    found = variables(distributed, "node-1")
    assert int(found["smoke_agents"]) == int(variables(told, "node-1")["smoke_agents"]) + 2
    assert found["fingerprint_spread"]["distributed_routers"] is True
    assert "distributed_routers" not in variables(told, "node-1")["fingerprint_spread"]
    assert {"iptables", "conntrack"} <= set(variables(distributed, "node-2")["packages_services"])
