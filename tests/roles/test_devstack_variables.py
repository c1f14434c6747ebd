"""What the controller and the sub-nodes of a cloud by devstack are told: by the parts, the groups' variables, and the role."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from role_plays import LOCAL
from role_plays import play as run_play

from perfci.runs.jobs.node_roles import assign_devstack

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
NODES = {f"node-{number}": f"192.0.2.{number}" for number in (1, 2, 3)}
NAMES = (
    "devstack_address",
    "devstack_controller_address",
    "devstack_is_subnode",
    "devstack_enabled",
    "devstack_computes",
    "devstack_all_computes",
    "devstack_all_agents",
    "cloud_parts",
    "cloud_has_rally",
    "canary_python",
    "canary_mariadb",
    "canary_rabbitmq",
    "counters_mariadb",
    "fingerprint_spread",
)


def play(folder, nodes, parts=None):
    """Tell what each node is told; the folder gets NODE.json, and NODE/, the state folder of each."""
    inventory = folder / "inventory"
    groups = inventory / "group_vars"
    groups.mkdir(parents=True)
    (groups / "all.yml").symlink_to(ROOT / "inventory/embedded/group_vars/all.yml")
    for group in ("cloud_several", "cloud_multinode", "cloud_devstack"):
        (groups / f"{group}.yml").symlink_to(ROOT / f"playbooks/group_vars/{group}.yml")
    local = {
        **LOCAL,
        "perfci_state_dir": f"{folder}/{{{{ inventory_hostname }}}}",
    }
    hosts = {name: {"provision_address": NODES[name], **local} for name in nodes}
    (inventory / "hosts.yml").write_text(yaml.safe_dump({"cloud": {"hosts": hosts}}))
    if parts is not None:
        (inventory / "parts.yml").write_text(yaml.safe_dump(parts.inventory()))
    variables = ", ".join(f"'{name}': {name} | default(none)" for name in NAMES)
    told = f"{{{{ {{{variables}, 'password': secrets_result.secrets.rabbitmq_openstack}} | to_json }}}}"
    tasks = [
        {"name": "Make", "ansible.builtin.import_role": {"name": "secrets"}},
        # For its variables alone.
        {
            "name": "Know",
            "ansible.builtin.import_role": {"name": "devstack", "tasks_from": "collect"},
            "when": False,
        },
        {
            "name": "Know more",
            "ansible.builtin.import_role": {"name": "fingerprint", "tasks_from": "run"},
            "when": False,
        },
        {
            "name": "Read",
            "ansible.builtin.include_vars": str(ROOT / "playbooks/vars/devstack.yml"),
        },
        {
            "name": "Tell",
            "ansible.builtin.copy": {
                "content": told,
                "dest": f"{folder}/{{{{ inventory_hostname }}}}.json",
                "mode": "0600",
            },
        },
    ]
    done = run_play(folder, inventory, tasks=tasks)
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in nodes}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("devstack")


@pytest.fixture(scope="module")
def told(folder):
    return play(folder, NODES, assign_devstack(NODES, computes=5))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return play(tmp_path_factory.mktemp("alone"), ["node-1"])["node-1"]


def test_everything_is_at_the_controller(told):
    assert {one["devstack_controller_address"] for one in told.values()} == {NODES["node-1"]}
    assert {name: one["devstack_address"] for name, one in told.items()} == NODES
    assert [one["devstack_is_subnode"] for one in told.values()] == [False, True, True]
    assert "n-cpu" not in told["node-1"]["devstack_enabled"]
    assert told["node-3"]["devstack_enabled"] == ["n-cpu", "q-agt", "placement-client"]


def test_computes_are_shared_and_waited_for_together(told):
    assert [int(told[name]["devstack_computes"]) for name in ("node-2", "node-3")] == [3, 2]
    assert [one["devstack_all_computes"] for one in told.values()] == [5] * 3
    assert told["node-1"]["devstack_all_agents"] == 5 + 3 + 2, (
        "pretend ones; Open vSwitch, L3 and DHCP on the controller; Open vSwitch on two sub-nodes"
    )


def test_secrets_are_those_of_the_controller(told, folder):
    assert len({one["password"] for one in told.values()}) == 1
    assert [(folder / name / "secrets").exists() for name in NODES] == [True, False, False]


def test_only_the_controller_has_rally_and_a_database_to_ask(told):
    for name, one in told.items():
        on_controller = name == "node-1"
        assert one["cloud_has_rally"] is on_controller
        assert one["canary_python"].endswith("rally/venv/bin/python") is on_controller
        for asked in ("canary_mariadb", "canary_rabbitmq", "counters_mariadb"):
            assert bool(one[asked]) is on_controller


def test_the_environment_says_who_plays_what_on_several_nodes_alone(told, alone):
    assert told["node-1"]["fingerprint_spread"] == {
        "parts": {
            "node-1": ["controller", "network", "load"],
            "node-2": ["compute"],
            "node-3": ["compute"],
        },
        "fake_computes": {"node-2": 3, "node-3": 2},
    }
    assert alone["fingerprint_spread"] == {}


def test_a_node_that_is_alone_is_everything(alone):
    assert alone["devstack_is_subnode"] is False
    assert "n-cpu" in alone["devstack_enabled"]
    assert (alone["devstack_all_computes"], alone["devstack_all_agents"]) == (10, 13)
    assert (alone["canary_mariadb"], alone["canary_rabbitmq"], alone["counters_mariadb"]) == (
        "127.0.0.1:3306",
        "127.0.0.1:5672",
        "127.0.0.1:3306",
    )
    assert alone["devstack_controller_address"] == NODES["node-1"]
