"""What is left out is counted, and fails where everything was installed; so does a program that no list has."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

INNER = """
import os, pathlib, subprocess
import programs, pytest
programs.PACKAGES["none"] = "a-package"
programs._SYSTEM.add(os.getcwd())
os.geteuid = lambda: {user}
def test_tool(): pytest.skip("no such tool")
@programs.needs("none")
def test_program(): assert False, "its program is missing"
@programs.needs_root
@programs.needs("sh")
def test_root(): pass
@pytest.mark.devstack
def test_more(): pytest.skip("no git base")
@pytest.mark.xfail
def test_known(): assert False
def test_unknown_program():
    pathlib.Path("tool").write_text("#!/bin/sh")
    pathlib.Path("tool").chmod(0o755)
    subprocess.run([os.path.abspath("tool")])
"""
LISTED = "not installed: none (apt-get install a-package)"


def run(folder: Path, user: int, complete: str) -> str:
    for name in ("conftest.py", "postgresql_server.py", "programs.py"):
        shutil.copy(Path(__file__).parent / name, folder)
    (folder / "test_inner.py").write_text(INNER.format(user=user))
    marks = "devstack\n  needs(program)\n  needs_root"
    (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = .\nmarkers =\n  {marks}\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder],
        env={**os.environ, "PERFCI_TESTS_COMPLETE": complete, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 1, done.stdout
    assert "tool is started, and tests/programs.py does not say which package brings it" in done.stdout
    return done.stdout


def test_what_is_missing_is_left_out_and_counted(tmp_path):
    said = run(tmp_path, 0, "")
    assert f"3 tests were left out: 1 no such tool, 1 {LISTED}, 1 no git base" in said
    assert "1 failed, 1 passed, 3 skipped, 1 xfailed" in said


def test_nothing_is_left_out_where_everything_is_installed(tmp_path):
    said = run(tmp_path, 0, "1")
    assert "1 test was left out: 1 no git base" in said
    assert "2 failed, 1 passed, 1 skipped, 1 xfailed, 1 error" in said
    assert f"{LISTED}, though `perfci setup --tests` has run here" in said
    assert "has run here: Skipped: no such tool" in said


@pytest.mark.parametrize(
    ("complete", "counts"),
    [("", "1 failed, 4 skipped, 1 xfailed"), ("1", "1 failed, 3 skipped, 1 xfailed, 1 error")],
)
def test_an_ordinary_user_leaves_out_what_needs_root_and_no_program(tmp_path, complete, counts):
    said = run(tmp_path, 1000, complete)
    assert counts in said
    assert "1 needs root" in said
    assert (f"1 {LISTED}" in said) == (not complete)


def test_files_that_may_take_longest_begin(tmp_path):
    """Where the Makefile shares files among processes; inside a file the order stays."""
    for name in ("conftest.py", "postgresql_server.py", "programs.py"):
        shutil.copy(Path(__file__).parent / name, tmp_path)
    mark = "import pytest\n@pytest.mark.timeout({})\ndef test_long(): pass\ndef test_short(): pass\n"
    (tmp_path / "test_many.py").write_text("".join(f"def test_{n}(): pass\n" for n in range(5)))
    (tmp_path / "test_middle.py").write_text(mark.format(300))
    (tmp_path / "test_long.py").write_text("def test_first(): pass\n" + mark.format(900))
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\ntimeout = 120\n")
    (shared,) = re.findall(
        r"^SHARED_OUT := (.*)", (Path(__file__).parents[1] / "Makefile").read_text(), re.MULTILINE
    )
    options = ["--numprocesses", "1", *shared.split()]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *options, tmp_path],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    begun = re.findall(r"PASSED (\S+)", done.stdout)
    assert begun[:5] == [
        *("test_long.py::test_first", "test_long.py::test_long", "test_long.py::test_short"),
        *("test_middle.py::test_long", "test_middle.py::test_short"),
    ]
    assert len(begun) == 10
