"""Ending what runs in a state folder, and removing what can be made again, or all of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from perfci.runs.state import run_folder
from perfci.runs.state.clean import CONTROLLER_SERVICES, NotAStateFolder, RunsStay, clean
from perfci.runs.state.state_folder import StateFolder

PRECIOUS = ("archive/r0/run.json", "lab.db", "lab.db-wal", "results.db", "mail/new/1", "runs/r1/progress.json")
PRECIOUS_OF_OLD = ("alerts.json", "outbox/1.json", "confirmations/r0.json", "owed/r0", "calibration/a-b.json")
MADE_AGAIN = ("cache/uv/x", "venvs/nova/x", "logs/nova-api.log", "site/index.html", "clouds.yaml", "secrets/x")


@pytest.fixture
def state(tmp_path):
    """A state folder with everything in it."""
    root = tmp_path / "state"
    for name in (*PRECIOUS, *PRECIOUS_OF_OLD, *MADE_AGAIN):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")
    return StateFolder(root)


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_what_is_known_of_runs_stays(state, tmp_path):
    cleaned = clean(state, tmp_path)
    assert files(state.root) == {*PRECIOUS, *PRECIOUS_OF_OLD}
    assert {path.name for path in cleaned.kept} == {path.name for path in state.root.iterdir()}
    assert clean(state, tmp_path).kept == cleaned.kept


def test_only_a_purge_removes_all(state, tmp_path):
    assert clean(state, tmp_path, purge=True).kept == []
    assert not state.root.exists()


def test_a_link_is_removed_and_not_what_it_leads_to(state, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    (state.root / "images").symlink_to(elsewhere)
    clean(state, tmp_path)
    assert not (state.root / "images").exists()
    assert (elsewhere / "file").exists()


def test_a_folder_without_anything_known_goes_with_empty_archives(tmp_path):
    state = StateFolder(tmp_path / "state")
    state.archive.mkdir(parents=True)
    marks = {"PERFCI_STATE_DIR": str(state.root), "PERFCI_SERVICE": "nova-api", "PERFCI_RUN": "r1"}
    child = subprocess.Popen(["sleep", "60"], env={**os.environ, **marks})
    assert clean(state, tmp_path).ended == ["nova-api"]
    child.wait(5)
    assert not state.root.exists()


def test_nothing_is_fine(tmp_path):
    assert clean(StateFolder(tmp_path / "state"), tmp_path).ended == []


def test_a_folder_that_is_not_ours_is_refused(tmp_path):
    (tmp_path / "Documents").mkdir()
    with pytest.raises(NotAStateFolder):
        clean(StateFolder(tmp_path), tmp_path, purge=True)
    assert (tmp_path / "Documents").exists()


def test_a_living_run_is_stopped_first(tmp_path):
    state = tmp_path / "state"
    code = (
        "import time, signal, sys; from pathlib import Path; from perfci.runs.state import run_folder as work;"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0));"
        f"work.create(Path({str(state / 'runs')!r}), 'r1'); print('up', flush=True); time.sleep(60)"
    )
    run = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert run.stdout is not None
    run.stdout.readline()
    run.stdout.close()
    assert clean(StateFolder(state), tmp_path).ended == ["r1"]
    run.wait(5)


def start_json(folder, **changed):
    written = json.loads((folder.path / run_folder.START).read_text())
    (folder.path / run_folder.START).write_text(json.dumps({**written, "owner": {**written["owner"], **changed}}))


@pytest.mark.parametrize("purge", [False, True])
def test_a_run_of_another_host_is_in_the_way_and_no_process_of_this_one_is_ended(tmp_path, purge):
    state, stranger = StateFolder(tmp_path / "state"), subprocess.Popen(["sleep", "60"])
    try:
        folder = run_folder.create(state.runs, "r1")
        start_json(folder, host="another-controller", pid=stranger.pid)
        with pytest.raises(RunsStay, match="r1"):
            clean(state, tmp_path, purge=purge)
        assert stranger.poll() is None
        assert folder.path.is_dir()
    finally:
        stranger.kill()
        stranger.wait()


def test_a_living_run_that_does_not_say_whose_it_is_is_in_the_way(tmp_path):
    folder = run_folder.create(tmp_path / "state" / "runs", "r1")
    (folder.path / run_folder.START).write_text("{")
    with pytest.raises(RunsStay, match="r1"):
        clean(StateFolder(tmp_path / "state"), tmp_path)
    assert folder.path.is_dir()


@pytest.mark.parametrize("folder", CONTROLLER_SERVICES)
def test_what_the_controller_runs_for_its_nodes_is_ended(state, tmp_path, folder):
    marks = {"PERFCI_STATE_DIR": str(state.root / folder), "PERFCI_SERVICE": "dhcp"}
    child = subprocess.Popen(["sleep", "60"], env={**os.environ, **marks})
    assert clean(state, tmp_path).ended == ["dhcp"]
    child.wait(5)
