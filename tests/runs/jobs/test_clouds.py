"""What kinds of clouds ask of the lab."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfci import config
from perfci.runs.ansible.lab_playbooks import cloud_variables, playbooks
from perfci.runs.jobs.clouds import GitBaseMissing, MachinesNeeded, check_cloud
from perfci.runs.jobs.model import Job, NodeChoice, Scenario
from perfci.runs.night.measure import _DEPLOYS

JOB = Job(name="job", scenarios=(Scenario(task="ports", times=1),))


def settings(**environ):
    return config.load(environ={f"PERFCI_{name.upper()}": value for name, value in environ.items()})


@pytest.mark.parametrize(("kind", "nodes"), [("devstack", 1), ("multinode", 3)])
def test_a_lab_without_machines_is_told_so(kind, nodes):
    job = JOB.on(kind).model_copy(update={"nodes": NodeChoice(count=nodes)})
    said = f"the cloud {kind} needs machines behind BMCs, and the lab embedded has none"
    with pytest.raises(MachinesNeeded, match=said) as caught:
        check_cloud(job, settings(git_base="/srv/git"), has_machines=False)
    assert f"perfci virtual up --nodes {nodes}" in caught.value.advice


def test_devstack_needs_to_come_from_somewhere():
    with pytest.raises(GitBaseMissing):
        check_cloud(JOB.on("devstack"), settings(), has_machines=True)
    check_cloud(JOB.on("devstack"), settings(git_base="/srv/git"), has_machines=True)


def test_other_clouds_need_neither():
    check_cloud(JOB, settings(), has_machines=False)


def test_playbooks_are_told_where_devstack_comes_from_and_what_to_deploy():
    assert playbooks(settings(git_base="/srv/git")).variables["perfci_git_base"] == "/srv/git"
    assert "perfci_git_base" not in playbooks(settings()).variables
    kind = cloud_variables(JOB.on("devstack"), Path("/srv"))["cloud_kind"]
    (playbook,) = _DEPLOYS[kind]
    assert (Path(__file__).parents[3] / "playbooks" / f"{playbook}.yml").exists()
