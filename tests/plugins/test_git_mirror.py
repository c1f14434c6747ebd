"""git_mirror: real repositories are copied, fetched anew, and used as they are while their source is away."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest
from programs import needs

pytestmark = needs("git")
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


@pytest.fixture(scope="module")
def git_mirror(plugin):
    return plugin("git_mirror")


@pytest.fixture
def provide(tmp_path, git_mirror):
    def provided(source, ref="master", name="openstack/nova"):
        return git_mirror.provide(
            tmp_path / "mirror", {"name": name, "url": str(source), "ref": ref}, SECONDS
        )

    return provided


def test_a_copy_is_made_and_fetched_anew(source, provide):
    first = provide(source)
    assert first["commit"] == git(source, "rev-parse", "HEAD")
    assert (first["problem"], first["age_hours"]) == ("", 0.0)
    second = commit(source, "two")
    assert provide(source)["commit"] == second


def test_a_source_that_is_away_leaves_the_copy_and_its_age(tmp_path, source, provide, git_mirror):
    first = provide(source)
    note = Path(first["path"]) / git_mirror.NOTE
    note.write_text(json.dumps({**json.loads(note.read_text()), "fetched": time.time() - 26 * 3600}))
    source.rename(tmp_path / "away")
    found = provide(source)
    assert (found["commit"], found["age_hours"]) == (first["commit"], 26.0)
    assert str(source) in found["problem"]


def test_without_a_copy_a_source_that_is_away_is_an_error(tmp_path, provide, git_mirror):
    with pytest.raises(git_mirror.MirrorError, match="no copy of openstack/nova yet"):
        provide(tmp_path / "nowhere")
    assert not (tmp_path / "mirror" / "openstack" / "nova.git").exists()


def test_the_copy_of_another_address_is_no_help(tmp_path, source, provide, git_mirror):
    provide(source)
    with pytest.raises(git_mirror.MirrorError, match="no copy of openstack/nova yet"):
        provide(tmp_path / "fork")
    note = tmp_path / "mirror" / "openstack" / "nova.git" / git_mirror.NOTE
    note.unlink()
    source.rename(tmp_path / "away")
    with pytest.raises(git_mirror.MirrorError, match="no copy of openstack/nova yet"):
        provide(source)


def test_a_copy_that_lacks_the_revision_is_no_help(tmp_path, source, provide, git_mirror):
    provide(source)
    with pytest.raises(git_mirror.MirrorError, match=f"{source}: there is no branch, tag or commit 'later'"):
        provide(source, ref="later")
    source.rename(tmp_path / "away")
    with pytest.raises(git_mirror.MirrorError, match=str(source)):
        provide(source, ref="later")


def test_a_commit_that_nobody_has_is_told_like_a_branch(source, provide, git_mirror):
    with pytest.raises(git_mirror.MirrorError, match="there is no branch, tag or commit 'aaaa"):
        provide(source, ref="a" * 40)


@pytest.mark.parametrize("ref", ["refs/changes/01/1/1", "v1", "commit"])
def test_changes_tags_and_commits_are_revisions_too(source, ref, provide):
    wanted = git(source, "rev-parse", "HEAD")
    if ref == "commit":
        ref = wanted
    elif ref == "v1":
        git(source, "tag", "-a", "v1", "-m", "first")
    else:
        git(source, "update-ref", ref, wanted)
    assert provide(source, ref=ref)["commit"] == wanted


@pytest.mark.parametrize("ref", ["HEAD", "refs/changes/01/1/1"])
def test_what_moves_without_a_branch_is_fetched_anew(source, ref, provide):
    for text in ("two", "three"):
        wanted = commit(source, text)
        if ref != "HEAD":
            git(source, "update-ref", ref, wanted)
        assert provide(source, ref=ref)["commit"] == wanted


def test_a_known_commit_asks_nobody(tmp_path, source, provide):
    wanted = provide(source)["commit"]
    source.rename(tmp_path / "away")
    found = provide(source, ref=wanted)
    assert (found["commit"], found["problem"]) == (wanted, "")


def test_a_half_made_copy_is_made_anew(tmp_path, source, provide):
    left = tmp_path / "mirror" / "openstack" / ".nova.git.unfinished"
    left.mkdir(parents=True)
    (left / "HEAD").write_text("garbage")
    assert provide(source)["commit"]
    assert not left.exists()
