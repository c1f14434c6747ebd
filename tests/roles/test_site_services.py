"""What nodes get from the controller, in a network of its own: the time, names, a way out; each can be off, and can fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml
from programs import needs, needs_root
from role_plays import LOCAL, PROJECT

pytestmark = [
    pytest.mark.slow,
    needs_root,  # for a network namespace, and low ports
    needs("chronyd", "dnsmasq", "ip", "nft", "sysctl", "unshare"),
]
ADDRESS, NETWORK = "192.168.241.1", "192.168.241.0/24"
NODES = {"node-1": "192.168.241.11", "node-2": "192.168.241.12"}
PARTS = ("time", "dns", "nat")
SCRIPT = """
set -e
ip link set lo up
ip link add prov type bridge
ip addr add {address}/24 dev prov
ip link set prov up
{commands}
"""


@pytest.fixture
def site(tmp_path):
    """Return a function that runs commands in one network after each other, and returns what each printed."""
    variables = {
        "perfci_state_dir": str(tmp_path),
        "service_manager": "supervisor",
        "service_marks": {},
        "provision_controller_address": ADDRESS,
        "provision_network": NETWORK,
        "site_services_dns_servers": ["192.0.2.1"],
        "site_services_ready_seconds": 5,
        "service_supervisord": str(Path(sys.executable).with_name("supervisord")),
    }
    inventory = {
        "all": {
            "vars": variables,
            "children": {
                "controller": {"hosts": {"controller": LOCAL}},
                "nodes": {"hosts": {name: {"provision_address": address} for name, address in NODES.items()}},
            },
        }
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))

    def run(*commands: str) -> subprocess.CompletedProcess[str]:
        script = SCRIPT.format(address=ADDRESS, commands="\n".join(commands))
        return subprocess.run(
            ["unshare", "--net", "sh", "-c", script],
            cwd=PROJECT,
            env={**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    return run


def role(folder: Path, *wanted: str) -> str:
    """Return the command that brings a site to these parts."""
    parts = json.dumps({f"site_services_{part}": part in wanted for part in PARTS})
    program = Path(sys.executable).with_name("ansible-playbook")
    return f"{program} -i {folder}/hosts.yml {PROJECT}/playbooks/site_services.yml -e '{parts}'"


def test_each_part_answers_and_goes_away_again(site, tmp_path):
    ask = f"python3 {tmp_path}/netboot/site/ask.py"
    done = site(
        role(tmp_path, *PARTS),
        role(tmp_path, *PARTS),
        f"{ask} name {ADDRESS} node-2 {NODES['node-2']}",
        "nft list table ip perfci_site | grep masquerade",
        role(tmp_path),
        f"! {ask} time {ADDRESS}",
        f"! {ask} name {ADDRESS} node-2 {NODES['node-2']}",
        "! nft list table ip perfci_site",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = done.stdout.split("PLAY RECAP")[1:3]
    assert "failed=0" in first
    assert "changed=0" in second, "what is there already is left alone"
    left = [one.info["cmdline"] for one in psutil.process_iter(["cmdline"])]
    assert [line for line in left if any(str(tmp_path) in word for word in line or ())] == []


@pytest.mark.parametrize(
    ("part", "port", "words"),
    [("time", 123, "gives no time"), ("dns", 53, "does not know its nodes")],
)
def test_a_port_that_somebody_else_has_is_told(site, tmp_path, part, port, words):
    holder = (
        "import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
        f"s.bind(('{ADDRESS}', {port})); print('taken', flush=True); time.sleep(170)"
    )
    done = site(
        f'python3 -c "{holder}" > {tmp_path}/holder & holder=$!',
        f"until [ -s {tmp_path}/holder ]; do sleep 0.1; done",
        f"if {role(tmp_path, part)}; then echo it went well; fi",
        role(tmp_path),
        "kill $holder",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert words in " ".join(done.stdout.split())
    assert "it went well" not in done.stdout
