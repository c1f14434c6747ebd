"""What runs ticks: it survives a reboot, ends no night that a tick has started, and finds the vault's password."""

from __future__ import annotations

import os
import subprocess

import pytest
from programs import needs

from perfci.config import load
from perfci.runs.state.units import units_of
from perfci.runs.tick.timer import cron_line, timer_script

PYTHON = "/srv/perf ci/.venv/bin/python"


@pytest.fixture
def settings(tmp_path):
    root = tmp_path / "50% of it"
    root.mkdir()
    environ = {"PERFCI_ROOT_DIR": str(root), "PERFCI_STATE_DIR": str(root / "state"), "PERFCI_LAB": "rack"}
    return load(environ=environ)


@pytest.fixture
def installed(settings, tmp_path):
    """Install the units into a folder of the test's; return it, and what systemctl was asked."""
    system, orders, programs = tmp_path / "system", tmp_path / "orders", tmp_path / "bin"
    system.mkdir()
    programs.mkdir()
    (programs / "systemctl").write_text(f'#!/bin/sh\necho "$@" >>{orders}\n[ "$1" != stop ]\n')
    (programs / "systemctl").chmod(0o755)
    environ = {"ANSIBLE_VAULT_PASSWORD_FILE": "~/.vault", "HOME": "/root", "SECRET": "s3cret"}
    script = timer_script(settings, PYTHON, environ, folder=system)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["sh"], input=script, text=True, check=True, env={"PATH": path}, timeout=60)
    return system, orders.read_text().splitlines()


@needs("systemd-analyze")
def test_the_units_are_enabled_and_systemd_understands_them(installed):
    system, orders = installed
    assert orders == [
        "stop perfci-tick-rack.timer",
        "daemon-reload",
        "enable --now perfci-tick-rack.timer",
    ]
    service = system / "perfci-tick-rack.service"
    service.write_text(service.read_text().replace(PYTHON, "/bin/true"))
    units = sorted(system.iterdir())
    assert [unit.name for unit in units] == ["perfci-tick-rack.service", "perfci-tick-rack.timer"]
    verify = ["systemd-analyze", "verify", "--man=no", *units]
    done = subprocess.run(verify, capture_output=True, text=True, timeout=60, check=False)
    assert [line for line in done.stderr.splitlines() if str(system) in line] == []


def test_what_a_tick_started_outlives_it_and_the_vault_can_be_opened(installed, settings):
    system, _ = installed
    lines = (system / "perfci-tick-rack.service").read_text().splitlines()
    assert "KillMode=process" in lines
    assert f'ExecStart="{PYTHON}" -m perfci tick' in lines
    vault = os.path.expanduser("~/.vault")  # noqa: PTH111 - as Ansible reads it
    assert f'Environment="ANSIBLE_VAULT_PASSWORD_FILE={os.path.realpath(vault)}"' in lines
    assert not [line for line in lines if "s3cret" in line]
    assert units_of(settings.state_dir, system) == [
        system / "perfci-tick-rack.service",
        system / "perfci-tick-rack.timer",
    ], "`perfci clean` finds them"


def test_a_percent_sign_does_not_end_the_line_of_cron(settings):
    line = cron_line(settings, "/usr/bin/python3", {})
    assert line.startswith("* * * * * cd ")
    assert "50\\% of it" in line
    assert line.endswith(" PERFCI_LAB=rack /usr/bin/python3 -m perfci tick\n")
