"""Dumps of migrated databases, which clouds of one folder may make at the same time."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml
from ansible.plugins.filter.core import FilterModule
from jinja2.nativetypes import NativeEnvironment

VARS = yaml.safe_load((Path(__file__).parents[2] / "roles/mariadb/vars/main.yml").read_text())


def keep(made: Path, whole: Path) -> int:
    command = ["sh", "-c", VARS["mariadb_keep_dump"], "sh", str(made), str(whole)]
    return subprocess.run(command, capture_output=True, check=False).returncode


@pytest.fixture
def dumps(tmp_path):
    """Two dumps that are made, by clouds on different ports, of the same code."""
    for name in ("key.3306.unfinished", "key.4306.unfinished"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "nova.sql").write_text(name)
    return tmp_path


def test_the_first_dump_is_kept_and_nothing_is_left_of_the_second(dumps):
    assert keep(dumps / "key.3306.unfinished", dumps / "key") == 0
    assert keep(dumps / "key.4306.unfinished", dumps / "key") == 0
    assert [path.name for path in dumps.iterdir()] == ["key"]
    assert (dumps / "key" / "nova.sql").read_text() == "key.3306.unfinished"


def test_a_dump_that_can_not_be_kept_is_an_error(dumps):
    assert keep(dumps / "key.3306.unfinished", dumps / "none" / "key") != 0
    assert keep(dumps / "lost.unfinished", dumps / "key") != 0


@pytest.mark.parametrize("port", [3306, 4306])
def test_each_cloud_makes_its_dump_in_a_folder_of_its_own(port):
    known = {
        "mariadb_dumps": "/dumps", "mariadb_schema_key": "key", "mariadb_port": port, "mariadb_etc": "/etc",
        "mariadb_schema_log": "/log", "mariadb_keep_dump": "", "mariadb_databases": {"nova": ["nova_api"]},
    }  # fmt: skip
    (chain,) = VARS["mariadb_dumping"]
    environment = NativeEnvironment()
    environment.filters["flatten"] = FilterModule().filters()["flatten"]
    commands = environment.from_string(chain["commands"]).render(known)
    unfinished = f"/dumps/key.{port}.unfinished"
    assert commands[0] == ["rm", "-rf", unfinished]
    assert f"--result-file={unfinished}/nova_api.sql" in commands[2]
    assert commands[-1][-2:] == [unfinished, "/dumps/key"]
