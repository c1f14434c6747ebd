"""A task that leaves things in a really deployed cloud: they are found, removed and told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from free_ports import port_base
from shared_cache import share_cache

from perfci.config import load
from perfci.results.archive import read_archive
from perfci.results.model import Metric
from perfci.runs.verdicts.lab_services import LabServices

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
REPOSITORY = Path(__file__).parents[1]
JOB = """\
name: untidy
cloud: {kind: embedded, services: [keystone, neutron]}
scenarios:
  - {task: untidy, times: 2}
  - {task: tidy, times: 2}
"""
TASK = """\
version: 2
title: networks
subtasks:
  - title: NeutronNetworks.create_and_list_networks
    workloads:
      - scenario: {NeutronNetworks.create_and_list_networks: {}}
        runner: {constant: {times: {{ times }}, concurrency: {{ concurrency }}}}
        contexts: {users: {tenants: {{ tenants }}, users_per_tenant: {{ users_per_tenant }}}}
"""
HOOK = """\
        hooks:
          - description: leave things behind
            action: {sys_call: "%s %s %s"}
            trigger: {event: {unit: iteration, at: [1]}}
"""
LEAVE = """\
import sys
from openstack.config import OpenStackConfig
from openstack.connection import Connection
with Connection(config=OpenStackConfig(config_files=[sys.argv[1]]).get_one(cloud="perfci")) as cloud:
    project = cloud.identity.create_project(name="c_rally_0a1b2c3d_AbCdEfGh")
    network = cloud.network.create_network(name="forgotten", project_id=project.id)
    subnet = cloud.network.create_subnet(network_id=network.id, ip_version=4, cidr="10.9.0.0/24")
    router = cloud.network.create_router(name="forgotten", project_id=project.id)
    cloud.network.add_interface_to_router(router, subnet_id=subnet.id)
    cloud.network.create_port(network_id=network.id, name="forgotten")
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("untidy")
    project, state = folder / "project", folder / "state"
    jobs = project / "jobs"
    (jobs / "tasks").mkdir(parents=True)
    for name in ("ansible.cfg", "inventory", "playbooks", "plugins", "roles"):
        (project / name).symlink_to(REPOSITORY / name)
    share_cache(state)
    (jobs / "untidy.yml").write_text(JOB)
    (folder / "leave.py").write_text(LEAVE)
    hook = HOOK % (sys.executable, folder / "leave.py", state / "clouds.yaml")
    (jobs / "tasks" / "untidy.yml.j2").write_text(TASK + hook)
    (jobs / "tasks" / "tidy.yml.j2").write_text(TASK.replace("title: networks", "title: tidy networks"))
    environ = {
        "PERFCI_ROOT_DIR": str(project),
        "PERFCI_STATE_DIR": str(state),
        "PERFCI_PORT_BASE": str(port_base()),
        "PERFCI_LIMITS__FOREIGN_CPU_SHARE": "1",
        "PERFCI_LIMITS__STEAL_SHARE": "1",
    }
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PERFCI_")}

    def perfci(*arguments):
        command = [sys.executable, "-m", "perfci", *arguments, "--json"]
        done = subprocess.run(
            command, env={**inherited, **environ}, cwd=project, capture_output=True, text=True, check=False
        )
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    yield perfci("run", "untidy"), LabServices(load(environ=environ))
    assert perfci("clean", "--yes", "--purge")["ended"] == [], "the night left something running"


def test_what_was_left_is_found_and_removed(run):
    outcome, _ = run
    assert outcome["failure"] is None
    untidy, tidy = json.loads((Path(outcome["folder"]) / "leftovers.json").read_text())
    kinds = sorted(one["kind"] for one in untidy["found"])
    # Two ports: the router's and the forgotten one; the new project has a default security group of its own.
    assert kinds == ["network", "port", "port", "project", "router", "security group"]
    assert [one["error"] for one in untidy["found"]] == [""] * 6
    # Had it not been removed, it would still be there.
    assert (tidy["found"], tidy["error"]) == ([], None)


def test_it_is_a_series_and_stands_on_the_page(run):
    outcome, controller = run
    results = read_archive(Path(outcome["folder"]))
    (found,) = [m for m in results.measurements if m.key.metric is Metric.LEFTOVERS]
    # Both tasks run the same scenario: the larger heap counts.
    assert found.values == (6.0,)
    page = (controller.state.site / "runs" / f"{outcome['run']}.html").read_text()
    assert "2\u00a0ports" in page
    assert "1\u00a0router" in page
