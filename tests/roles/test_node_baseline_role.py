"""playbooks/reuse.yml: what is written of nodes that can't be used again, and what the next deployment finds."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from programs import needs
from role_plays import LOCAL, PROJECT, play

pytestmark = pytest.mark.slow


@pytest.fixture
def refusing():
    """A port that is taken and at which nobody listens."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@needs("ssh")
def test_a_node_that_can_not_be_looked_at_differs_and_keeps_no_other_from_being_looked_at(tmp_path, refusing):
    lost = {
        "ansible_connection": "ssh",
        "ansible_host": "127.0.0.1",
        "ansible_port": refusing,
        "ansible_ssh_common_args": "-o ControlMaster=no",
    }
    nodes = {
        "hosts": {"node-1": LOCAL, "node-2": lost},
        "vars": {"perfci_state_dir": str(tmp_path / "state")},
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"nodes": nodes}))
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "mariadb").mkdir()
    record = tmp_path / "differences.json"
    given = {
        "node_baseline_mark": "r1",
        "node_baseline_record": str(record),
        "node_baseline_file": str(tmp_path / "baseline.json"),  # nobody has provisioned this machine
    }
    done = subprocess.run(
        [
            Path(sys.executable).with_name("ansible-playbook"),
            *("-i", tmp_path / "hosts.yml", "-e", json.dumps(given), "playbooks/reuse.yml"),
        ],
        cwd=PROJECT,
        env={**os.environ, "ANSIBLE_HOME": str(tmp_path / "ansible"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    found = json.loads(record.read_text())
    assert found["node-1"] == ["nothing is known of how it was provisioned"]
    (lost_line,) = found["node-2"]
    assert lost_line.startswith("it could not be looked at: ")
    assert "refused" in lost_line
    assert (tmp_path / "state" / "mariadb").is_dir(), "what differs is left as it is"


def test_the_next_deployment_finds_environments_with_code_alone(tmp_path):
    state, beside = tmp_path / "state", tmp_path / "reference"
    for folder in ("venvs/1f2e", "rally/venv", "mariadb/data", ".hidden"):
        (state / folder).mkdir(parents=True)
    (state / "clouds.yaml").write_text("")
    (state / "left").symlink_to(tmp_path)
    (beside / "mariadb").mkdir(parents=True)
    hosts = {"cloud": {"hosts": {"node-1": LOCAL}, "vars": {"perfci_state_dir": str(state)}}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(hosts))
    role = {"ansible.builtin.include_role": {"name": "node_baseline", "tasks_from": "sweep"}}
    done = play(
        tmp_path,
        tmp_path / "hosts.yml",
        gather_facts=False,
        tasks=[{**role, "vars": {"node_baseline_reference": str(beside)}}],
    )
    assert done.returncode == 0, done.stdout
    assert sorted(path.name for path in state.iterdir()) == ["rally", "venvs"]
    assert (state / "venvs" / "1f2e").is_dir()
    assert list(beside.iterdir()) == []
    assert (tmp_path / "hosts.yml").exists(), "a link is removed, and not what it leads to"
