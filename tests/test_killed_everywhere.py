"""A night that is killed, or gets an error, at any write loses nothing: see kill_harness.

By default some points of each kind of night are tried; PERFCI_KILL_EVERY=1 tries all 6,400.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HARNESS = Path(__file__).parent / "kill_harness.py"
EVERY = os.environ.get("PERFCI_KILL_EVERY", "45")
MEMORY = Path("/dev/shm")  # noqa: S108 - for the folder that tempfile makes in it
ROOM = 4 * 2**30
"""Bytes that the state folders of all points have to have, at most."""
ALONE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
"""Nights look through all processes for what they started: here they find those of the harness alone."""


@pytest.fixture
def scratch(tmp_path):
    """A folder in memory, where there is room."""
    if not MEMORY.is_dir() or shutil.disk_usage(MEMORY).free < ROOM:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix="perfci-") as folder:
        yield Path(folder)


def alone():
    """What begins a command that has its processes to itself; only root may, and not in each container."""
    if (
        os.geteuid() == 0
        and not subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode
    ):
        return ALONE
    return ()


@pytest.mark.slow
@pytest.mark.timeout(3600 if EVERY == "1" else 900)
def test_whatever_happens_at_a_write_the_next_start_makes_it_good(scratch):
    done = subprocess.run(
        [*alone(), sys.executable, str(HARNESS), str(scratch), "--every", EVERY],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["found"] == {}
    assert len(summary["writes"]) == 7
    assert min(summary["writes"].values()) > 100, "the points are no longer seen"
    assert summary["tried"] > 100
