"""Tasks that handle secrets hide all that they say; why one of them failed is said in spite of that."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from role_plays import LOCAL, play

PROJECT = Path(__file__).parents[2]
FILES = sorted([*PROJECT.glob("roles/*/tasks/*.yml"), *PROJECT.glob("playbooks/*.yml")])
SECRET = "correct-horse-battery"


def hidden(tasks, *, rescued=False):
    """Yield each task below that hides what it says, and whether a rescue tells why it failed."""
    for task in tasks or ():
        if task.get("no_log"):
            yield task["name"], rescued
        told = any(
            "ansible_failed_result" in str(one.get("ansible.builtin.fail")) for one in task.get("rescue", ())
        )
        for part in ("tasks", "pre_tasks", "post_tasks", "block", "rescue", "always"):
            yield from hidden(task.get(part), rescued=rescued or (part == "block" and told))


def test_there_are_some():
    assert len([one for file in FILES for one in hidden(yaml.safe_load(file.read_text()))]) > 10


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PROJECT)))
def test_a_task_that_hides_what_it_says_is_followed_by_why_it_failed(file):
    assert [name for name, told in hidden(yaml.safe_load(file.read_text())) if not told] == []


@pytest.fixture
def inventory(tmp_path):
    """A node whose BMC has a password and no user."""
    node = {
        **LOCAL, "bmc_address": "192.0.2.1", "bmc_password": SECRET, "provision_mac": "52:54:00:aa:bb:01",
        "provision_disk": "smallest", "provision_firmware": "bios", "provision_ssh_key_file": str(tmp_path / "key"),
    }  # fmt: skip
    file = tmp_path / "hosts.yml"
    file.write_text(yaml.safe_dump({"cloud": {"hosts": {"node-1": node}}}))
    return file


@pytest.mark.slow
def test_what_the_inventory_lacks_of_a_node_is_named_and_no_secret(tmp_path, inventory):
    role = {"name": str(PROJECT / "roles" / "provision"), "tasks_from": "describe"}
    done = play(tmp_path, inventory, gather_facts=False, tasks=[{"name": "Look", "import_role": role}])
    assert done.returncode != 0
    assert "bmc_username" in done.stdout
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.slow
def test_of_a_chain_that_fails_all_is_said_but_its_secrets(tmp_path, inventory):
    chain = {
        "name": "keystone", "log": str(tmp_path / "log"), "environment": {"PERFCI_SERVICE": "keystone", "DEBUG": "1"},
        "secrets": {"OS_PASSWORD": SECRET}, "commands": [["sh", "-c", 'echo "keystone 1: no table; $OS_PASSWORD"; exit 3']],
    }  # fmt: skip
    done = play(
        tmp_path, inventory, gather_facts=False, tasks=[{"name": "Try", "run_parallel": {"chains": [chain]}}]
    )
    assert done.returncode != 0
    assert "keystone 1: no table; ********" in done.stdout
    assert SECRET not in done.stdout + done.stderr
