"""Every module has a check mode: it says what would be done, and does nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from free_ports import port_base
from programs import needs

PROJECT = Path(__file__).parents[2]
MODULES = sorted((PROJECT / "plugins" / "modules").glob("*.py"))
CHANGES_NOTHING = {"lab_preflight", "machine_facts", "node_fingerprint", "provision_inventory"}
"""They only look, and say so by `changed: false`."""


@pytest.mark.parametrize("file", MODULES, ids=lambda file: file.stem)
def test_every_module_has_one(file):
    text = file.read_text()
    assert "supports_check_mode=True" in text
    documentation = yaml.safe_load(re.search(r'DOCUMENTATION = r"""(.*?)"""', text, re.DOTALL)[1])
    if file.stem not in CHANGES_NOTHING:
        assert documentation["attributes"]["check_mode"]["support"] == "full"
        assert "support" in documentation["attributes"]["diff_mode"]


@pytest.fixture
def checked(plugin, capsys):
    """Run a module in check mode; return what it says."""

    def run(name, **given):
        module = plugin(name)
        with patch_module_args({**given, "_ansible_check_mode": True}), pytest.raises(SystemExit):
            module.main()
        return json.loads(capsys.readouterr().out)

    return run


def test_chains_are_not_run(checked, tmp_path):
    chain = {"name": "nova", "log": str(tmp_path / "log"), "commands": [["touch", str(tmp_path / "done")]]}
    told = checked("run_parallel", chains=[chain], record=str(tmp_path / "record"))
    assert (told["changed"], told["seconds"], told["diff"]["after"]) == (True, {"nova": 0.0}, "nova: run\n")
    assert list(tmp_path.iterdir()) == []


def test_nobody_is_waited_for(checked, tmp_path):
    check = {"name": "nova-api", "url": "http://127.0.0.1:1/", "log": str(tmp_path / "log")}
    assert checked("wait_ready", checks=[check])["seconds"] == {"nova-api": 0.0}
    node = {
        "name": "node-1", "attempt": "", "since": 0, "mac": "52:54:00:aa:bb:01", "ssh_address": "192.0.2.1",
        "address": "192.0.2.2", "username": "u", "password": "p",
    }  # fmt: skip
    told = checked("wait_provisioned", goal="ssh", nodes=[node], reports=str(tmp_path))
    assert told["nodes"]["node-1"]["ok"]


def test_no_moment_is_noted(checked, tmp_path):
    told = checked("phase_clock", file=str(tmp_path / "phases.json"), phase="load")
    assert told["changed"]
    assert told["at"] > 0
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_packed_or_unpacked(checked, tmp_path):
    (tmp_path / "folder").mkdir()
    given = {"folder": str(tmp_path / "folder"), "archive": str(tmp_path / "a.tar.gz")}
    assert checked("folder_archive", state="packed", **given)["changed"]
    assert not (tmp_path / "a.tar.gz").exists()
    (tmp_path / "a.tar.gz").write_bytes(b"1234")
    told = checked("folder_archive", state="packed", **given)
    assert (told["changed"], told["bytes"]) == (False, 4)
    assert checked("folder_archive", state="unpacked", **given)["diff"]["before"].endswith("folder: old\n")
    assert (tmp_path / "a.tar.gz").exists()


@needs("git")
def test_no_repository_is_fetched(checked, tmp_path, git_repository):
    url, commit = git_repository
    repository = {"name": "openstack/nova", "url": url, "ref": "main"}
    told = checked("git_mirror", folder=str(tmp_path / "mirrors"), repositories=[repository])
    assert told["mirrors"]["openstack/nova"]["commit"] == commit
    assert not (tmp_path / "mirrors").exists()
    unknown = checked("git_mirror", folder=str(tmp_path), repositories=[{**repository, "ref": "none"}])
    assert "there is no branch, tag or commit 'none'" in unknown["msg"]


@pytest.fixture
def git_repository(tmp_path):
    folder = tmp_path / "nova"
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "init", "-q", "-b", "main", folder], check=True)
    subprocess.run(["git", "-C", folder, *author, "commit", "-q", "--allow-empty", "-m", "1"], check=True)
    done = subprocess.run(
        ["git", "-C", folder, "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    )
    return str(folder), done.stdout.strip()


def test_no_environment_is_made(checked, tmp_path):
    names = ("keystone", "openstack-placement", "glance", "nova", "neutron")
    (tmp_path / "constraints.txt").write_text("".join(f"{name}==1.{n}\n" for n, name in enumerate(names)))
    told = checked(
        "openstack_venv",
        folder=str(tmp_path / "venvs"),
        constraints=str(tmp_path / "constraints.txt"),
        uv="/no/such/uv",
        record=str(tmp_path / "code.json"),
    )
    assert told["changed"]
    assert {one["service"]: one["version"] for one in told["services"]}["nova"] == "1.3"
    assert told["venv"].endswith(told["key"])
    assert not (tmp_path / "venvs").exists()
    assert not (tmp_path / "code.json").exists()


def test_no_service_is_started_or_ended(checked, spawn, tmp_path):
    process = spawn("print('ready', flush=True); import time; time.sleep(60)", service="nova-api", run="r1")
    units = [{"name": "keystone", "command": ["/bin/true"]}]
    state = str(tmp_path)
    told = checked("supervise", state="started", state_dir=state, group="cloud", units=units)
    assert (told["changed"], told["services"]) == (True, ["keystone"])
    told = checked("supervise", state="stopped", state_dir=state, group="cloud", run="r1")
    assert told["services"] == ["nova-api"]
    assert (
        checked("supervise", state="stopped", state_dir=state, group="cloud", run="r1", keep=["nova-api"])[
            "services"
        ]
        == []
    )
    assert process.poll() is None
    assert not (tmp_path / "services").exists()


def test_an_environment_that_was_not_made_has_no_pins_yet(checked, tmp_path):
    told = checked("machine_facts", constraints=str(tmp_path / "none.txt"))
    assert told["machine"]["packages"] == {}
    assert not told.get("failed")


@pytest.mark.slow
def test_a_deployment_can_be_checked_on_a_machine_without_one(tmp_path):
    """Every task of deploy.yml copes with those before it having done nothing; nothing is made of it."""
    state = tmp_path / "state"
    done = subprocess.run(
        [
            Path(sys.executable).with_name("ansible-playbook"),
            *("--check", "--diff", "-i", "inventory/embedded", "playbooks/deploy.yml"),
            *(
                "-e",
                json.dumps(
                    {"perfci_port_base": port_base(), "preflight_memory_gib": 0, "preflight_disk_gib": 0}
                ),
            ),
        ],
        cwd=PROJECT,
        env={
            **os.environ,
            "PERFCI_STATE_DIR": str(state),
            "ANSIBLE_HOME": str(tmp_path / "ansible"),
            "ANSIBLE_NOCOLOR": "1",
        },
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "Start keystone" in done.stdout
    assert not state.exists() or not any(state.rglob("*.conf"))
    assert not (state / "venvs").exists()
    assert not (state / "services").exists()
