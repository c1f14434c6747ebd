"""Secrets that are made up once, whoever asks for them and however many at the same time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args

MODULE = Path(__file__).parents[2] / "plugins" / "modules" / "lab_secrets.py"


@pytest.fixture
def call(plugin, capsys, tmp_path):
    def called(*, check=False, **more):
        given = {"folder": str(tmp_path / "secrets"), "passwords": ["mariadb_nova"], **more}
        with patch_module_args({**given, "_ansible_check_mode": check}), pytest.raises(SystemExit):
            plugin("lab_secrets").main()
        return json.loads(capsys.readouterr().out)

    return called


def test_made_up_once_and_only_for_us(call, tmp_path):
    first, second = call(keys=["fernet"]), call(keys=["fernet"])
    assert (first["changed"], second["changed"]) == (True, False)
    assert first["secrets"] == second["secrets"]
    assert len(first["secrets"]["mariadb_nova"]) == 32
    assert len(first["secrets"]["fernet"]) == 44
    folder = tmp_path / "secrets"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {one.stat().st_mode & 0o777 for one in folder.iterdir()} == {0o600}
    assert all(one.read_text().strip() for one in folder.iterdir()), "nothing but secrets is in there"


def test_a_new_one_beside_those_that_there_are(call):
    first = call()["secrets"]
    more = call(passwords=["mariadb_nova", "mariadb_glance"])
    assert more["changed"]
    assert more["secrets"]["mariadb_nova"] == first["mariadb_nova"]


def test_an_empty_file_of_a_killed_deployment_is_filled(call, tmp_path):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "mariadb_nova").touch()
    made = call()
    assert made["changed"]
    assert (tmp_path / "secrets" / "mariadb_nova").read_text() == made["secrets"]["mariadb_nova"] + "\n"


def test_in_check_mode_nothing_is_kept(call, tmp_path):
    assert call(check=True)["changed"]
    assert not (tmp_path / "secrets").exists()
    assert call()["secrets"] == call(check=True)["secrets"]


def test_all_that_ask_at_the_same_time_get_the_same(tmp_path):
    arguments = {
        "folder": str(tmp_path / "secrets"),
        "passwords": [f"password-{number}" for number in range(9)],
    }
    given = json.dumps({"ANSIBLE_MODULE_ARGS": arguments})
    asking = [
        subprocess.Popen(
            [sys.executable, str(MODULE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "LANG": "C.UTF-8"},
        )
        for _ in range(6)
    ]
    for one in asking:
        one.stdin.write(given)
        one.stdin.close()
    said = [json.loads(one.stdout.read()) for one in asking]
    for one in asking:
        one.stdout.close()
        one.wait()
    first, *others = (one["secrets"] for one in said)
    assert len(first) == 9
    assert all(one == first for one in others)
