"""What people get to work on their nodes: files that real ssh, Ansible and a shell read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from programs import needs

from perfci.lab import access
from perfci.parsing import NotReadable

REACHED = {
    "node-1": {
        "ansible_host": "192.0.2.11",
        "ansible_user": "root",
        "ansible_port": "2222",
        "ansible_ssh_private_key_file": "/keys/with space/id",
        "ansible_ssh_common_args": "-F none -o StrictHostKeyChecking=yes -o UserKnownHostsFile=/x/known -J jump.example.org",
    },
    "node-2": {},
}
CLOUDS = """clouds:
  perfci:
    auth: {auth_url: 'http://192.0.2.11:17500/v3', username: admin, password: "it's; $HOME", project_name: admin,
           user_domain_name: Default, project_domain_name: Default}
    region_name: RegionOne
"""


@needs("ssh")
def test_ssh_reads_its_file(tmp_path):
    file = tmp_path / "config"
    file.write_text(access.ssh_config(REACHED))

    def said(node):
        done = subprocess.run(["ssh", "-G", "-F", file, node], capture_output=True, text=True, check=True)
        return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)

    one = said("node-1")
    assert (one["hostname"], one["port"], one["user"]) == ("192.0.2.11", "2222", "root")
    assert one["identityfile"] == "/keys/with space/id"
    assert one["userknownhostsfile"] == "/x/known"
    assert one["stricthostkeychecking"] in {"yes", "true"}
    assert one["proxyjump"] == "jump.example.org"
    assert said("node-2")["hostname"] == "node-2"


def test_ansible_sees_these_nodes_alone_with_the_parts_of_the_cloud(tmp_path):
    access.write(tmp_path, REACHED, {"cloud_controller": ("node-1",)}, None)
    program = Path(sys.executable).with_name("ansible-inventory")
    done = subprocess.run(
        [program, "--list", "-i", tmp_path / access.INVENTORY], capture_output=True, text=True, check=True
    )
    listed = json.loads(done.stdout)
    assert listed["nodes"]["hosts"] == ["node-1", "node-2"]
    assert listed["cloud_controller"]["hosts"] == ["node-1"]
    assert listed["_meta"]["hostvars"]["node-1"] == REACHED["node-1"]


def test_a_shell_reads_the_openrc_and_nobody_else(tmp_path):
    folder = tmp_path / "access"
    variables = access.write(folder, {}, {}, CLOUDS)
    script = f'. {variables["PERFCI_OPENRC"]}; printf %s "$OS_PASSWORD"'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "it's; $HOME"
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert variables["OS_CLOUD"] == "perfci"
    access.write(folder, {}, {}, CLOUDS)
    assert sorted(file.name for file in folder.iterdir()) == [
        "clouds.yaml",
        "hosts.yml",
        "openrc",
        "ssh_config",
    ]


def test_without_a_cloud_nothing_says_that_there_is_one(tmp_path):
    assert set(access.write(tmp_path, REACHED, {}, None)) == {"PERFCI_SSH_CONFIG", "ANSIBLE_INVENTORY"}


@pytest.mark.parametrize("text", ["", "[", "[" * 5000, "clouds: {perfci: {auth: {}}}", "clouds: 5"])
def test_a_damaged_access_to_a_cloud_is_an_error(tmp_path, text):
    with pytest.raises(NotReadable):
        access.write(tmp_path, REACHED, {}, text)
