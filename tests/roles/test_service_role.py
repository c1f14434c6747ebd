"""The role service where systemd runs the services: they come back after a reboot, and their logs stay small."""

from __future__ import annotations

import os
import subprocess

import pytest
import yaml
from programs import needs, path_of
from role_plays import LOCAL
from role_plays import play as run_play

pytestmark = pytest.mark.slow
NAMES = ["perfci-cloud-api.service", "perfci-cloud-worker.service"]


class Machine:
    """A node whose systemctl writes down what it is asked, and whose units lie in a folder of the test's."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.state, self.system = folder, folder / "state", folder / "system"
        self.system.mkdir()
        self.orders = folder / "orders"
        programs = folder / "bin"
        programs.mkdir()
        (programs / "systemctl").write_text(f'#!/bin/sh\necho "$@" >>{self.orders}\n')
        (programs / "systemctl").chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")

    def play(self, tasks_from, **variables):
        self.orders.write_text("")
        given = {
            **LOCAL,
            "ansible_become": False,
            "service_manager": "systemd",
            "perfci_state_dir": str(self.state),
            "service_units": [
                {"name": "api", "command": ["/bin/true"]},
                {
                    "name": "worker",
                    "command": ["/bin/true"],
                    "patient": True,
                    "before": [["/bin/echo", "100%"]],
                },
            ],
        }
        hosts = {"cloud": {"hosts": {"node-1": {}}, "vars": given}}
        (self.folder / "hosts.yml").write_text(yaml.safe_dump(hosts))
        role = {"ansible.builtin.import_role": {"name": "service", "tasks_from": tasks_from}}
        more = {"service_unit_folder": str(self.system), **variables}
        done = run_play(
            self.folder, self.folder / "hosts.yml", gather_facts=False, tasks=[{**role, "vars": more}]
        )
        assert done.returncode == 0, done.stdout
        return self.orders.read_text().splitlines()


@pytest.fixture
def machine(tmp_path, monkeypatch):
    return Machine(tmp_path, monkeypatch)


@needs("systemd-analyze")
def test_services_come_back_and_logs_stay_small(machine):
    orders = machine.play("start")
    assert f"enable --now {' '.join(NAMES)}" in orders
    assert orders.index("start perfci-logrotate-cloud.service") < orders.index(
        "enable --now perfci-logrotate-cloud.timer"
    )
    units = sorted(machine.system.iterdir())
    assert [file.name for file in units] == [
        *NAMES,
        "perfci-logrotate-cloud.service",
        "perfci-logrotate-cloud.timer",
    ]
    # logrotate itself need not be installed here.
    rotation = machine.system / "perfci-logrotate-cloud.service"
    rotation.write_text(rotation.read_text().replace("/usr/sbin/logrotate", "/bin/true"))
    verify = ["systemd-analyze", "verify", "--man=no", *units]
    done = subprocess.run(verify, capture_output=True, text=True, timeout=60, check=False)
    assert [line for line in done.stderr.splitlines() if str(machine.system) in line] == []
    worker = (machine.system / NAMES[1]).read_text()
    assert "Restart=always" in worker
    assert "StartLimitIntervalSec=0" in worker
    assert 'ExecStartPre="/bin/echo" "100%%"' in worker
    assert "Restart=on-failure" in (machine.system / NAMES[0]).read_text()

    machine.play("start")  # it finds the unit that was changed above
    assert [one for one in machine.play("start") if "logrotate" in one] == [], "they are rotated already"

    orders = machine.play("stop", service_keep=["worker"])
    assert orders == [f"disable --now {NAMES[0]}", "daemon-reload", f"reset-failed {NAMES[0]}*"]
    assert (machine.system / "perfci-logrotate-cloud.timer").exists(), "one service goes on"
    orders = machine.play("stop")
    assert orders[:2] == [f"disable --now {NAMES[1]}", "disable --now perfci-logrotate-cloud.timer"]
    assert list(machine.system.iterdir()) == []
    assert machine.play("stop") == []


@needs("logrotate")
def test_a_large_log_is_cut_and_its_service_writes_on(machine):
    machine.play("start", service_log_bytes=1000)
    log = machine.state / "logs" / "api.log"
    config = machine.state / "etc" / "perfci-logrotate-cloud.conf"
    rotate = [path_of("logrotate"), "--state", machine.state / "logs" / ".rotated", config]
    with log.open("ab", buffering=0) as service:
        for letter in b"abcd":
            service.write(bytes([letter]) * 2000)
            subprocess.run(rotate, check=True, timeout=60, capture_output=True)
        service.write(b"end")
    assert log.read_bytes() == b"end"
    kept = sorted(file.name for file in log.parent.glob("api.log*"))
    assert kept == ["api.log", "api.log.1", "api.log.2"]
    assert (log.parent / "api.log.1").read_bytes() == b"d" * 2000
