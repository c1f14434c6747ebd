"""`perfci clean` and `make clean`: nothing is removed that nobody agreed to."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import archives
import pytest
from programs import needs
from typer.testing import CliRunner

from perfci.cli.main import app
from perfci.runs.state.state_folder import StateFolder

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("PERFCI_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("PERFCI_CONFIG", raising=False)
    state = StateFolder(tmp_path / "state")
    archives.night(state.archive, 1)
    state.logs.mkdir()
    return state


def run(*words, typed=""):
    return CliRunner().invoke(app, ["clean", *words], input=typed)


def test_json_alone_removes_nothing(state):
    for words in (["--json"], ["--json", "--purge"]):
        done = run(*words)
        assert done.exit_code == 2
        assert json.loads(done.stdout)["error"] == "CleanUnconfirmed"
    assert state.logs.exists()


@pytest.mark.parametrize("typed", ["n\n", ""])
def test_who_does_not_agree_loses_nothing(state, typed):
    assert run("--purge", typed=typed).exit_code == 1
    assert state.logs.exists()
    assert list(state.archive.iterdir())


def test_the_archive_stays_and_it_is_said_where(state):
    done = run("--yes")
    assert done.exit_code == 0
    assert done.stdout == f"Kept in {state.root}: archive.\nRemove that, too: perfci clean --purge\n"
    assert list(state.archive.iterdir())
    assert not state.logs.exists()


def test_a_purge_that_is_agreed_to_removes_all(state):
    done = run("--purge", typed="y\n")
    assert "with 1 archived run?" in done.stdout
    assert not state.root.exists()


@needs("make")
@pytest.mark.parametrize(("words", "stays"), [([], True), (["PURGE=1"], False), (["PURGE=0"], True)])
def test_make_clean_keeps_the_archive(state, tmp_path, words, stays):
    project = tmp_path / "project"
    project.mkdir()
    shutil.copy(REPOSITORY / "Makefile", project)
    shutil.copy(REPOSITORY / "constraints.txt", project)
    (project / ".venv").mkdir()
    subprocess.run(["make", "-C", project, "clean", *words], check=True, capture_output=True)
    assert not (project / ".venv").exists()
    assert state.archive.exists() is stays
