"""Laying out MariaDB's data changes nothing of the machine: a node that differs gets a new image."""

from __future__ import annotations

import getpass
import os

import pytest
import yaml
from programs import needs, path_of
from role_plays import LOCAL, play

pytestmark = pytest.mark.slow


@needs("mariadbd", "mariadb-install-db", "chown", "chmod")
def test_no_owner_and_no_rights_of_the_package_are_changed(tmp_path, monkeypatch):
    programs, orders = tmp_path / "bin", tmp_path / "orders"
    programs.mkdir()
    for name in ("chown", "chmod"):
        real = path_of(name)
        script = f'#!/bin/sh\necho "$@" >>{orders}\ncase "$*" in */usr/*) ;; *) exec {real} "$@";; esac\n'
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    state = tmp_path / "state"
    data = state / "mariadb" / "data"
    data.parent.mkdir(parents=True)
    (state / "etc" / "mariadb").mkdir(parents=True)
    config = f"[mysqld]\nuser={getpass.getuser()}\ndatadir={data}\n"
    (state / "etc" / "mariadb" / "my.cnf").write_text(config)
    hosts = {"cloud": {"hosts": {"node-1": LOCAL}, "vars": {"perfci_state_dir": str(state)}}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(hosts))
    role = {"ansible.builtin.import_role": {"name": "mariadb", "tasks_from": "install"}}
    done = play(tmp_path, tmp_path / "hosts.yml", gather_facts=False, tasks=[role])
    assert done.returncode == 0, done.stdout
    assert (data / "mysql").is_dir()
    changed = orders.read_text().splitlines()
    assert [line for line in changed if str(data) in line]
    assert [line for line in changed if "/usr/" in line] == []
