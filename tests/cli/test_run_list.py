"""`perfci run list` and `show`: nights, and the re-runs that confirm them."""

from __future__ import annotations

import json

import archives
import pytest
from typer.testing import CliRunner

from perfci.analysis.confirm import Decision
from perfci.analysis.types import Basis, Confirmation
from perfci.cli.run import app
from perfci.results.archive import read_archive
from perfci.runs.answers import Answer, write_answers
from perfci.runs.folders import StateFolder


@pytest.fixture
def night(tmp_path, monkeypatch):
    """A night with one re-run, and what that has shown."""
    monkeypatch.setenv("PERFCI_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("PERFCI_CONFIG", raising=False)
    state = StateFolder(tmp_path)
    folder = archives.night(state.archive, 1)
    again = f"{folder.name[:16]}-nightly-confirm-0001"
    archives.night(state.reruns, 1, run_id=again, job="nightly-confirm", confirms=folder.name)
    key = read_archive(folder).measurements[0].key
    shown = Confirmation(Decision.SAME, Basis.RERUNS, "re-runs refuted it", folder.name, folder.name)
    write_answers(state.confirmations, folder.name, [Answer(key, shown)])
    return folder.name, again


def run(*arguments):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_re_runs_stand_beside_the_nights_and_are_marked(night):
    name, again = night
    rows = [line.split("\t") for line in run("list").splitlines()]
    place = rows[0].index("re-run for")
    assert {row[0]: row[place] if len(row) > place else "" for row in rows[1:]} == {name: "", again: name}
    assert [one["run_id"] for one in json.loads(run("list", "--job", "nightly", "--json"))] == [name]


def test_a_night_shows_what_its_re_runs_have_shown(night):
    name, again = night
    assert "confirm      same: " in run("show", "last")
    assert "re-runs refuted it" in run("show", name)
    found = json.loads(run("show", name, "--json"))["confirmations"]
    assert [one["confirmation"]["decision"] for one in found] == ["same"]
    assert f"re-run for   {name}" in run("show", again)
