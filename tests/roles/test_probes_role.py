"""The role `probes`, with folders of this machine as three nodes: who may do what where, and what Rally is told."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
import yaml
from programs import needs
from role_plays import LOCAL
from role_plays import play as run_play

pytestmark = [
    pytest.mark.slow,
    needs("ovs-vsctl", "ip", "ethtool", "ping", "iperf3", "ss", "sysctl", "which", "ssh-keygen"),
]
ROOT = Path(__file__).parents[2]
NODES = {"node-1": "192.0.2.1", "node-2": "192.0.2.2", "node-3": "192.0.2.3"}
GROUPS = {"cloud_network": ["node-1"], "cloud_compute": ["node-2", "node-3"], "cloud_load": ["node-3"]}


@pytest.fixture
def play(tmp_path: Path):
    def inventory() -> dict:
        hosts = {}
        for name, address in NODES.items():
            folder = tmp_path / name
            (folder / "state").mkdir(parents=True, exist_ok=True)
            (folder / "host_key.pub").write_text(f"ssh-ed25519 AAAA{name} root@somewhere\n")
            hosts[name] = {
                "provision_address": address,
                "perfci_state_dir": str(folder / "state"),
                "probes_host_key": str(folder / "host_key.pub"),
                "probes_authorized_keys": str(folder / "ssh" / "authorized_keys"),
            }
        children = {group: {"hosts": {name: {} for name in names}} for group, names in GROUPS.items()}
        return {"cloud": {"hosts": hosts, "vars": LOCAL, "children": children}}

    def run() -> str:
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory()))
        done = run_play(tmp_path, tmp_path / "hosts.yml", gather_facts=False, roles=["probes"])
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_rallys_node_may_start_probes_and_nothing_else(play, tmp_path: Path) -> None:
    play()
    key = tmp_path / "node-3" / "state" / "probes" / "key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    public = key.with_name("key.pub").read_text().strip()
    for name in NODES:
        (line,) = (tmp_path / name / "ssh" / "authorized_keys").read_text().splitlines()
        program = f"{tmp_path}/{name}/state/probes/probe.py"
        assert line == f'restrict,command="/usr/bin/python3 {program} --bridge=br-int" {public}'
        assert Path(program).read_text() == (ROOT / "roles" / "probes" / "files" / "probe.py").read_text()
    # Again changes nothing: the same key, and no second line.
    assert "changed=0" in play()


def test_rally_is_told_where_probes_can_be_and_whom_to_trust(play, tmp_path: Path) -> None:
    play()
    folder = tmp_path / "node-3" / "state" / "probes"
    places = json.loads((folder / "places.json").read_text())
    assert [one["name"] for one in places["computes"]] == ["node-2", "node-3"]
    away, here = (one["command"] for one in places["computes"])
    assert (away[0], away[-1]) == ("ssh", "root@192.0.2.2")
    assert f"-oUserKnownHostsFile={folder}/known_hosts" in away
    assert "-oStrictHostKeyChecking=yes" in away
    assert here[:2] == ["/usr/bin/python3", f"{folder}/probe.py"]
    assert (places["outside"]["name"], places["outside"]["address"]) == ("node-1", "203.0.113.1")
    assert (folder / "known_hosts").read_text().splitlines() == [
        f"{address} ssh-ed25519 AAAA{name} root@somewhere" for name, address in NODES.items()
    ]
    assert not (tmp_path / "node-2" / "state" / "probes" / "places.json").exists()
