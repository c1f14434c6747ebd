"""Files are whole or not there; locks end with their process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from perfci.files import (
    LockedElsewhere,
    folder_is_held,
    hold_folder,
    locked,
    move,
    put_in_place,
    remove_folder,
    remove_scratch,
    shared,
    write_json,
    write_whole,
)


def test_a_file_is_replaced_whole(tmp_path) -> None:
    write_whole(tmp_path / "a", "old")
    write_json(tmp_path / "a", {"b": 1, "a": [None]})
    assert (tmp_path / "a").read_text() == '{\n "a": [\n  null\n ],\n "b": 1\n}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_where_writing_fails_the_old_file_stays_and_nothing_is_left(tmp_path, monkeypatch, call) -> None:
    write_whole(tmp_path / "a", "old")

    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    owner, name = {"write": (Path, "open"), "fsync": (os, "fsync"), "replace": (Path, "replace")}[call]
    with monkeypatch.context() as disk:
        disk.setattr(owner, name, full)
        with pytest.raises(OSError, match="No space"):
            write_whole(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_is_not_json_changes_nothing(tmp_path) -> None:
    write_json(tmp_path / "a", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "a", object())
    assert (tmp_path / "a").read_text() == "1\n"


def test_half_written_files_are_removed_and_others_are_not(tmp_path) -> None:
    for name in (".run.json.4711", ".hidden", "run.json.4711"):
        (tmp_path / name).touch()
    remove_scratch(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "run.json.4711"]


def test_a_folder_is_removed_name_first(tmp_path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / ".gone-a").mkdir()
    remove_folder(tmp_path / "a")
    remove_folder(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_held_by_one(tmp_path) -> None:
    lock = tmp_path / "new" / "lock"
    with locked(lock), pytest.raises(LockedElsewhere), locked(lock, wait=False):
        pass
    with locked(lock, wait=False):
        pass


def test_a_shared_lock_is_alone_with_the_last_one(tmp_path) -> None:
    with shared(tmp_path / "lock") as first, shared(tmp_path / "lock"):
        assert not first.alone()
    with shared(tmp_path / "lock") as last:
        assert last.alone()


def test_a_held_folder_is_held_through_a_rename_until_its_process_dies(tmp_path) -> None:
    (tmp_path / "a").mkdir()
    code = (
        "import time; from pathlib import Path; from perfci.files import hold_folder;"
        f"assert hold_folder(Path({str(tmp_path / 'a')!r})); print('up', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        (tmp_path / "a").rename(tmp_path / "b")
        assert folder_is_held(tmp_path / "b")
        assert hold_folder(tmp_path / "b") is None
        holder.send_signal(signal.SIGKILL)
    assert not folder_is_held(tmp_path / "b")
    assert not folder_is_held(tmp_path / "missing")


def test_what_something_else_wrote_gets_its_name_whole(tmp_path) -> None:
    scratch, file = tmp_path / ".backup.new", tmp_path / "backup"
    scratch.write_text("new")
    file.write_text("old")
    put_in_place(scratch, file)
    assert file.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["backup"]


def test_a_folder_is_moved_onto_none_that_has_something_in_it(tmp_path) -> None:
    (tmp_path / "old").mkdir()
    assert move(tmp_path / "old", tmp_path / "new") == tmp_path / "new"
    (tmp_path / "new" / "kept").touch()
    (tmp_path / "other").mkdir()
    with pytest.raises(OSError, match="not empty"):
        move(tmp_path / "other", tmp_path / "new")
    assert (tmp_path / "new" / "kept").exists()


def test_a_private_file_is_for_nobody_else_whatever_was_there(tmp_path):
    path = tmp_path / "openrc"
    path.write_text("old")
    path.chmod(0o644)
    left = path.with_name(f".openrc.{os.getpid()}")  # of a process that was killed
    left.write_text("half")
    left.chmod(0o644)
    write_whole(path, "new", private=True)
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
