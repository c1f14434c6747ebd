"""The data plane's scenarios in Rally's own environment, with real probes on a real Open vSwitch.

Only neutron is made up: it hands out ports, and the bridges switch by themselves. What a security group
keeps out is dropped by a flow.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ovs_machines import Machine, needed, two_machines

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [*needed, pytest.mark.timeout(900)]
RALLY_FILES = Path(__file__).parents[2] / "roles" / "rally" / "files"
DENIED = "priority=100,tcp,tp_dst=5999,actions=drop"

RUN = """
import importlib.util, itertools, json, sys, uuid
sys.path.insert(0, sys.argv[1])
from rally import plugins
plugins.load()
spec = importlib.util.spec_from_file_location("dataplane", sys.argv[1] + "/plugins/dataplane.py")
dataplane = importlib.util.module_from_spec(spec)
spec.loader.exec_module(dataplane)

class Neutron:
    def __init__(self):
        self.numbers = itertools.count(2)
        self.made = []

    def create_network(self, body):
        return {"network": {"id": "net", "mtu": 8950}}

    def create_subnet(self, body):
        return {"subnet": {"cidr": body["subnet"]["cidr"], "gateway_ip": None}}

    def create_security_group(self, body):
        return {"security_group": {"id": "group"}}

    def create_security_group_rule(self, body):
        self.made.append(body["security_group_rule"]["protocol"])

    def create_port(self, body):
        number = next(self.numbers)
        wanted = body["port"]
        self.made.append(wanted["binding:host_id"])
        address = {"ip_address": f"10.101.0.{number}"}
        kind = "binding_failed" if wanted["binding:host_id"] == "node-9" else "ovs"
        self.made.append(identity := str(uuid.uuid4()))
        return {"port": {"id": identity, "mac_address": f"fa:16:3e:00:01:{number:02x}",
                         "fixed_ips": [address], "binding:vif_type": kind}}

    def delete_port(self, port):
        self.made.remove(port)

    def show_port(self, port):
        return {"port": {"status": "ACTIVE"}}

neutron = Neutron()
one = getattr(dataplane, sys.argv[2])({"tenant": {"id": "tenant"}, "task": {"uuid": "0123456789"}, "owner_id": "0123456789"})
one.clients = one.admin_clients = lambda name: neutron
error = None
try:
    one.run(**json.loads(sys.argv[3]))
except Exception as reason:
    error = f"{type(reason).__name__}: {reason}"

def flat(actions):
    for action in actions:
        yield action["name"], action["finished_at"] - action["started_at"]
        yield from flat(action["children"])

print(json.dumps({"error": error, "actions": dict(flat(one.atomic_actions())), "made": neutron.made,
                  "outputs": {o["title"]: o["data"]["rows"] for o in one._output["complete"]}}))
"""


@pytest.fixture(scope="module")
def machines(tmp_path_factory) -> Iterator[tuple[Machine, Machine]]:
    with two_machines(tmp_path_factory.mktemp("ovs")) as both:
        yield both


@pytest.fixture
def state(machines, tmp_path: Path) -> Path:
    """A state folder that says where probes are."""
    places = {"computes": [{"name": one.name, "command": one.probe} for one in machines], "outside": None}
    (tmp_path / "probes").mkdir()
    (tmp_path / "probes" / "places.json").write_text(json.dumps(places))
    return tmp_path


@pytest.fixture
def run(rally_python: Path, state: Path):
    def scenario(name: str, **arguments: object) -> dict:
        command = [str(rally_python), "-c", RUN, str(RALLY_FILES), name, json.dumps(arguments)]
        environment = {**os.environ, "HOME": str(state), "PERFCI_STATE_DIR": str(state)}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return scenario


@pytest.fixture
def denied(machines) -> Iterator[None]:
    for one in machines:
        one.run("ovs-ofctl", "add-flow", f"unix:{one.folder}/br-int.mgmt", DENIED)
    yield
    for one in machines:
        one.run("ovs-ofctl", "del-flows", f"unix:{one.folder}/br-int.mgmt", "tcp,tp_dst=5999")


def nothing_left(machines) -> bool:
    return all(one.namespaces == "" and "tap" not in one.ports for one in machines)


def test_the_first_packet_is_timed_from_the_request_for_the_port(run, machines) -> None:
    found = run("FirstPacket", limit_seconds=30)
    assert found["error"] is None
    actions = found["actions"]
    parts = ["neutron.create_port", "dataplane.plug", "dataplane.wait_for_first_packet"]
    assert list(actions) == ["dataplane.port_create_to_first_packet", *parts]
    assert actions["dataplane.port_create_to_first_packet"] >= sum(actions[part] for part in parts)
    assert found["made"] == ["icmp", "tcp", "node-1", "node-2"]
    assert nothing_left(machines)


def test_a_path_is_checked_and_measured_over_one_pair_and_over_all(run, machines, denied) -> None:
    found = run("EastWest", pairs=2, send_seconds=1, limit_seconds=60)
    assert found["error"] is None
    assert list(found["actions"]) == ["dataplane.reach_all"]
    ((name, seconds),) = found["outputs"]["seconds beside the actions"]
    assert (name, 0 < seconds < 1) == ("round trip", True)
    rates = dict(found["outputs"]["rates"])
    assert list(rates) == ["east-west, 1 pair", "east-west, 2 pairs"]
    assert all(rate > 1 for rate in rates.values())
    assert nothing_left(machines)


def test_a_security_group_that_lets_everything_in_fails_the_iteration(run, machines) -> None:
    found = run("EastWest", pairs=1, send_seconds=1, limit_seconds=30)
    assert found["error"] == "DataPlaneWrong: east-west: the security group lets in TCP port 5999"
    assert nothing_left(machines)


def test_a_cloud_without_probes_says_so(run, state) -> None:
    (state / "probes" / "places.json").unlink()
    assert "no probes on this cloud" in run("FirstPacket")["error"]


def test_one_compute_is_not_enough(run, state) -> None:
    file = state / "probes" / "places.json"
    places = json.loads(file.read_text())
    file.write_text(json.dumps({**places, "computes": places["computes"][:1]}))
    assert run("FirstPacket")["error"] == "NoProbes: two compute nodes are needed"


def test_a_port_that_neutron_cannot_bind_is_told(run, state, machines) -> None:
    file = state / "probes" / "places.json"
    places = json.loads(file.read_text())
    places["computes"][1]["name"] = "node-9"
    file.write_text(json.dumps(places))
    assert "neutron can't bind a port to node-9: binding_failed" in run("FirstPacket")["error"]
    assert nothing_left(machines)
