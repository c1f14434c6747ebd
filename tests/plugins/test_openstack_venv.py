import json
import os
import subprocess
from pathlib import Path

import pytest
from programs import beside_python, require

ROLE = Path(__file__).parents[2] / "roles" / "openstack_code"
PINNED = {"keystone": "1", "openstack-placement": "2", "glance": "3", "nova": "4", "neutron": "5"}
CONSTRAINTS = "nova==4\nneutron==5\nkeystone==1\nglance==3\nopenstack-placement==2\nsix==1.17.0\n"


@pytest.fixture
def code(plugin):
    return plugin("openstack_venv")


def key(code, sources, *, constraints=CONSTRAINTS, python="Python 3.11.2"):
    resolved = code.resolve(sources, code.pins(constraints), lambda _url, ref: ref * 40)
    return code.key_of(resolved, constraints, ["uwsgi"], python)


@pytest.fixture
def patch_file(tmp_path):
    path = tmp_path / "slow.patch"
    path.write_text("one")
    return path


def test_the_key_follows_everything_that_the_code_depends_on(code, patch_file):
    patched = {"neutron": {"patches": [str(patch_file)]}}
    keys = [
        key(code, {}),
        key(code, {}, python="Python 3.12.0"),
        key(code, {}, constraints=CONSTRAINTS.replace("1.17", "1.18")),
        key(code, {"nova": {"version": "4.1"}}),
        key(code, {"nova": {"git": "https://x/nova", "ref": "a"}}),
        key(code, {"nova": {"git": "https://x/nova", "ref": "b"}}),
        key(code, {"nova": {"git": "https://y/nova", "ref": "b"}}),
        key(code, patched),
    ]
    patch_file.write_text("two")
    keys.append(key(code, patched))
    assert len(set(keys)) == len(keys)


def test_the_key_does_not_follow_the_way_in_which_it_is_said(code):
    backwards = "".join(reversed(CONSTRAINTS.splitlines(keepends=True)))
    assert key(code, {}) == key(code, {"nova": {}, "neutron": {"version": "5"}}, constraints=backwards)


def test_a_patch_is_named_with_its_digest(code, patch_file):
    entry = code.resolve({"nova": {"patches": [str(patch_file)]}}, PINNED, None)["nova"]
    assert [(p["name"], p["digest"][:8]) for p in entry["patches"]] == [("slow.patch", "7692c3ad")]


@pytest.mark.parametrize(
    ("sources", "says"),
    [
        ({"cinder": {}}, "unknown service 'cinder'"),
        ({"nova": {"branch": "x"}}, "openstack_sources.nova: unknown field branch"),
        ({"nova": {"git": "u", "version": "1"}}, "either git or version"),
        ({"nova": {"ref": "main"}}, "ref needs git"),
        ({"nova": "34.0.0"}, "expected a dictionary"),
        ({"nova": {"patches": ["/none.patch"]}}, "No such file"),
    ],
)
def test_says_what_is_wrong_with_a_source(code, sources, says):
    with pytest.raises(code.CodeError, match=says):
        code.resolve(sources, PINNED, None)


def test_no_credentials_in_the_record(code):
    source = {"nova": {"git": "https://me:secret@host:8443/nova", "ref": "a"}}
    assert code.resolve(source, PINNED, lambda *_: "c" * 40)["nova"]["source"] == "https://host:8443/nova"


@pytest.fixture
def repository(tmp_path):
    """A git repository with a branch, a tag and an annotated tag."""
    require("git")
    path = tmp_path / "repository"

    def git(*arguments):
        identity = ["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=main"]
        command = ["git", "-C", str(path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    path.mkdir()
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "one")
    git("tag", "light")
    git("tag", "-a", "heavy", "-m", "annotated")
    git("commit", "-q", "--allow-empty", "-m", "two")
    return path, git


def test_what_a_ref_means(code, repository):
    path, git = repository
    first, second = git("rev-parse", "HEAD~1"), git("rev-parse", "HEAD")
    meanings = {ref: code.commit_of(str(path), ref) for ref in ("main", "HEAD", "light", "heavy", first)}
    assert meanings == {"main": second, "HEAD": second, "light": first, "heavy": first, first: first}


def test_a_ref_that_does_not_exist(code, repository):
    with pytest.raises(code.CodeError, match="no branch or tag 'nothing'"):
        code.commit_of(str(repository[0]), "nothing")


def test_a_repository_that_does_not_exist(code, tmp_path):
    with pytest.raises(code.CodeError, match="git ls-remote failed"):
        code.commit_of(str(tmp_path / "none"), "main")


def test_no_credentials_in_what_git_says(code):
    with pytest.raises(code.CodeError, match="git ls-remote failed") as caught:
        code.commit_of("https://me:secret@127.0.0.1:1/nova", "main")
    assert "127.0.0.1:1/nova" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_keeps_the_environments_used_last_and_no_half_made_one(code, tmp_path):
    for number, name in enumerate(("oldest", "older", "old", "new")):
        (tmp_path / name).mkdir()
        (tmp_path / name / code.COMPLETE).touch()
        os.utime(tmp_path / name / code.COMPLETE, (number, number))
    (tmp_path / "half").mkdir()
    assert code.prune(tmp_path, 3, tmp_path / "oldest") == ["half", "older"]


def test_which_environment_a_new_one_begins_as(code, tmp_path):
    def made(name, used, *, python="3.11.2", marks=(code.COMPLETE, code.LOCK)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pyvenv.cfg").write_text(f"home = /usr/bin\nversion_info = {python}\n")
        for mark in marks:
            (tmp_path / name / mark).touch()
            os.utime(tmp_path / name / mark, (used, used))

    assert code.template(tmp_path, "3.11.2") is None
    made("older", 1)
    made("newer", 2)
    made("other-python", 3, python="3.11.20")
    made("patched", 4, marks=(code.COMPLETE, code.LOCK, code.PATCHED))
    made("earlier-release", 5, marks=(code.COMPLETE,))
    made("half", 6, marks=(code.LOCK,))
    made("damaged", 7)
    (tmp_path / "damaged" / "pyvenv.cfg").unlink()
    assert code.template(tmp_path, "3.11.2") == tmp_path / "newer"


def test_the_pins_name_every_service(code):
    pinned = code.pins((ROLE / "files" / "constraints.txt").read_text())
    assert set(code.DISTRIBUTIONS.values()) <= set(pinned)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """uv's cache for the tests of this file; not that of this checkout, which one of them might damage."""
    return tmp_path_factory.mktemp("uv")


PATCH = """--- a/neutron/version.py
+++ b/neutron/version.py
@@ -1,1 +1,2 @@
+PATCHED = True
 {first}
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_real_environments_share_a_cache_that_patches_never_change(code, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("UV_CACHE_DIR", str(cache))
    common = {
        "folder": str(tmp_path / "venvs"),
        "constraints": str(ROLE / "files" / "constraints.txt"),
        "requirements": [],
        "changes": {"neutron": ["filter@12345678"]},
        "uv": beside_python("uv"),
        "python": "/usr/bin/python3",
        "keep": 4,
        "record": None,
    }
    plain = code.provide({**common, "sources": {}})
    version = next(Path(plain["venv"]).glob("lib/python3*/site-packages/neutron/version.py"))
    before = version.read_text()
    assert version.stat().st_nlink > 1
    (tmp_path / "mark.patch").write_text(PATCH.format(first=before.splitlines()[0]))
    patched = code.provide({**common, "sources": {"neutron": {"patches": [str(tmp_path / "mark.patch")]}}})
    changed = next(Path(patched["venv"]).glob("lib/python3*/site-packages/neutron/version.py"))
    assert "PATCHED = True" in changed.read_text()
    assert version.read_text() == before
    assert not any(
        b"PATCHED = True" in path.read_bytes()
        for path in cache.rglob("version.py")
        if path.parent.name == "neutron"
    )
    neutron = next(s for s in patched["services"] if s["service"] == "neutron")
    assert [change.partition("@")[0] for change in neutron["changes"]] == ["mark.patch", "filter"]
    assert not code.provide({**common, "sources": {}})["changed"]
    # Another one begins as a copy of the plain one: uv installs what is missing.
    larger = code.provide({**common, "sources": {}, "requirements": ["uwsgi"]})
    same = next(Path(larger["venv"]).glob("lib/python3*/site-packages/neutron/version.py"))
    assert same.samefile(version)
    site = version.parents[1]
    held = {path: path.read_bytes() for path in site.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    # One that lost its mark, as when it was killed half way, is made again. It begins as a copy of the larger one.
    (Path(plain["venv"]) / code.COMPLETE).unlink()
    version.unlink()
    assert code.provide({**common, "sources": {}})["changed"]
    now = {path: path.read_bytes() for path in site.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert [path for path in held.keys() | now.keys() if held.get(path) != now.get(path)] == []
    assert (Path(larger["venv"]) / "bin" / "uwsgi").exists()
    assert not (Path(plain["venv"]) / "bin" / "uwsgi").exists()
    for made in (plain, larger):
        assert (Path(made["venv"]) / code.COMPLETE).stat().st_nlink == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_environment_runs_elsewhere_and_its_key_is_recorded(code, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("UV_CACHE_DIR", str(cache))
    params = {
        "folder": str(tmp_path / "venvs"),
        "constraints": str(ROLE / "files" / "constraints.txt"),
        "requirements": [],
        "sources": {},
        "changes": {},
        "uv": beside_python("uv"),
        "python": "/usr/bin/python3",
        "keep": 4,
        "record": str(tmp_path / "runs" / "r1" / "code.json"),
    }
    made = code.provide(params)
    assert json.loads(Path(params["record"]).read_text())["venv"] == made["key"]
    elsewhere = tmp_path / "elsewhere"
    Path(made["venv"]).rename(elsewhere)
    done = subprocess.run(
        [elsewhere / "bin" / "nova-manage", "--version"], capture_output=True, text=True, check=False
    )
    assert str(tmp_path / "venvs") not in done.stderr
    assert done.returncode == 0, done.stderr
