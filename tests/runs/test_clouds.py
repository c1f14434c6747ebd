"""What kinds of clouds ask of the lab."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfci import config
from perfci.runs.clouds import FreshNodeNeeded, GitBaseMissing, check_cloud
from perfci.runs.job import Job, Scenario
from perfci.runs.measure import _DEPLOYS
from perfci.runs.playbook import Playbooks
from perfci.runs.projects import cloud_variables, playbooks

JOB = Job(name="job", scenarios=(Scenario(task="ports", times=1),))
BOOKS = Playbooks(Path("/srv"), Path("/srv/inventory"), {}, {})


def settings(**environ):
    return config.load(environ={f"PERFCI_{name.upper()}": value for name, value in environ.items()})


def test_devstack_needs_a_machine_that_can_be_provisioned():
    with pytest.raises(FreshNodeNeeded, match="embedded"):
        check_cloud(JOB.on("devstack"), settings(git_base="/srv/git"), BOOKS)


def test_devstack_needs_to_come_from_somewhere():
    books = Playbooks(Path("/srv"), Path("/srv/inventory"), {}, {}, nodes=("node-1",))
    with pytest.raises(GitBaseMissing):
        check_cloud(JOB.on("devstack"), settings(), books)
    check_cloud(JOB.on("devstack"), settings(git_base="/srv/git"), books)


def test_other_clouds_need_neither():
    check_cloud(JOB, settings(), BOOKS)


def test_playbooks_are_told_where_devstack_comes_from_and_what_to_deploy():
    assert playbooks(settings(git_base="/srv/git")).variables["perfci_git_base"] == "/srv/git"
    assert "perfci_git_base" not in playbooks(settings()).variables
    kind = cloud_variables(JOB.on("devstack"), Path("/srv"))["cloud_kind"]
    (playbook,) = _DEPLOYS[kind]
    assert (Path(__file__).parents[2] / "playbooks" / f"{playbook}.yml").exists()
