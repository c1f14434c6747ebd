"""git_mirror: real repositories are copied, fetched anew, and used as they are while their source is away."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import time
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "plugins/modules/git_mirror.py"
SPEC = importlib.util.spec_from_file_location("git_mirror", FILE)
git_mirror = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(git_mirror)
SECONDS = 60


def git(folder, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=master"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(folder, text):
    (folder / "file").write_text(text)
    git(folder, "add", "file")
    git(folder, "commit", "-qm", text)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    git(folder, "init", "-q")
    commit(folder, "one")
    return folder


def provide(tmp_path, source, ref="master", name="openstack/nova"):
    return git_mirror.provide(tmp_path / "mirror", {"name": name, "url": str(source), "ref": ref}, SECONDS)


def test_a_copy_is_made_and_fetched_anew(tmp_path, source):
    first = provide(tmp_path, source)
    assert first["commit"] == git(source, "rev-parse", "HEAD")
    assert (first["problem"], first["age_hours"]) == ("", 0.0)
    second = commit(source, "two")
    assert provide(tmp_path, source)["commit"] == second


def test_a_source_that_is_away_leaves_the_copy_and_its_age(tmp_path, source):
    first = provide(tmp_path, source)
    note = Path(first["path"]) / git_mirror.NOTE
    note.write_text(json.dumps({**json.loads(note.read_text()), "fetched": time.time() - 26 * 3600}))
    source.rename(tmp_path / "away")
    found = provide(tmp_path, source)
    assert (found["commit"], found["age_hours"]) == (first["commit"], 26.0)
    assert str(source) in found["problem"]


def test_without_a_copy_a_source_that_is_away_is_an_error(tmp_path):
    with pytest.raises(git_mirror.MirrorError, match="no copy of openstack/nova yet"):
        provide(tmp_path, tmp_path / "nowhere")
    assert not (tmp_path / "mirror" / "openstack" / "nova.git").exists()


def test_the_copy_of_another_address_is_no_help(tmp_path, source):
    provide(tmp_path, source)
    with pytest.raises(git_mirror.MirrorError, match="no copy of openstack/nova yet"):
        provide(tmp_path, tmp_path / "fork")
    note = tmp_path / "mirror" / "openstack" / "nova.git" / git_mirror.NOTE
    note.unlink()
    source.rename(tmp_path / "away")
    with pytest.raises(git_mirror.MirrorError, match="no copy of openstack/nova yet"):
        provide(tmp_path, source)


def test_a_copy_that_lacks_the_revision_is_no_help(tmp_path, source):
    provide(tmp_path, source)
    with pytest.raises(git_mirror.MirrorError, match=f"{source}: there is no branch, tag or commit 'later'"):
        provide(tmp_path, source, ref="later")
    source.rename(tmp_path / "away")
    with pytest.raises(git_mirror.MirrorError, match=str(source)):
        provide(tmp_path, source, ref="later")


def test_a_commit_that_nobody_has_is_told_like_a_branch(tmp_path, source):
    with pytest.raises(git_mirror.MirrorError, match="there is no branch, tag or commit 'aaaa"):
        provide(tmp_path, source, ref="a" * 40)


@pytest.mark.parametrize("ref", ["refs/changes/01/1/1", "v1", "commit"])
def test_changes_tags_and_commits_are_revisions_too(tmp_path, source, ref):
    wanted = git(source, "rev-parse", "HEAD")
    if ref == "commit":
        ref = wanted
    elif ref == "v1":
        git(source, "tag", "-a", "v1", "-m", "first")
    else:
        git(source, "update-ref", ref, wanted)
    assert provide(tmp_path, source, ref=ref)["commit"] == wanted


@pytest.mark.parametrize("ref", ["HEAD", "refs/changes/01/1/1"])
def test_what_moves_without_a_branch_is_fetched_anew(tmp_path, source, ref):
    for text in ("two", "three"):
        wanted = commit(source, text)
        if ref != "HEAD":
            git(source, "update-ref", ref, wanted)
        assert provide(tmp_path, source, ref=ref)["commit"] == wanted


def test_a_known_commit_asks_nobody(tmp_path, source):
    wanted = provide(tmp_path, source)["commit"]
    source.rename(tmp_path / "away")
    found = provide(tmp_path, source, ref=wanted)
    assert (found["commit"], found["problem"]) == (wanted, "")


def test_a_half_made_copy_is_made_anew(tmp_path, source):
    left = tmp_path / "mirror" / "openstack" / ".nova.git.unfinished"
    left.mkdir(parents=True)
    (left / "HEAD").write_text("garbage")
    assert provide(tmp_path, source)["commit"]
    assert not left.exists()


def test_no_password_of_an_address_is_shown():
    assert git_mirror.without_credentials("https://me:pw@host/x") == "https://host/x"
    assert git_mirror.without_credentials("/srv/git/nova") == "/srv/git/nova"
    assert "pw" not in git_mirror.without_credentials_in("fatal: unable to access 'https://me:pw@host/x': no")
