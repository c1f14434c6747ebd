"""How the playbooks of a run come to know which node plays which part."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from perfci.runs.job import Job
from perfci.runs.projects import PARTS_FILE, cloud_parts, cloud_variables, spread

SCENARIOS = ({"task": "keystone-authenticate", "times": 1},)


def job(kind, nodes=1):
    return Job.model_validate(
        {"name": "try", "cloud": {"kind": kind, "computes": 5}, "nodes": nodes, "scenarios": SCENARIOS}
    )


def test_a_cloud_on_one_node_has_no_parts(project):
    books = project.playbooks()
    assert cloud_parts(job("embedded"), books) is None
    assert spread(books, None, project.root) is books
    assert cloud_variables(job("embedded"), project.root)["fake_compute_count"] == 5


def test_the_parts_are_kept_with_the_run(project):
    books = replace(project.playbooks(), nodes=("node-2", "node-1", "node-3"))
    parts = cloud_parts(job("multinode", 3), books)
    known = spread(books, parts, project.root)
    assert known.parts == project.root / PARTS_FILE
    assert yaml.safe_load(known.parts.read_text()) == parts.inventory()
    assert "fake_compute_count" not in cloud_variables(job("multinode", 3), project.root)


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
