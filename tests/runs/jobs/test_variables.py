"""Variables for the deploy are checked against what the roles say of them, when the job file is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfci.runs.jobs.load import load_job
from perfci.runs.jobs.model import JobFileInvalid
from perfci.runs.jobs.variables import OWN_FIELDS, Specification, known_variables, variable_faults

PROJECT = Path(__file__).parents[3]


def messages(**given):
    return [fault.message for fault in variable_faults(given, known_variables(PROJECT))]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"nova_api_proceses": 8}, "no role has this variable; did you mean 'nova_api_processes'?"),
        ({"mariadb_buffer_pool_mib": "lots"}, "expected a whole number, got 'lots'"),
        ({"mariadb_buffer_pool_mib": "512"}, "expected a whole number, got '512'"),
        ({"nova_api_processes": True}, "expected a whole number, got True"),
        ({"rabbitmq_metrics": 1}, "expected true or false, got 1"),
        ({"cloud_distributed_routers": "yes"}, "expected true or false, got 'yes'"),
        ({"neutron_agents_kinds": "l3"}, "expected a list, each text, got 'l3'"),
        ({"neutron_agents_kinds": ["l3", 3]}, "expected a list, each text, got 3 in it"),
        ({"neutron_agents_kinds": ["bgp"]}, "expected 'l3' or 'dhcp', got ['bgp']"),
        ({"devstack_virt_driver": "xen"}, "expected 'fake' or 'libvirt', got 'xen'"),
        ({"devstack_branch": 2026.1}, "expected text, got 2026.1"),
        ({"devstack_localrc": []}, "expected a mapping (key: value), got []"),
        ({"fake_compute_count": 20}, "set cloud.computes in its place, which overrides it"),
        ({"provision_force": True}, "it is a variable of the lab, which its inventory sets"),
        ({"perfci_state_dir": "/"}, "it is a variable of the lab, which its inventory sets"),
        ({"memory": 1}, "no role has this variable; roles/*/defaults/main.yml have all of them"),
        ({"glance_quota_of_everything": 1}, "no role has this variable; known: glance_api_processes"),
    ],
    ids=str,
)
def test_what_no_role_could_use_is_refused(given, message):
    (said,) = messages(**given)
    assert said.startswith(message)


@pytest.mark.parametrize(
    "given",
    [
        {"mariadb_buffer_pool_mib": 512},
        {"mariadb_buffer_pool_mib": "{{ ansible_memtotal_mb // 4 }}"},
        {"neutron_agents_kinds": ["l3", "{{ other }}"]},
        {"neutron_agents_kinds": []},
        {"devstack_revisions": {"requirements": "abc"}},
        {"cloud_distributed_routers": True},
        {"node_tuning_governor": "performance"},
    ],
    ids=str,
)
def test_what_a_role_can_use_is_taken(given):
    assert messages(**given) == []


def test_a_number_is_any_number():
    known = {"rest": Specification("float"), "any": Specification()}
    assert list(variable_faults({"rest": 1, "any": None}, known)) == []
    assert list(variable_faults({"rest": False}, known))


def test_every_field_of_the_job_that_gives_a_variable_is_named():
    job = load_job("nightly", PROJECT / "jobs")
    from perfci.runs.ansible.lab_playbooks import cloud_variables

    assert set(cloud_variables(job, PROJECT)) == set(OWN_FIELDS)


@pytest.mark.parametrize("place", ["cloud", "reference"])
def test_the_job_file_says_where(tmp_path, place):
    (tmp_path / "roles").symlink_to(PROJECT / "roles")
    (tmp_path / "jobs" / "tasks").mkdir(parents=True)
    (tmp_path / "jobs" / "tasks" / "ports.yml.j2").touch()
    (tmp_path / "jobs" / "tiny.yml").write_text(
        f"name: tiny\n{place}:\n  variables:\n    nova_api_processes: 2\n    nova_api_proceses: 8\n"
        "scenarios: [{task: ports, times: 1}]\n"
    )
    with pytest.raises(JobFileInvalid) as caught:
        load_job("tiny", tmp_path / "jobs")
    where = f"{tmp_path}/jobs/tiny.yml:5: {place}.variables.nova_api_proceses: "
    assert str(caught.value) == f"{where}no role has this variable; did you mean 'nova_api_processes'?"
