"""The script of CI that runs the set-up in a minimal Debian: what it takes over, and when it makes the root again."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from programs import needs, needs_root

SCRIPT = Path(__file__).parents[1] / ".ci" / "minimal_root.py"
README = Path(__file__).parents[1] / "README.md"


@pytest.fixture
def minimal_root():
    spec = importlib.util.spec_from_file_location("minimal_root", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_root_has_what_the_readme_demands_and_no_more(minimal_root):
    line = next(line for line in README.read_text().splitlines() if "apt-get install" in line)
    assert line.partition("install ")[2].partition("#")[0].split() == minimal_root.DEMANDED


def test_its_inputs_are_there(minimal_root):
    assert [name for name in minimal_root.INPUTS if not (minimal_root.PROJECT / name).exists()] == []


@pytest.mark.parametrize(
    "changed", ["constraints.txt", "roles/packages/defaults/main.yml", "playbooks/setup.yml"]
)
def test_it_is_made_again_when_an_input_changes(minimal_root, tmp_path, monkeypatch, changed):
    for name in minimal_root.INPUTS:
        source, target = minimal_root.PROJECT / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    before = minimal_root.key()
    monkeypatch.setattr(minimal_root, "PROJECT", tmp_path)
    assert minimal_root.key() == before
    (tmp_path / "README.md").touch()
    assert minimal_root.key() == before
    with (tmp_path / changed).open("a") as file:
        file.write("# more\n")
    assert minimal_root.key() != before


def test_paths_that_pips_configuration_names(minimal_root):
    settings = [
        "global.find-links='/opt/wheels'",
        "global.extra-index-url='file:///srv/simple https://index.example/simple'",
        ":env:.cert='/etc/ssl/certs/a.crt'",
    ]
    assert minimal_root.paths(settings) == ["/opt/wheels", "/srv/simple", "/etc/ssl/certs/a.crt"]


@pytest.mark.parametrize(
    ("name", "passed"),
    [
        ("https_proxy", True),
        ("NO_PROXY", True),
        ("PIP_INDEX_URL", True),
        ("UV_EXTRA_INDEX_URL", True),
        ("REQUESTS_CA_BUNDLE", True),
        ("SSL_CERT_FILE", True),
        ("PIP_CACHE_DIR", False),
        ("UV_CACHE_DIR", False),
        ("PERFCI_STATE_DIR", False),
        ("PERFCI_SMTP__PASSWORD", False),
        ("PATH", False),
    ],
)
def test_variables_that_are_passed_on(minimal_root, name, passed):
    assert bool(minimal_root.PASSED_ON.fullmatch(name)) == passed


def test_a_machine_that_may_not_says_so_and_does_not_fail(minimal_root, monkeypatch, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert minimal_root.main() == 0
    assert "*** NOT CHECKED" in capsys.readouterr().err
    assert "root" in minimal_root.unable()


@needs_root
@needs("unshare", "setpriv", "mount")
def test_nothing_stays_mounted_when_it_is_killed(minimal_root, tmp_path):
    (tmp_path / "place").mkdir()
    inner = f"mount -t tmpfs tmpfs {tmp_path}/place; touch {tmp_path}/place/up; echo mounted; exec sleep 600"
    command = minimal_root.isolated("--pid", "--fork", "--kill-child")
    starter = f"import subprocess, sys; subprocess.run({[*command, 'sh', '-c', inner]!r})"
    with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "mounted\n"
        process.kill()
        assert process.stdout.read() == "", "the last process that had it open has ended"
    assert list((tmp_path / "place").iterdir()) == []
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def test_the_checkout_is_copied_and_what_the_root_made_stays(minimal_root, tmp_path, monkeypatch):
    monkeypatch.setattr(minimal_root, "PROJECT", tmp_path / "project")
    monkeypatch.setattr(minimal_root, "ROOT", tmp_path / "root")
    for name in (
        "perfci/state/a.py",
        "perfci/__pycache__/a.pyc",
        ".venv/theirs",
        "state/theirs",
        ".git/config",
    ):
        (tmp_path / "project" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "project" / name).touch()
    copy = tmp_path / "root" / "perfci"
    for name in (".venv/own", "state/own", "perfci/removed.py"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).touch()
    minimal_root.copy_checkout()
    there = {str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()}
    assert there == {".venv/own", "state/own", "perfci/state/a.py"}
