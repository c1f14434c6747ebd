"""How the playbooks of a run come to know which node plays which part."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import yaml

from perfci import config
from perfci.lab.errors import NodesOutsideCloud
from perfci.lab.model import Node
from perfci.runs.ansible.lab_playbooks import (
    PARTS_FILE,
    cloud_parts,
    cloud_variables,
    node_playbooks,
    spread,
)
from perfci.runs.jobs.model import Job

SCENARIOS = ({"task": "keystone-authenticate", "times": 1},)


def job(kind, nodes=1, **cloud):
    return Job.model_validate(
        {
            "name": "try",
            "cloud": {"kind": kind, "computes": 5, **cloud},
            "nodes": nodes,
            "scenarios": SCENARIOS,
        }
    )


@pytest.mark.parametrize("kind", ["embedded", "devstack"])
def test_a_cloud_on_one_node_has_no_parts(project, kind):
    books = replace(project.playbooks(), nodes=("node-1",) if kind == "devstack" else ())
    assert cloud_parts(job(kind), books) is None
    assert spread(books, None, project.root) is books
    assert cloud_variables(job(kind), project.root)["fake_compute_count"] == 5


def test_several_nodes_by_devstack_are_a_controller_and_sub_nodes(project):
    books = replace(project.playbooks(), nodes=("node-2", "node-1", "node-3"))
    parts = cloud_parts(job("devstack", 3), books)
    assert (parts.controller, parts.load, parts.computes) == ("node-1", "node-1", {"node-2": 3, "node-3": 2})
    assert "fake_compute_count" not in cloud_variables(job("devstack", 3), project.root)
    real = job("devstack", 3, computes=1, variables={"devstack_virt_driver": "libvirt"})
    assert not cloud_parts(real, books).fake


def test_the_parts_are_kept_with_the_run(project):
    books = replace(project.playbooks(), nodes=("node-2", "node-1", "node-3"))
    parts = cloud_parts(job("multinode", 3), books)
    known = spread(books, parts, project.root)
    assert known.parts == project.root / PARTS_FILE
    assert yaml.safe_load(known.parts.read_text()) == parts.inventory()
    assert "fake_compute_count" not in cloud_variables(job("multinode", 3), project.root)


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        (
            (Node("node-1", has_bmc=True), Node("node-2", has_bmc=True, in_cloud=False)),
            "on node-2, .* has node-1",
        ),
        ((Node("node-1", has_bmc=True, in_cloud=False),), "on node-1, .* has none of the nodes"),
    ],
)
def test_nodes_on_which_no_cloud_would_be_deployed_are_refused(project, nodes, words):
    """Ansible passes over hosts that are in none of a play's groups, and calls that a success."""
    settings = config.load(environ={"PERFCI_ROOT_DIR": str(project.root)})
    with pytest.raises(NodesOutsideCloud, match=words):
        node_playbooks(settings, nodes, threading.Event())
    fine = replace(nodes[0], in_cloud=True)
    assert node_playbooks(settings, [fine], threading.Event()).nodes == ("node-1",)


@pytest.mark.slow
def test_ansible_reads_them_beside_the_inventory_of_the_lab(project):
    group = project.root / "playbooks" / "group_vars"
    group.mkdir()
    (group / "cloud_multinode.yml").write_text("said: \"{{ ' '.join(cloud_parts) }}\"\n")
    project.playbook("deploy", f"ansible.builtin.shell: echo {{{{ said | quote }}}} > {project.root}/said")
    books = replace(project.playbooks(), nodes=("node-0",))
    books = spread(books, cloud_parts(job("multinode"), books), project.root)
    books.run("deploy", log=project.root / "deploy.log", limit_seconds=60)
    assert (project.root / "said").read_text() == "controller network compute load\n"
