"""`perfci pins`: what is pinned, what ran, what moved."""

from __future__ import annotations

import json

import archives
import pytest
from typer.testing import CliRunner

from perfci.cli.pins import app
from perfci.runs.state.state_folder import StateFolder


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PERFCI_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("PERFCI_CONFIG", raising=False)
    archive = StateFolder(tmp_path).archive
    folders = [archives.night(archive, number) for number in (1, 2)]
    for folder, version in zip(folders, ("1.0", "2.0"), strict=True):
        document = json.loads((folder / "run.json").read_text())
        document["versions"] = {"alembic": version}
        (folder / "run.json").write_text(json.dumps(document))
    return [folder.name for folder in folders]


def run(*arguments, code=0):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code, result.output
    return result.stdout


def test_the_pins_of_the_project_are_shown(runs):
    del runs
    assert "nova\t" in run("show")
    assert json.loads(run("show", "--json"))["pins"]["nova"]


def test_what_a_run_deployed_is_shown(runs):
    assert json.loads(run("show", runs[1], "--json")) == {"run": runs[1], "pins": {"alembic": "2.0"}}


def test_what_moved_is_a_table_or_json(runs):
    assert "package\talembic\t1.0\t2.0" in run("diff", *runs)
    found = json.loads(run("diff", *runs, "--json"))
    assert (found["before"], found["after"]) == tuple(runs)
    assert {"what": "package", "name": "alembic", "before": "1.0", "after": "2.0"} in found["moved"]
    assert json.loads(run("diff", runs[0], runs[0], "--json"))["moved"] == []


def test_a_pin_that_is_not_there_is_an_error_in_both_forms(runs):
    del runs
    found = json.loads(run("bump", "no-such-package", "1.0", "--no-compare", "--json", code=2))
    assert found["error"] == "PinUnknown"
