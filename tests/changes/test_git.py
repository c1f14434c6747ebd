"""Git servers that hang, vanish or lie, and repositories that are none."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from git_repositories import Landscape, git

from perfci.changes.clones import Clones, copy
from perfci.changes.errors import GitFailed, GitTooSlow, RepositoryMissing, RevisionUnknown
from perfci.changes.git import Repository, run_git


@pytest.fixture
def land(tmp_path):
    found = Landscape(tmp_path / "base")
    found.project("nova")
    return found


@pytest.fixture
def silent_server():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def commands():
    return [_command(folder) for folder in Path("/proc").iterdir() if folder.name.isdigit()]


@pytest.mark.parametrize("scheme", ["git", "http"])
def test_a_server_that_hangs_costs_its_time_and_leaves_nothing(silent_server, tmp_path, scheme):
    began = time.monotonic()
    with pytest.raises(GitTooSlow, match="longer than 1 s"):
        copy(f"{scheme}://127.0.0.1:{silent_server}", "nova", tmp_path / "copies", seconds=1)
    assert time.monotonic() - began < 10
    assert list((tmp_path / "copies" / "openstack").iterdir()) == []
    assert not [one for one in commands() if f"127.0.0.1:{silent_server}" in one]


def _command(folder):
    try:
        return (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


def test_a_copy_answers_after_its_server_has_gone(land, tmp_path, silent_server):
    copies = tmp_path / "copies"
    copied = copy(f"file://{land.base}", "nova", copies)
    head = land.repos["nova"].head
    assert copied.commit("master") == head
    git(copied.folder, "remote", "set-url", "origin", f"git://127.0.0.1:{silent_server}/nova")
    with pytest.raises(GitTooSlow):
        copy("file:///nowhere", "nova", copies, seconds=1)
    assert Clones(copies).get("nova").commit("master") == head


def test_a_copy_follows_a_rewritten_branch(land, tmp_path):
    nova, copies = land.repos["nova"], tmp_path / "copies"
    kept = nova.head
    lost = land.change("nova", {"a.py": "1\n"}, "Lost")
    copied = copy(f"file://{land.base}", "nova", copies)
    assert copied.commit("master") == lost
    nova.head = kept
    found = land.change("nova", {"a.py": "2\n"}, "Found")
    assert copy(f"file://{land.base}", "nova", copies).commit("master") == found


def test_a_server_without_the_repository(tmp_path):
    with pytest.raises(GitFailed):
        copy(f"file://{tmp_path}/nothing", "nova", tmp_path / "copies")
    assert list((tmp_path / "copies" / "openstack").iterdir()) == []


@pytest.mark.parametrize("name", ["../nova", "--upload-pack=x", "", "a/b", "a\nb"])
def test_no_name_leads_out_of_the_base(land, tmp_path, name):
    with pytest.raises(RepositoryMissing):
        Clones(land.base / "openstack").get(name)
    with pytest.raises(RepositoryMissing):
        copy(f"file://{land.base}", name, tmp_path / "copies")


def test_a_folder_that_is_no_repository(tmp_path):
    (tmp_path / "nova").mkdir()
    assert Clones(tmp_path).find("nova") is None


@pytest.mark.parametrize(
    "revision", ["", "nothing", "-h", "--all", "0" * 40, "a\0b", "master~1000", "x" * 5000]
)
def test_unknown_revisions(land, revision):
    with pytest.raises(RevisionUnknown):
        Clones(land.base).get("nova").commit(revision)


def test_a_damaged_repository_is_no_unknown_revision(land):
    nova = land.repos["nova"]
    (nova.folder / "HEAD").write_text("garbage")
    with pytest.raises(GitFailed):
        Repository("nova", nova.folder).commit("master")


def test_the_environment_of_the_caller_does_not_reach_git(land, monkeypatch, tmp_path):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert run_git(land.repos["nova"].folder, "rev-parse", "master").strip() == land.repos["nova"].head
