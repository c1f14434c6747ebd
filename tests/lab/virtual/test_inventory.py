"""The inventory of a virtual lab, as Ansible and as perfci read it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from programs import needs
from virtual_labs import PROJECT, plan

from perfci.lab.virtual import inventory
from perfci.lab.virtual.folders import LabFolder
from perfci.lab.virtual.plan import Firmware, MachineKind


@pytest.fixture
def written(tmp_path):
    """A lab's inventory beside the committed group_vars, and its plan."""
    shutil.copytree(
        PROJECT / "inventory" / "virtual" / "group_vars", tmp_path / "inventory/virtual/group_vars"
    )
    shutil.copy(PROJECT / ".gitignore", tmp_path)
    one = plan(2, project=tmp_path, state=tmp_path / "state")
    folder = LabFolder.of(one.state_dir)
    folder.root.mkdir(parents=True)
    folder.bmc_password.write_text("a secret")
    inventory.write(one, folder)
    return one, folder


def test_a_node_has_all_that_playbooks_ask_for(written):
    one, _ = written
    text = yaml.safe_load(inventory.file_of(one.project).read_text())
    assert text["all"]["children"]["nodes"]["hosts"]["node-2"] == {
        "bmc_address": "127.90.0.2",
        "pdu_outlet": "node-2",
        "ansible_host": "192.168.240.12",
        "provision_mac": "52:54:00:00:00:02",
        "provision_address": "192.168.240.12",
        "provision_firmware": "bios",
        "tunnel_interface": "data0",
        "tunnel_address": "198.18.0.12",
        "tunnel_prefix": 16,
        "tunnel_mtu": 9000,
    }
    assert text["all"]["vars"]["provision_controller_address"] == "192.168.240.1"
    assert "a secret" not in inventory.file_of(one.project).read_text()


def test_each_node_says_its_own_firmware():
    mixed = replace(plan(2, kind=MachineKind.QEMU), firmwares=(Firmware.BIOS, Firmware.UEFI))
    hosts = inventory.inventory(mixed, LabFolder.of(Path("/srv/state")))["all"]["children"]["nodes"]["hosts"]
    assert [host["provision_firmware"] for host in hosts.values()] == ["bios", "uefi"]


@pytest.mark.slow
def test_ansible_resolves_every_variable(written):
    one, folder = written
    names = [
        "bmc_password",
        "ansible_ssh_common_args",
        "ansible_control_path_dir",
        "netboot_folder",
        "service_manager",
    ]
    template = "{{ [" + ", ".join(names) + "] | to_json }}"
    command = [
        str(Path(sys.executable).with_name("ansible")),
        "node-1",
        "-i",
        str(one.project / "inventory/virtual"),
    ]
    done = subprocess.run(
        [*command, "-m", "ansible.builtin.debug", "-a", f"msg={template}"],
        env={
            **os.environ,
            "ANSIBLE_STDOUT_CALLBACK": "json",
            "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1",
            "ANSIBLE_NOCOLOR": "1",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    (task,) = json.loads(done.stdout)["plays"][0]["tasks"]
    found = dict(zip(names, json.loads(task["hosts"]["node-1"]["msg"]), strict=True))
    assert found["bmc_password"] == "a secret"
    assert f'UserKnownHostsFile="{folder.root}/ssh/known_hosts"' in found["ansible_ssh_common_args"]
    assert found["ansible_control_path_dir"] == str(folder.root / "cp")
    assert found["netboot_folder"] == str(folder.root / "netboot")
    assert found["service_manager"] == "systemd"


def test_null_nodes_have_a_bmc_and_carry_no_cloud():
    text = inventory.inventory(plan(3, kind=MachineKind.NULL), LabFolder.of(Path("/srv/state")))
    groups = text["all"]["children"]
    assert groups["nodes"]["hosts"]["node-3"] == {"bmc_address": "127.90.0.3", "pdu_outlet": "node-3"}
    assert groups["cloud"] == {"hosts": {}}


def test_erasing_it_leaves_what_somebody_has_added(written):
    one, _ = written
    variables = inventory.file_of(one.project).parent / "host_vars"
    for name in ("node-1/inspected.yml", "node-2/inspected.yml", "node-2/own.yml"):
        (variables / name).parent.mkdir(parents=True, exist_ok=True)
        (variables / name).write_text("---\n")
    for _ in range(2):
        inventory.erase(one.project)
    assert not inventory.file_of(one.project).exists()
    assert [str(file.relative_to(variables)) for file in variables.rglob("*")] == ["node-2", "node-2/own.yml"]


def test_whose_inventory_it_is(written, tmp_path):
    one, folder = written
    assert inventory.owner(one.project) == folder.root
    assert inventory.owner(tmp_path / "elsewhere") is None
    for garbage in ("", "[]", "all: 3", "{", "\0"):
        inventory.file_of(one.project).write_text(garbage)
        assert inventory.owner(one.project) is None


@needs("git")
def test_git_does_not_see_it(written):
    one, _ = written
    subprocess.run(["git", "init", "-q", one.project], check=True)
    command = ["git", "-C", one.project, "check-ignore", "-q", "inventory/virtual/hosts.yml"]
    assert subprocess.run(command, check=False).returncode == 0


def test_whatever_a_virtual_node_says_of_itself_a_real_one_is_shown_how_to(written):
    one, _ = written
    nodes = yaml.safe_load(inventory.file_of(one.project).read_text())["all"]["children"]["nodes"]
    said = set(nodes["hosts"]["node-1"]) | set(nodes["vars"])
    shown = "".join(path.read_text() for path in (PROJECT / "inventory/example").rglob("*.yml"))
    assert {name for name in said if name not in shown} <= {"provision_host_key_file", "bmc_password_file"}
