"""The working folder: owner, notes, sealing; killed at any point it can be told what happened."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime

from perfci.files import hold_folder
from perfci.runs.state import run_folder as work


def test_ids_sort_by_time() -> None:
    early = work.new_run_id("nightly", datetime(2026, 11, 21, 4, 15, tzinfo=UTC))
    late = work.new_run_id("nightly", datetime(2026, 11, 22, 4, 15, tzinfo=UTC))
    assert early.startswith("20261121T041500Z-nightly-")
    assert early < late


def test_ids_of_one_second_sort_as_they_were_given_and_none_twice() -> None:
    now = datetime(2026, 11, 21, 4, 15, tzinfo=UTC)
    ids = [work.new_run_id("nightly", now) for _ in range(200)]
    assert ids == sorted(set(ids))


def test_my_own_run_is_alive(tmp_path) -> None:
    folder = work.create(tmp_path, "r1", job="nightly")
    assert folder.alive()
    assert folder.notes()["job"] == "nightly"
    assert [f.run_id for f in work.unfinished(tmp_path)] == ["r1"]


def test_a_run_whose_process_was_killed_is_not_alive(tmp_path) -> None:
    code = (
        "import os, signal; from pathlib import Path; from perfci.runs.state import run_folder as work;"
        f"work.create(Path({str(tmp_path)!r}), 'r1', stage='deploy'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    (folder,) = work.unfinished(tmp_path)
    assert not folder.alive()
    assert folder.notes()["stage"] == "deploy"


def test_a_living_run_whose_files_are_damaged_is_alive(tmp_path) -> None:
    folder = work.create(tmp_path, "r1", job="nightly")
    for name in (work.PROGRESS, work.START):
        (folder.path / name).write_text('{"owner": {"pid": ')
    assert folder.notes() == {}
    assert folder.alive(), "the lock on its folder says so"


def test_a_dead_run_whose_files_are_damaged_is_dead(tmp_path) -> None:
    code = (
        "import os; from pathlib import Path; from perfci.runs.state import run_folder as work;"
        f"f = work.create(Path({str(tmp_path)!r}), 'r1'); (f.path / work.START).write_text('{{'); os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    (folder,) = work.unfinished(tmp_path)
    assert not folder.alive()


def test_damaged_progress_costs_the_stage_and_not_the_identity(tmp_path) -> None:
    folder = work.create(tmp_path, "r1", job="nightly")
    folder.note(stage="deploy")
    assert (folder.notes()["job"], folder.notes()["stage"]) == ("nightly", "deploy")
    (folder.path / work.PROGRESS).write_text("{")
    folder.note(stages=[])
    assert folder.notes()["job"] == "nightly"


def test_what_a_kill_left_of_folders_being_made_or_removed_is_swept_away(tmp_path) -> None:
    for name in (".new-r1", ".new-r2", ".gone-r3"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    handle = hold_folder(tmp_path / ".new-r2")
    work.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [".new-r2"], "it is being made"
    os.close(handle)
    work.sweep(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_folder_that_was_only_half_made_is_not_a_run(tmp_path) -> None:
    (tmp_path / ".new-r9").mkdir()
    assert work.unfinished(tmp_path) == []


def test_sealing_moves_the_folder_and_lists_its_files(tmp_path) -> None:
    folder = work.create(tmp_path / "runs", "r1")
    (folder.path / "rally").mkdir()
    (folder.path / "rally" / "a.json").write_text("{}")
    target = work.seal(folder, tmp_path / "archive", {"run_id": "r1"}).folder
    assert target == tmp_path / "archive" / "r1"
    assert not folder.path.exists()
    manifest = json.loads((target / work.MANIFEST).read_text())["files"]
    assert manifest["rally/a.json"] == hashlib.sha256(b"{}").hexdigest()
    assert set(manifest) == {"rally/a.json", "run.json", "start.json"}
    assert {path.name for path in target.iterdir()} == {"rally", "run.json", "start.json", "manifest.json"}


def test_what_a_kill_left_half_written_is_not_archived(tmp_path) -> None:
    folder = work.create(tmp_path / "runs", "r1")
    (folder.path / ".progress.json.4711").write_text('{"sta')
    target = work.seal(folder, tmp_path / "archive", {"run_id": "r1"}).folder
    assert not (target / ".progress.json.4711").exists()


def test_sealing_twice_changes_nothing_in_the_archive(tmp_path) -> None:
    work.seal(work.create(tmp_path / "runs", "r1"), tmp_path / "archive", {"status": "finished"})
    again = work.create(tmp_path / "runs", "r1")
    target = work.seal(again, tmp_path / "archive", {"status": "failed"}).folder
    assert json.loads((target / work.RUN).read_text()) == {"status": "finished"}
    assert not again.path.exists()
