"""`perfci analyse --all`: nights that were never judged, each with its verdict, and one exit code for them all."""

from __future__ import annotations

import json
import re

import archives
import pytest
from typer.testing import CliRunner

from perfci import config
from perfci.cli.main import app
from perfci.runs.verdicts.lab_services import LabServices

NEW = "bbbbbbbbbbbb"


@pytest.fixture
def archive(tmp_path, monkeypatch):
    monkeypatch.setenv("PERFCI_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("PERFCI_CONFIG", raising=False)
    return LabServices(config.load()).state.archive


def analyse(*words):
    return CliRunner().invoke(app, ["analyse", *words])


def test_all_says_which_nights_are_slower_and_exits_as_one_of_them_would(archive):
    calm = [archives.night(archive, number).name for number in range(10)]
    done = analyse("--all")
    assert done.exit_code == 0, done.output
    rows = [line.split("\t") for line in done.stdout.splitlines() if "\t" in line]
    assert [row[0] for row in rows] == ["run", *calm]
    slow = [archives.night(archive, number, factor=1.4, code=NEW).name for number in (10, 11)]
    done = analyse("--all", "--json")
    judged = json.loads(done.stdout)["judged"]
    assert [one["run_id"] for one in judged] == slow
    assert "slower" in judged[-1]["verdict"]
    assert done.exit_code == 1
    assert analyse(slow[-1]).exit_code == 1, "one night at a time gives the same"


def test_where_no_night_is_left_to_judge_it_says_so_and_is_content(archive):
    archives.night(archive, 0)
    analyse("--all")
    done = analyse("--all")
    assert done.exit_code == 0
    assert "No night was left to judge." in done.stderr
    assert json.loads(analyse("--all", "--json").stdout) == {"judged": []}


def test_at_80_columns_changes_have_the_whole_id_of_their_run(archive, monkeypatch):
    for number in range(24):
        archives.night(
            archive, number, factor=1.4 if number >= 16 else 1.0, code=NEW if number >= 16 else "a" * 12
        )
    analyse("--all")
    first = sorted(one.name for one in archive.iterdir())[16]
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    shown = re.sub(r"\x1b\[[0-9;]*m", "", analyse("changepoints", "create_port").stdout).splitlines()
    rows = [line.split() for line in shown if "%" in line]
    assert [row[0] for row in rows] == [first]
    assert rows[0][1].startswith("+4")
    assert max(map(len, shown)) <= 80
    # Of one change the size is no label below the table.
    assert "change +4" not in " ".join(shown)
