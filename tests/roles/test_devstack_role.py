"""The role devstack: its local.conf read by devstack's own rules, where stack.sh is, and the logs that leave the node."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLE = Path(__file__).parents[2] / "roles/devstack"
SECRETS = {
    name: f"secret-{name}"
    for name in ("keystone_admin", "mariadb_perfci", "rabbitmq_openstack", "keystone_nova")
}


def trusted(value):
    if isinstance(value, str):
        return trust_as_template(value)
    if isinstance(value, dict):
        return {key: trusted(one) for key, one in value.items()}
    return [trusted(one) for one in value] if isinstance(value, list) else value


def templar(**changed):
    variables = {}
    for file in ("defaults/main.yml", "vars/main.yml"):
        variables |= trusted(yaml.safe_load((ROLE / file).read_text()))
    variables |= {
        "inventory_hostname": "node-1",
        "provision_address": "192.168.240.11",
        "perfci_git_base": "https://opendev.org",
        "fake_compute_count": 10,
        "perfci_state_dir": "/var/lib/perfci",
        "secrets_result": {"secrets": SECRETS},
        "devstack_datapath": "netdev",
        **changed,
    }
    return Templar(loader=DataLoader(), variables=variables)


def local_conf(**changed):
    return templar(**changed).template(trust_as_template((ROLE / "templates/local.conf.j2").read_text()))


# --- devstack's rules (its inc/meta-config), told again: which lines are whose ------------------------------------


def header(line):
    """A line `[[group|file]]`; awk takes the first word of it only, so that nothing may stand behind a space."""
    first = line.split()[0] if line.split() else ""
    if line.startswith("[[") and "|" in line and "]]" in line:
        group, _, file = first.replace("[", "").replace("]", "").partition("|")
        return group, file
    return None


def sections(text):
    found, current = {}, None
    for line in text.splitlines():
        if (seen := header(line)) is not None:
            current = found.setdefault(seen, [])
        elif current is not None:
            current.append(line)
    return found


def settings(lines):
    """The settings of one section as devstack hands them to iniset: attribute and value by part."""
    found, part = {}, ""
    for line in lines:
        if line.startswith("[") and "]" in line:
            part = line.split()[0].strip("[]")
        elif line and not line.startswith(("#", " ", "\t")):
            name, equals, value = line.partition("=")
            assert equals, line
            found[part, name.rstrip()] = value.strip()
    return found


def sourced(text):
    """The variables that a shell has after it has sourced the section localrc, as stackrc does."""
    lines = "\n".join(sections(text)["local", "localrc"])
    program = f"set -euo pipefail\nset -a\n{lines}\nenv -0"
    done = subprocess.run(
        ["bash", "-c", program], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )
    return dict(item.split("=", 1) for item in done.stdout.split("\0") if item)


def test_no_header_has_a_space_in_it():
    for line in local_conf(
        devstack_sections={"post-config|$GLANCE_API_CONF": "[DEFAULT]\nworkers = 1"}
    ).splitlines():
        if line.startswith("[["):
            assert " " not in line
            assert header(line) is not None


def test_localrc_can_be_sourced_and_says_what_is_deployed():
    found = sourced(local_conf())
    assert found["HOST_IP"] == found["SERVICE_HOST"] == "192.168.240.11"
    assert found["NUMBER_FAKE_NOVA_COMPUTE"] == "10"
    assert found["VIRT_DRIVER"] == "fake"
    assert found["RECLONE"] == "False"  # else stack.sh would fetch, and put another revision there
    assert found["NOVA_BRANCH"] == found["REQUIREMENTS_BRANCH"] == "perfci"
    assert found["PIP_FIND_LINKS"] == "/opt/stack/wheels"
    assert {"key", "mysql", "rabbit", "n-cpu", "q-svc", "q-agt"} <= set(found["ENABLED_SERVICES"].split(","))
    assert (found["ADMIN_PASSWORD"], found["DATABASE_PASSWORD"]) == (
        "secret-keystone_admin",
        "secret-mariadb_perfci",
    )


# --- several nodes ------------------------------------------------------------------------------------------------

SUBNODES = {"node-2": 3, "node-3": 2}


def of_node(node, **changed):
    """What is set for one node of three, as group variables and the run's inventory have it."""
    return {
        "inventory_hostname": node,
        "provision_address": f"192.168.240.1{node[-1]}",
        "devstack_controller_address": "192.168.240.11",
        "devstack_subnodes": SUBNODES,
        "fake_compute_count": SUBNODES.get(node, 10),
        **changed,
    }


def value(name, **changed):
    return templar(**changed).template(trust_as_template(f"{{{{ {name} }}}}"))


def test_a_controller_has_all_services_but_computes():
    found = sourced(local_conf(**of_node("node-1")))
    assert found["HOST_IP"] == found["SERVICE_HOST"] == "192.168.240.11"
    alone = sourced(local_conf())
    services = [one["ENABLED_SERVICES"].split(",") for one in (found, alone)]
    assert services[0] == [one for one in services[1] if one != "n-cpu"]
    assert "n-cpu" in services[1]
    assert set(alone) - set(found) == {"NUMBER_FAKE_NOVA_COMPUTE"}
    assert not {"MYSQL_HOST", "DATABASE_TYPE"} & set(found)


def test_a_sub_node_has_computes_and_everything_else_is_at_the_controller():
    found = sourced(local_conf(**of_node("node-2")))
    assert found["HOST_IP"] == "192.168.240.12"
    at_the_controller = {found[name] for name in ("SERVICE_HOST", "MYSQL_HOST", "RABBIT_HOST")}
    assert at_the_controller == {"192.168.240.11"}
    assert found["GLANCE_HOSTPORT"] == "192.168.240.11:9292"
    assert found["DATABASE_TYPE"] == "mysql"  # else devstack knows no database, and ends at once
    assert found["ENABLED_SERVICES"] == "n-cpu,q-agt,placement-client"
    assert found["NUMBER_FAKE_NOVA_COMPUTE"] == "3"
    controller = sourced(local_conf(**of_node("node-1")))
    passwords = {name for name in controller if name.endswith("_PASSWORD")}
    assert {name: found[name] for name in passwords} == {name: controller[name] for name in passwords}
    assert {found[name] for name in passwords} == {SECRETS[name] for name in value("devstack_passwords")}


def test_the_database_of_a_sub_node_is_told_before_devstack_needs_it():
    """stackrc works out hosts from localrc, so that these lines must stand in it, and not in a section."""
    lines = sections(local_conf(**of_node("node-3")))["local", "localrc"]
    assert {"DATABASE_TYPE=mysql", "RABBIT_HOST=192.168.240.11"} <= set(lines)


@pytest.mark.parametrize(
    ("subnodes", "driver", "counts"),
    [
        ({}, "fake", (10, 10, 13)),
        ({}, "libvirt", (10, 1, 3)),
        (SUBNODES, "fake", (5, 5, 10)),
        (SUBNODES, "libvirt", (5, 2, 5)),
    ],
)
def test_what_is_waited_for_is_the_whole_cloud(subnodes, driver, counts):
    names = ("devstack_all_computes", "devstack_all_hypervisors", "devstack_all_agents")
    changed = {"devstack_subnodes": subnodes, "devstack_virt_driver": driver}
    assert tuple(value(name, **changed) for name in names) == counts


def test_only_what_pretends_on_this_node_is_counted_and_reported():
    units = value("devstack_agents_units", **of_node("node-2", inventory_hostname_short="node-2"))
    assert {"--prefix=node-2", "--count=3"} <= set(units[0]["command"])
    assert "devstack@n-cpu-3" in value("devstack_accounts", **of_node("node-2"))
    assert "devstack@n-cpu-1" not in value("devstack_accounts", **of_node("node-1"))
    assert [value("devstack_pretends", **of_node(node)) for node in ("node-1", "node-2")] == [False, True]
    assert value("devstack_pretends") is True


@pytest.mark.parametrize(
    ("subnodes", "twice"),
    [(SUBNODES, False), ({"node-2": 11, "node-21": 1}, True), ({"node-2": 1, "node-21": 1}, True)],
)
def test_names_that_two_hosts_would_have_are_seen(subnodes, twice):
    names = value("devstack_all_names", devstack_subnodes=subnodes)
    assert (len(set(names)) < len(names)) is twice


def test_a_sub_node_keeps_the_passwords_that_are_taken_out_of_its_logs():
    files = {one["path"]: one["content"] for one in value("devstack_password_files")}
    assert files == {f"/var/lib/perfci/secrets/{name}": secret for name, secret in SECRETS.items()}


def test_libvirt_has_no_pretend_computes():
    assert "NUMBER_FAKE_NOVA_COMPUTE" not in sourced(local_conf(devstack_virt_driver="libvirt"))


def test_a_job_adds_lines_and_sections_and_no_value_is_code():
    text = local_conf(
        devstack_localrc={"WORKER_TIMEOUT": 120, "ODD": "a b; $(touch /tmp/never)"},
        devstack_sections={"post-config|$GLANCE_API_CONF": "[DEFAULT]\nworkers = 1"},
    )
    found = sourced(text)
    assert (found["WORKER_TIMEOUT"], found["ODD"]) == ("120", "a b; $(touch /tmp/never)")
    assert settings(sections(text)["post-config", "$GLANCE_API_CONF"]) == {("DEFAULT", "workers"): "1"}


def test_there_are_no_quotas():
    assert sourced(local_conf())["GLANCE_ENABLE_QUOTAS"] == "False"
    found = sections(local_conf())
    assert settings(found["post-config", "$NOVA_CONF"])["quota", "driver"] == "nova.quota.NoopQuotaDriver"
    assert settings(found["post-config", "$NEUTRON_CONF"])["quotas", "quota_port"] == "-1"


def test_every_unit_has_an_account_and_pretend_hypervisors_one_together():
    found = templar(fake_compute_count=2).template(trust_as_template("{{ devstack_accounts }}"))
    assert {found["devstack@n-cpu-1"], found["devstack@n-cpu-2"]} == {"n-cpu"}
    assert "devstack@n-cpu-3" not in found
    assert {"mariadb", "rabbitmq-server", "apache2", "devstack@"} <= set(found)
    real = templar(devstack_virt_driver="libvirt").template(trust_as_template("{{ devstack_accounts }}"))
    assert "devstack@n-cpu-1" not in real


# --- which code ---------------------------------------------------------------------------------------------------


def repositories(**changed):
    found = templar(**changed).template(trust_as_template("{{ devstack_repositories }}"))
    return {one["name"]: (one["url"], one["ref"]) for one in found}


def test_what_the_job_does_not_name_comes_from_the_base():
    found = repositories(
        openstack_sources={
            "nova": {"git": "https://review.opendev.org/openstack/nova", "ref": "refs/changes/1/1/1"}
        }
    )
    assert found["openstack/nova"] == ("https://review.opendev.org/openstack/nova", "refs/changes/1/1/1")
    assert found["openstack/neutron"] == ("https://opendev.org/openstack/neutron", "stable/2026.1")
    assert set(found) == {
        f"openstack/{one}"
        for one in ("devstack", "requirements", "keystone", "placement", "glance", "nova", "neutron")
    }


def test_single_projects_have_revisions_of_their_own():
    found = repositories(devstack_branch="master", devstack_revisions={"requirements": "1" * 40})
    assert found["openstack/requirements"][1] == "1" * 40
    assert found["openstack/devstack"][1] == "master"


# --- how far stack.sh is ------------------------------------------------------------------------------------------


@pytest.fixture
def watch(tmp_path):
    """watch.sh, with a systemctl that says what the test wants."""
    logs = tmp_path / "logs"
    logs.mkdir()

    def run(state, result="success"):
        fake = tmp_path / "systemctl"
        fake.write_text(f"#!/bin/sh\ncase $2 in *SubState) echo {state} ;; *) echo {result} ;; esac\n")
        fake.chmod(0o755)
        command = ["sh", "-eu", str(ROLE / "files/watch.sh"), "unit", str(logs), "0"]
        path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        return subprocess.run(
            command, env=path, capture_output=True, text=True, check=True
        ).stdout.splitlines()

    run.logs = logs
    return run


def test_before_its_first_line_it_begins(watch):
    assert watch("running") == ["running", "begins"]


def test_the_last_line_of_the_summary_is_shown(watch):
    (watch.logs / "stack.sh.log.summary").write_text(
        "2026-11-21 13:00:00.000 | Starting Keystone\n2026-11-21 13:01:00.000 | Starting Nova\n\n"
    )
    assert watch("running") == ["running", "Starting Nova"]
    assert watch("exited")[0] == "done"


def test_where_it_failed_the_end_of_its_log_is_told(watch):
    (watch.logs / "stack.sh.log").write_text("".join(f"line {n}\n" for n in range(100)))
    found = watch("failed", "exit-code")
    assert found[0] == "failed"
    assert found[-1] == "line 99"
    assert len(found) == 42
    assert watch("failed", "timeout")[0] == "timeout"


def test_without_any_log_it_still_tells(watch):
    assert watch("failed", "exit-code")[2:] == ["it left no log"]


# --- logs ---------------------------------------------------------------------------------------------------------


def test_no_password_leaves_the_node_in_a_log(tmp_path):
    logs, target, secrets = (tmp_path / name for name in ("stack", "kept", "secrets"))
    for folder in (logs, secrets):
        folder.mkdir()
    (secrets / "a").write_text("abcdef123\n")
    (secrets / "b").write_text("abcdef123456\n")  # the one holds the other
    (logs / "stack.sh.log").write_text(
        "+ export DATABASE_PASSWORD=abcdef123456\n+ mysql://root:abcdef123@h\n"
    )
    for name, text in {
        "systemctl": "echo devstack@n-api.service loaded active running x",
        "journalctl": "echo connect abcdef123",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    command = [sys.executable, str(ROLE / "files/keep_logs.py"), str(logs), str(target), str(secrets)]
    subprocess.run(command, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=True)
    kept = {path.name: path.read_text() for path in target.iterdir()}
    assert kept["n-api.log"] == "connect ********\n"
    assert kept["stack.sh.log"] == "+ export DATABASE_PASSWORD=********\n+ mysql://root:********@h\n"
    assert "abcdef" not in json.dumps(kept)


def test_rally_gets_what_it_reads_of_the_access():
    """It knows domains by their names alone."""
    text = (ROLE / "templates/clouds.yaml.j2").read_text()
    access = yaml.safe_load(templar().template(trust_as_template(text)))["clouds"]["perfci"]["auth"]
    assert (access["user_domain_name"], access["project_domain_name"]) == ("Default", "Default")
    assert access["password"] == SECRETS["keystone_admin"]
