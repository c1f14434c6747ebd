"""A skipped test fails where everything was installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

INNER = """
import pytest
def test_tool(): pytest.skip("no such tool")
@pytest.mark.devstack
def test_more(): pytest.skip("no git base")
@pytest.mark.xfail
def test_known(): assert False
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user may leave out what needs root")
@pytest.mark.parametrize(("complete", "code"), [("1", 1), ("", 0)])
def test_a_skip_is_a_failure_where_everything_is_installed(tmp_path, complete, code):
    shutil.copy(Path(__file__).parent / "conftest.py", tmp_path)
    (tmp_path / "test_inner.py").write_text(INNER)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = devstack: more\n")
    said = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path],
        env={**os.environ, "PERFCI_TESTS_COMPLETE": complete},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert said.returncode == code, said.stdout
    assert ("1 failed, 1 skipped, 1 xfailed" if complete else "2 skipped, 1 xfailed") in said.stdout
    assert ("has run here: Skipped: no such tool" in said.stdout) == bool(complete)
