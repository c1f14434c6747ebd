"""What roles do where the node is not the controller: a folder plays the node, Ansible is real."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml
from programs import needs
from role_plays import LOCAL
from role_plays import play as run_play

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@pytest.fixture
def lab(tmp_path):
    """A controller and a node, both this machine, with folders of their own."""

    class Lab:
        controller, node = tmp_path / "controller", tmp_path / "node"
        run_dir = controller / "runs" / "r1"

        def play(self, *tasks, **variables):
            (tmp_path / "hosts.yml").write_text(
                yaml.safe_dump(
                    {"cloud": {"hosts": {"node-1": {}}, "vars": {**LOCAL, **self.places, **variables}}}
                )
            )
            return run_play(tmp_path, tmp_path / "hosts.yml", tasks=list(tasks))

        @property
        def places(self):
            return {
                "perfci_state_dir": str(self.node),
                "perfci_run_dir": str(self.run_dir),
                "perfci_node_run_dir": str(self.node / "runs" / "r1"),
                "perfci_shelf": str(self.controller / "shelf"),
            }

    made = Lab()
    for folder in (made.run_dir / "logs", made.node / "logs"):
        folder.mkdir(parents=True)
    return made


def role(name, verb="main", **variables):
    return {
        "name": name,
        "ansible.builtin.include_role": {"name": name, "tasks_from": verb},
        "vars": variables,
    }


def well(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_was_measured_and_the_logs_come_to_the_controller(lab):
    results = lab.node / "runs" / "r1"
    for name in ("tasks.json", "rally/01-ports.json", "counters/node-1.jsonl", "logs/rally.log"):
        path = results / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (lab.node / "logs" / "nova-api.log").write_text("started")
    (lab.run_dir / "plan.json").write_text("mine")
    well(lab.play(role("collect")))
    for name in ("tasks.json", "rally/01-ports.json", "counters/node-1.jsonl", "logs/rally.log"):
        assert (lab.run_dir / name).read_text() == name
    assert (lab.run_dir / "logs" / "node-1.tar.gz").exists()
    assert (lab.run_dir / "plan.json").read_text() == "mine"
    assert sorted(path.name for path in lab.run_dir.iterdir()) == [
        "counters", "logs", "plan.json", "rally", "tasks.json",
    ]  # fmt: skip
    assert not list(lab.node.glob("*.tar.gz"))


def test_a_node_without_results_is_no_error(lab):
    (lab.node / "logs" / "nova-api.log").write_text("started")
    well(lab.play(role("collect")))
    assert [path.name for path in lab.run_dir.iterdir()] == ["logs"]


@pytest.mark.parametrize("folder", [True, False])
def test_a_node_without_logs_is_no_error_either(lab, folder):
    """Deploying may end before it has begun on the node."""
    if not folder:
        (lab.node / "logs").rmdir()
    well(lab.play(role("collect")))
    assert not list((lab.run_dir / "logs").iterdir())


def test_an_environment_is_copied_once_and_runs_at_its_new_place(lab):
    source, target = lab.controller / "venvs" / "1f2e", lab.node / "venvs" / "1f2e"
    subprocess.run(
        [str(BIN / "uv"), "venv", "-q", "--no-project", "--relocatable", "--python", sys.executable, source],
        check=True,
    )
    (source / "bin" / "tool").write_text(
        '#!/bin/sh\nexec "$(dirname -- "$(realpath -- "$0")")"/python -c \'import sys; print(sys.prefix)\'\n'
    )
    (source / "bin" / "tool").chmod(0o755)
    (source / ".complete").touch()
    copy = role("environment_copy", environment_copy_source=str(source), environment_copy_target=str(target))
    assert "changed=0" not in well(lab.play(copy))
    said = subprocess.run([target / "bin" / "tool"], capture_output=True, text=True, check=True).stdout
    assert said.strip() == str(target)
    assert "changed=0" in well(lab.play(copy))
    assert [path.name for path in target.parent.iterdir()] == ["1f2e"]


@pytest.fixture
def served(tmp_path):
    """The controller's HTTP server, with a folder of environments."""
    file = ROOT / "roles/netboot/files/netboot_server.py"
    spec = importlib.util.spec_from_file_location("netboot_server_of_environments", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    folder = tmp_path / "netboot"
    with module.Server(("127.0.0.1", 0), module.Site(folder, tmp_path)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/environments", folder / "environments"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("way", "copied"), [("", "skipping"), ("/none", "changed")])
def test_an_environment_is_fetched_by_http_and_copied_where_that_fails(lab, served, way, copied):
    url, offers = served
    source, target = lab.controller / "venvs" / "1f2e", lab.node / "venvs" / "1f2e"
    source.mkdir(parents=True)
    (source / "tool").write_text("a tool")
    (source / ".complete").touch()
    said = well(
        lab.play(
            role(
                "environment_copy",
                environment_copy_source=str(source),
                environment_copy_target=str(target),
                environment_copy_url=url + way,
                environment_copy_offers=str(offers),
            )
        )
    )
    task = said.partition("TASK [environment_copy : Copy the archive")[2].splitlines()[1]
    assert task.startswith(f"{copied}:")
    assert (target / "tool").read_text() == "a tool"
    assert [path.name for path in target.parent.iterdir()] == ["1f2e"]


def test_without_an_environment_for_the_run_the_way_to_one_is_told(lab):
    done = lab.play(role("openstack_code", "bring"))
    assert done.returncode != 0
    assert "playbooks/supplies.yml first" in done.stdout


def test_a_run_takes_the_environment_that_was_made_for_it(lab):
    made = lab.controller / "shelf" / "venvs" / "abcd"
    made.mkdir(parents=True)
    (made / ".complete").touch()
    (lab.run_dir / "code.json").write_text(json.dumps({"services": [], "packages": {}, "venv": "abcd"}))
    told = {"name": "Tell", "ansible.builtin.debug": {"msg": "{{ openstack_code_result.venv }}"}}
    said = well(lab.play(role("openstack_code", "bring"), told))
    assert str(lab.node / "venvs" / "abcd") in said
    assert (lab.node / "venvs" / "abcd" / ".complete").exists()
    record = lab.node / "runs" / "r1" / "code.json"
    assert json.loads(record.read_text())["venv"] == "abcd", "the node knows as well which code it has"


def test_rally_comes_from_the_controller_as_well(lab):
    name = {
        "name": "Name it",
        "ansible.builtin.include_role": {"name": "rally", "tasks_from": "bring"},
        "ignore_errors": True,
    }
    told = {"name": "Tell", "ansible.builtin.debug": {"msg": "{{ rally_environment }}"}}
    said = lab.play(name, told).stdout
    (made,) = set(re.findall(rf"{lab.controller}/shelf/rally/[0-9a-f]+", said))
    Path(made).mkdir(parents=True)
    (Path(made) / ".complete").touch()
    well(lab.play(role("rally", "bring")))
    assert (lab.node / "rally" / "venv" / ".complete").exists()


def test_a_dump_is_kept_by_the_controller_and_given_to_the_next_node(lab):
    dump = lab.node / "cache" / "databases" / "k1"
    dump.mkdir(parents=True)
    (dump / "nova.sql").write_text("CREATE TABLE t (x INT);")
    variables = {
        "mariadb_schema_key": "k1",
        "perfci_hosts": {"mariadb": "x"},
        "perfci_bind_address": "x",
        "perfci_ports": {"mariadb": 1},
    }
    well(lab.play(role("mariadb", "keep"), **variables))
    assert [path.name for path in (lab.controller / "shelf" / "databases").iterdir()] == ["k1.tar.gz"]
    (dump / "nova.sql").unlink()
    dump.rmdir()
    well(lab.play(role("mariadb", "bring"), **variables))
    assert (dump / "nova.sql").read_text() == "CREATE TABLE t (x INT);"


def tuned(setting, *, virtualization):
    """What the module node_tuning says of a node that could not be given one setting."""
    record = {
        setting: {"state": "not available", "why": "the firmware controls it"},
        "swap": {"state": "in effect", "value": "off"},
    }
    return {"node_tuning_result": {"virtualization": virtualization, "record": record}}


@pytest.mark.parametrize(("virtualization", "fails"), [("none", True), ("kvm", False)])
def test_a_real_machine_must_have_its_settings(lab, virtualization, fails):
    done = lab.play(role("node_tuning", "judge"), **tuned("governor", virtualization=virtualization))
    assert (done.returncode != 0) is fails
    if fails:
        assert "governor could not be set: the firmware controls it" in done.stdout
        assert 'node_tuning_governor: ""' in done.stdout
        assert "swap" not in done.stdout


@pytest.mark.parametrize(
    ("setting", "advice"), [("time", "a time server on UDP port 123"), ("governor", "the firmware's setup")]
)
def test_the_advice_is_that_of_the_setting(lab, setting, advice):
    done = lab.play(role("node_tuning", "judge"), **tuned(setting, virtualization="none"))
    assert done.returncode != 0
    assert advice in " ".join(done.stdout.replace("''", "'").split())


@needs("systemd-detect-virt")
def test_the_module_is_given_every_setting(lab):
    """In check mode, as this is no machine to tune; what is written of a unit is part of what it is given."""
    checked = role("node_tuning", "set")
    checked["ansible.builtin.include_role"]["apply"] = {"check_mode": True, "diff": True}
    done = lab.play(
        checked,
        {
            "name": "Tell",
            "ansible.builtin.debug": {"msg": "{{ node_tuning_result.record | length }} settings"},
        },
        node_tuning_record_file=str(lab.node / "tuning.json"),
        node_tuning_time_servers=["192.0.2.1"],
    )
    assert done.returncode == 0, done.stdout
    assert "11 settings" in done.stdout
    assert not (lab.node / "tuning.json").exists()


def test_every_setting_can_be_left_alone():
    variables = yaml.safe_load((ROOT / "roles/node_tuning/vars/main.yml").read_text())
    names = [line.partition(":")[0] for line in variables["node_tuning_variables"].values()]
    defaults = yaml.safe_load((ROOT / "roles/node_tuning/defaults/main.yml").read_text())
    assert set(names) <= set(defaults)
    assert len(set(names)) == len(names) == 11


def test_packages_that_an_image_lacks_are_told_and_not_installed(lab):
    done = lab.play(
        role("packages"), packages_from_image=True, packages_services=["no-such-package"], packages_tools=[]
    )
    assert done.returncode != 0
    assert "Add them to os_image_packages" in done.stdout


def test_the_fingerprint_is_part_of_the_environment(lab):
    constraints = lab.controller / "constraints.txt"
    constraints.write_text("nova==34.0.0\n")
    variables = {
        "fingerprint_packages": ["libc6"],
        "fingerprint_constraints": str(constraints),
        "fingerprint_cloud": {"computes": 2},
    }
    digests = set()
    for _ in range(2):
        well(lab.play(role("fingerprint"), **variables))
        text = (lab.run_dir / "environment.json").read_text()
        digests.add(text)
    assert len(digests) == 1
    node = json.loads(text)["nodes"]["node-1"]
    assert node["packages"]["libc6"]
    assert node["kernel"]["release"] == os.uname().release
    assert {"cpu", "memory", "network", "disks", "settings"} <= set(node)
