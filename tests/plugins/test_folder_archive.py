"""A folder goes through an archive unchanged, or not at all."""

import hashlib
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest


@pytest.fixture
def folder_archive(plugin):
    return plugin("folder_archive")


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "venv"
    (made / "bin").mkdir(parents=True)
    (made / "bin" / "tool").write_text("#!/bin/sh\n")
    (made / "bin" / "tool").chmod(0o755)
    (made / "bin" / "python").symlink_to("/usr/bin/python3")
    (made / ".complete").touch()
    os.utime(made / "bin" / "tool", (1_700_000_000, 1_700_000_000))
    return made


def contents(folder):
    return {
        str(path.relative_to(folder)): (path.lstat().st_mode, path.lstat().st_mtime_ns // 10**9)
        for path in folder.rglob("*")
        if not path.name.startswith(".packed") and not path.is_dir()
    }


def test_what_comes_out_is_what_went_in(folder_archive, folder, tmp_path):
    archive, target = tmp_path / "a.tar.gz", tmp_path / "node" / "venvs" / "1f2e"
    assert folder_archive.pack(folder, archive, renew=False)
    folder_archive.unpack(target, archive)
    assert contents(target) == contents(folder)
    assert (target / "bin" / "python").readlink() == (folder / "bin" / "python").readlink()
    assert not archive.exists()
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_an_archive_in_the_folder_does_not_hold_itself(folder_archive, folder, tmp_path):
    archive = folder / ".packed.tar.gz"
    folder_archive.pack(folder, archive, renew=False)
    folder_archive.pack(folder, archive, renew=True)
    listed = subprocess.run(["tar", "-tzf", archive], capture_output=True, text=True, check=True).stdout
    assert ".packed" not in listed
    assert "./.complete" in listed.split()


def test_for_several_nodes_at_a_time_it_is_made_once(folder_archive, folder):
    for number in range(200):
        (folder / f"{number}").write_bytes(os.urandom(20_000))
    archive = folder / ".packed.tar.gz"
    with ThreadPoolExecutor() as nodes:
        made = list(nodes.map(lambda _: folder_archive.pack(folder, archive, renew=False), range(6)))
    assert sorted(made) == [False] * 5 + [True]


def test_an_archive_is_made_once_unless_it_shall_be_new(folder_archive, folder, tmp_path):
    archive = tmp_path / "a.tar.gz"
    assert folder_archive.pack(folder, archive, renew=False)
    before = archive.stat().st_ino
    assert not folder_archive.pack(folder, archive, renew=False)
    assert archive.stat().st_ino == before
    (folder / "more").write_text("more")
    assert folder_archive.pack(folder, archive, renew=True)
    folder_archive.unpack(tmp_path / "out", archive)
    assert (tmp_path / "out" / "more").exists()


def test_what_was_there_is_replaced(folder_archive, folder, tmp_path):
    archive, target = tmp_path / "a.tar.gz", tmp_path / "target"
    (target / "old").mkdir(parents=True)
    (tmp_path / ".target.unfinished" / "half").mkdir(parents=True)
    folder_archive.pack(folder, archive, renew=False)
    folder_archive.unpack(target, archive)
    assert contents(target) == contents(folder)
    assert not (target / "old").exists()
    assert not (tmp_path / ".target.unfinished").exists()


def test_half_an_archive_leaves_the_folder_as_it_was(folder_archive, folder, tmp_path):
    archive, target = tmp_path / "a.tar.gz", tmp_path / "target"
    (target / "old").mkdir(parents=True)
    (folder / "data").write_bytes(os.urandom(100_000))
    folder_archive.pack(folder, archive, renew=False)
    archive.write_bytes(archive.read_bytes()[:5000])
    with pytest.raises(subprocess.CalledProcessError):
        folder_archive.unpack(target, archive)
    assert [path.name for path in target.iterdir()] == ["old"]


def test_an_archive_is_offered_under_its_sum(folder_archive, folder, tmp_path):
    archive, offers = folder / ".packed.tar.gz", tmp_path / "offers"
    folder_archive.pack(folder, archive, renew=False)
    digest = folder_archive.offer(folder, archive, offers)
    assert digest == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert [one.name for one in offers.iterdir()] == [f"{digest}.tar.gz"]
    assert (offers / f"{digest}.tar.gz").stat().st_ino == archive.stat().st_ino, "it takes no room"
    assert folder_archive.offer(folder, archive, offers) == digest
    folder_archive.pack(folder, archive, renew=True)
    listed = subprocess.run(["tar", "-tzf", archive], capture_output=True, text=True, check=True).stdout
    assert ".packed" not in listed
    (folder / "more").write_text("more")
    folder_archive.pack(folder, archive, renew=True)
    assert folder_archive.offer(folder, archive, offers) not in ("", digest)


def test_on_another_file_system_it_is_a_copy(folder_archive, folder, tmp_path, monkeypatch):
    archive = tmp_path / "a.tar.gz"
    folder_archive.pack(folder, archive, renew=False)
    monkeypatch.setattr(
        Path, "hardlink_to", lambda *_: (_ for _ in ()).throw(OSError(18, "Invalid cross-device link"))
    )
    digest = folder_archive.offer(folder, archive, tmp_path / "offers")
    (offered,) = (tmp_path / "offers").iterdir()
    assert (offered.name, offered.read_bytes()) == (f"{digest}.tar.gz", archive.read_bytes())
    assert offered.stat().st_ino != archive.stat().st_ino


def test_an_offer_goes_a_day_after_its_archive(folder_archive, folder, tmp_path):
    archive, offers = tmp_path / "a.tar.gz", tmp_path / "offers"
    folder_archive.pack(folder, archive, renew=False)
    digest = folder_archive.offer(folder, archive, offers)
    (offered,) = offers.iterdir()
    long_ago = time.time() - folder_archive.UNUSED_SECONDS - 60
    os.utime(offered, (long_ago, long_ago))
    folder_archive.withdraw_unused(offers)
    assert offered.exists(), "its archive is there"
    archive.unlink()
    folder_archive.withdraw_unused(offers)
    assert not offered.exists()
    assert digest


@pytest.mark.parametrize("archive", ["a.tar.gz", "none/.packed.tar.gz"])
def test_a_folder_that_is_not_there_leaves_nothing(folder_archive, tmp_path, archive):
    with pytest.raises(NotADirectoryError):
        folder_archive.pack(tmp_path / "none", tmp_path / archive, renew=False)
    assert list(tmp_path.iterdir()) == []
